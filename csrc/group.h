/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 64 struct pages of consecutive pfns, looked at together: what is known of each is one bit of a
 * word, the lowest that of the first page. Between the files of csrc/ only.
 */
#ifndef PYDUMP_GROUP_H
#define PYDUMP_GROUP_H

#include "page_judge.h"
#include "pagescan.h"

#define GROUP_PAGES 64
#define STRIPE_WORDS 4
#define STRIPE_SIZE (8 * STRIPE_WORDS)
#define MIN_PAGE_SIZE (STRIPE_SIZE + 8)	/* so that each word lies in a stripe that does */

/* What a plan says of a group. A page that goes is in one word of goes at most. */
struct pydump_verdict {
	uint64_t goes[PYDUMP_KINDS];	/* goes, and speaks for itself alone */
	uint64_t open;			/* may speak for more pages, or is a case of its own */
};

/*
 * Judge the group that starts at pages; the struct page behind it can be read too, and none is
 * smaller than MIN_PAGE_SIZE. Bits in open are
 * for pydump_classify() to decide, all others are decided.
 */
void pydump_judge_group(const struct pydump_plan *plan, const uint8_t *pages, uint32_t variant,
			struct pydump_verdict *verdict);

#endif
