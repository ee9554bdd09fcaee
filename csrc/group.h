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

/* What a plan says of a group. A page that goes is in one word of goes at most. */
struct pydump_verdict {
	uint64_t goes[PYDUMP_KINDS];	/* goes, and speaks for itself alone */
	uint64_t open;			/* may speak for more pages, or is a case of its own */
};

/*
 * Judge the group that starts at pages; the struct page behind it can be read too. Bits in open are
 * for pydump_classify() to decide, all others are decided.
 */
void pydump_judge_group(const struct pydump_plan *plan, const uint8_t *pages, uint32_t variant,
			struct pydump_verdict *verdict);

#endif
