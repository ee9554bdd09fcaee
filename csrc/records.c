// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What /proc/vmcore_pfn_lists answers, as bits cleared in a window of the bitmap. Nothing of it is
 * taken on trust: a record that is not what the format demands, where it demands it, ends it.
 */
#include "window.h"
#include "words.h"

/* Pages from first_pfn on go. Runs come before totals, ascend, and begin among the pages asked about. */
static int take_run(struct pydump_answer *answer, struct pydump_window *window, uint64_t first_pfn,
		    uint64_t n, enum pydump_kind kind)
{
	if (answer->n_totals || first_pfn < answer->next_pfn || first_pfn < window->first_pfn ||
	    first_pfn >= window->end_pfn || first_pfn >= answer->end_pfn)
		return 0;
	if (!n || n > answer->end_pfn - first_pfn)
		return 0;
	leave_out(window, first_pfn, first_pfn + n, kind);
	if (first_pfn + n > window->resume_pfn)
		window->resume_pfn = first_pfn + n;
	answer->pages[kind] += n;
	answer->next_pfn = first_pfn + 1;
	return 1;
}

/* The totals come once each, in the order of their kinds, and are those of the runs before. */
static int take_total(struct pydump_answer *answer, struct pydump_window *window, uint64_t total,
		      uint64_t n_kind)
{
	const uint64_t kind = answer->n_totals;

	if (kind < PYDUMP_KINDS) {
		if (n_kind != (PYDUMP_TOTAL | kind) || total != answer->pages[kind])
			return 0;
	} else {
		if (kind > PYDUMP_KINDS || n_kind != PYDUMP_BAD_ORDERS || total > answer->end_pfn)
			return 0;
		window->bad_orders += total;
	}
	answer->n_totals++;
	return 1;
}

int64_t pydump_take_records(const uint8_t *records, uint64_t n, struct pydump_answer *answer,
			    struct pydump_window *window)
{
	uint64_t i;

	for (i = 0; i < n; i++, records += sizeof(struct pydump_record)) {
		const uint64_t first_pfn = word_at(records, 0), n_kind = word_at(records, 8);
		const uint64_t kind = n_kind & 0xff;

		if (kind < PYDUMP_KINDS) {
			if (!take_run(answer, window, first_pfn, n_kind >> 8, (enum pydump_kind)kind))
				break;
		} else if (!take_total(answer, window, first_pfn, n_kind)) {
			break;
		}
	}
	return (int64_t)i;
}
