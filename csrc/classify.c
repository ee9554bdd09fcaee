// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a struct page says: which pages of a block go, as bits cleared in a window of the bitmap.
 *
 * The order of the tests is the contract (docs/filter-rules.md); the words they look at come from the
 * plan. Struct pages are read as little-endian words, wherever this runs.
 */
#include <string.h>

#include "pagescan.h"

#define ANON_BIT 1		/* PAGE_MAPPING_ANON: bit 0 of page.mapping */
/* Struct pages are looked at in groups of as many; the last of a group is never a compound head. */
#define GROUP_PAGES 512

static inline uint64_t word_at(const uint8_t *page, uint32_t off)
{
	uint64_t word;

	memcpy(&word, page + off, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

static inline int holds(const struct pydump_test *test, const uint8_t *page)
{
	return (word_at(page, test->off) & test->mask) == test->value;
}

/* Clear bits [first, end); returns how many were set. */
static uint64_t clear_bits(uint8_t *bits, uint64_t first, uint64_t end)
{
	uint64_t cleared = 0;

	while (first < end) {
		uint64_t word = 0, mask = ~0ULL;
		uint64_t in_word = first & 63, n = 64 - in_word;
		uint8_t *at = bits + (first - in_word) / 8;
		uint64_t n_bytes = 8;

		if (n > end - first)
			n = end - first;
		if (n < 64) {
			mask = ((1ULL << n) - 1) << in_word;
			n_bytes = (in_word + n + 7) / 8;
		}
		memcpy(&word, at, n_bytes);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		mask = __builtin_bswap64(mask);
#endif
		cleared += (uint64_t)__builtin_popcountll(word & mask);
		word &= ~mask;
		memcpy(at, &word, n_bytes);
		first += n;
	}
	return cleared;
}

int64_t pydump_clear(struct pydump_window *window, uint64_t first_pfn, uint64_t end_pfn)
{
	if (first_pfn < window->first_pfn)
		first_pfn = window->first_pfn;
	if (end_pfn > window->end_pfn)
		end_pfn = window->end_pfn;
	if (first_pfn >= end_pfn)
		return 0;
	return (int64_t)clear_bits(window->bits, first_pfn - window->first_pfn,
				   end_pfn - window->first_pfn);
}

/* Consecutive pages that go for the same reason: cleared at once when another follows. */
struct run {
	uint64_t first_pfn;
	uint64_t end_pfn;
	enum pydump_kind kind;
};

/* Leave out the pages of a run, now or, past the window, later. */
static int64_t leave_out(struct pydump_window *window, const struct run *run)
{
	int64_t cleared = pydump_clear(window, run->first_pfn, run->end_pfn);

	window->left_out[run->kind] += (uint64_t)cleared;
	if (run->end_pfn > window->end_pfn && run->end_pfn > window->spill_pfn[run->kind])
		window->spill_pfn[run->kind] = run->end_pfn;
	return cleared;
}

/*
 * Judge the page whose struct page is at page; has_after: the one behind it can be read.
 * Sets *n to the pages it speaks for. Returns the kind if they go, PYDUMP_KINDS if they stay.
 */
static inline enum pydump_kind judge(const struct pydump_plan *plan, const uint8_t *page,
				     int has_after, uint64_t pfn, uint64_t *n,
				     struct pydump_window *window)
{
	const uint64_t flags = word_at(page, plan->flags_off);
	const int slab = holds(&plan->slab_type, page) || holds(&plan->slab_flag, page);
	const int anon = (word_at(page, plan->mapping_off) & ANON_BIT) && !slab;
	const int cache = (flags & plan->lru_mask) ||
			  (flags & plan->swapcache_mask) == plan->swapcache_mask;
	const int private = (flags & plan->private_mask) != 0;
	int hugetlb = 0;

	*n = 1;
	if (!slab && holds(&plan->buddy, page)) {
		uint64_t order = word_at(page, plan->private_off);

		if (order < plan->max_order) {
			*n = 1ULL << order;
			return PYDUMP_FREE;
		}
		window->bad_orders++;
		return PYDUMP_KINDS;
	}
	if (holds(&plan->unaccepted, page)) {
		*n = 1ULL << (plan->max_order - 1);
		return PYDUMP_FREE;
	}
	if (has_after && holds(&plan->head, page)) {
		const uint8_t *after = page + plan->page_size;
		uint64_t order = word_at(after, plan->order_off) >> plan->order_shift;

		order &= plan->order_mask;
		hugetlb = holds(&plan->hugetlb, plan->hugetlb.after ? after : page);
		/* A read-only copy of a head (HVO's fake heads) is not aligned to its order. */
		if (order < 64 && !(pfn & ((1ULL << order) - 1)))
			*n = 1ULL << order;
	}
	if (cache && !anon && (private ? plan->drop_cache_private : plan->drop_cache))
		return private ? PYDUMP_CACHE_PRIVATE : PYDUMP_CACHE;
	if (plan->drop_user && (anon || hugetlb))
		return PYDUMP_USER;
	if (holds(&plan->hwpoison, page))
		return PYDUMP_HWPOISON;
	if (!slab && holds(&plan->offline, page))
		return PYDUMP_OFFLINE;
	return PYDUMP_KINDS;
}

/* Whether all words the plan looks at lie inside a struct page. */
static int plan_fits(const struct pydump_plan *plan)
{
	const uint32_t offs[] = {
		plan->flags_off, plan->mapping_off, plan->private_off, plan->order_off,
		plan->tail.off, plan->head.off, plan->slab_type.off, plan->slab_flag.off,
		plan->buddy.off, plan->unaccepted.off, plan->hugetlb.off, plan->offline.off,
		plan->hwpoison.off,
	};

	for (size_t i = 0; i < sizeof(offs) / sizeof(offs[0]); i++) {
		if ((uint64_t)offs[i] + 8 > plan->page_size)
			return 0;
	}
	return plan->max_order <= 64;
}

int64_t pydump_classify(const struct pydump_plan *plan, const struct pydump_block *block,
			uint64_t first_pfn, uint64_t end_pfn, struct pydump_window *window)
{
	const struct pydump_plan p = *plan;	/* a copy that no store to the bitmap can change */
	struct run run = { 0, 0, PYDUMP_FREE };
	int64_t total = 0;
	uint64_t pfn = first_pfn;

	if (first_pfn < block->first_pfn || end_pfn > block->first_pfn + block->n_pages ||
	    first_pfn < window->first_pfn || end_pfn > window->end_pfn || !plan_fits(&p))
		return PYDUMP_BAD_ARGUMENT;
	if (pfn < window->resume_pfn)
		pfn = window->resume_pfn;
	while (pfn < end_pfn) {
		const uint64_t i = pfn - block->first_pfn;
		const uint8_t *page = block->pages + i * p.page_size;
		enum pydump_kind kind;
		uint64_t n;

		if (holds(&p.tail, page)) {
			pfn++;
			continue;
		}
		kind = judge(&p, page, i + 1 < block->n_pages && (pfn + 1) % GROUP_PAGES, pfn, &n,
			     window);
		if (kind == PYDUMP_KINDS) {
			pfn++;
			continue;
		}
		if (kind != run.kind || pfn != run.end_pfn) {
			if (run.first_pfn < run.end_pfn)
				total += leave_out(window, &run);
			run.first_pfn = pfn;
			run.kind = kind;
		}
		pfn += n;
		run.end_pfn = pfn;
	}
	if (run.first_pfn < run.end_pfn)
		total += leave_out(window, &run);
	if (pfn > window->resume_pfn)
		window->resume_pfn = pfn;
	return total;
}
