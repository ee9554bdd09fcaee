/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pages left out of a window of the bitmap, and counted. Between the files of csrc/ only. */
#ifndef PYDUMP_WINDOW_H
#define PYDUMP_WINDOW_H

#include <string.h>
#include "pagescan.h"

/* Clear bits [first, end); returns how many were set. */
static inline uint64_t clear_bits(uint8_t *bits, uint64_t first, uint64_t end)
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

/* Clear the bits [first_pfn, end_pfn) inside the window; returns how many were set. */
static inline int64_t clear_pages(struct pydump_window *window, uint64_t first_pfn,
				  uint64_t end_pfn)
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

/* Leave out the pages [first_pfn, end_pfn), now or, past the window, later. */
static inline int64_t leave_out(struct pydump_window *window, uint64_t first_pfn,
				uint64_t end_pfn, enum pydump_kind kind)
{
	int64_t cleared = clear_pages(window, first_pfn, end_pfn);

	window->left_out[kind] += (uint64_t)cleared;
	if (end_pfn > window->end_pfn && end_pfn > window->spill_pfn[kind])
		window->spill_pfn[kind] = end_pfn;
	return cleared;
}

#endif
