/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a struct page says: whether its page goes, and how many pages that
 * speaks for.
 *
 * The order of the tests is the contract (docs/filter-rules.md of pydumpfile);
 * the words they look at come from the plan. Struct pages are those of another
 * kernel, and may be damaged: whatever they say, nothing outside of them is
 * read.
 *
 * The same file in the kernel and in pydumpfile, whose tests hold it to a third
 * description of the rules, in Python. What the two differ in is page_words.h:
 * fixed-width types and how a word is read.
 */
#ifndef PYDUMP_PAGE_JUDGE_H
#define PYDUMP_PAGE_JUDGE_H

#include "page_words.h"

#define ANON_BIT 1		/* PAGE_MAPPING_ANON: bit 0 of page.mapping */
#define HEADLESS_PAGES 512	/* the last of so many, by its pfn, is never a compound head */

static inline int holds(const struct pydump_test *test, const u8 *page)
{
	return (word_at(page, test->off) & test->mask) == test->value;
}

/*
 * Judge the page whose struct page is at page; has_after: the one behind it can
 * be read. Sets *n to the pages it speaks for, which is a power of two and at
 * most 1 << 63. Returns the kind if they go, PYDUMP_KINDS if they stay.
 */
static inline enum pydump_kind judge(const struct pydump_plan *plan, const u8 *page, int has_after,
				     u64 pfn, u64 *n, u64 *bad_orders)
{
	const int slab = holds(&plan->slab_type, page) || holds(&plan->slab_flag, page);
	int anon, cache, private, hugetlb = 0;
	u64 flags;

	*n = 1;
	if (holds(&plan->tail, page))
		return PYDUMP_KINDS;
	if (!slab && holds(&plan->buddy, page)) {
		u64 order = word_at(page, plan->private_off);

		if (order < plan->max_order) {
			*n = 1ULL << order;
			return PYDUMP_FREE;
		}
		++*bad_orders;
		return PYDUMP_KINDS;
	}
	if (holds(&plan->unaccepted, page)) {
		*n = 1ULL << (plan->max_order - 1);
		return PYDUMP_FREE;
	}
	if (has_after && holds(&plan->head, page)) {
		const u8 *after = page + plan->page_size;
		u64 order = word_at(after, plan->order_off) >> plan->order_shift;

		order &= plan->order_mask;
		hugetlb = holds(&plan->hugetlb, plan->hugetlb.after ? after : page);
		/* A read-only copy of a head (HVO's fake heads) is not aligned to its order. */
		if (order < 64 && !(pfn & ((1ULL << order) - 1)))
			*n = 1ULL << order;
	}
	flags = word_at(page, plan->flags_off);
	anon = (word_at(page, plan->mapping_off) & ANON_BIT) && !slab;
	cache = (flags & plan->lru_mask) ||
		(flags & plan->swapcache_mask) == plan->swapcache_mask;
	private = (flags & plan->private_mask) != 0;
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

/*
 * Whether all words the plan looks at lie inside a struct page, and nothing is
 * shifted by more than there is.
 */
static inline int plan_fits(const struct pydump_plan *plan)
{
	const u32 offs[] = {
		plan->flags_off, plan->mapping_off, plan->private_off, plan->order_off,
		plan->tail.off, plan->head.off, plan->slab_type.off, plan->slab_flag.off,
		plan->buddy.off, plan->unaccepted.off, plan->hugetlb.off, plan->offline.off,
		plan->hwpoison.off,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(offs); i++) {
		if ((u64)offs[i] + 8 > plan->page_size)
			return 0;
	}
	return plan->max_order >= 1 && plan->max_order <= 64 && plan->order_shift < 64;
}

/* Struct pages of consecutive pfns: n of them, the first that of first_pfn. */
struct struct_pages {
	const u8 *pages;
	u64 first_pfn;
	u64 n;
};

/* Pages [first_pfn, end_pfn) go, and why. */
struct going {
	u64 first_pfn;
	u64 end_pfn;
	enum pydump_kind kind;
};

/* A scan of struct pages, block after block. Begins as zeros. */
struct page_scan {
	u64 pfn;		/* the next to be judged */
	u64 bad_orders;
	struct going going;	/* pages that were found; more of them may follow */
};

/*
 * Judge the pages from scan->pfn on, but none from end_pfn on; both must lie in
 * the block. Pages that another one spoke for are passed over: scan->pfn may
 * end up anywhere behind end_pfn.
 *
 * Returns 1 as soon as it is known where pages that go end: *found tells which,
 * and they may go on behind the block. Returns 0 if there is nothing left to
 * judge: the last ones found are in scan->going still.
 */
static inline int next_going(const struct pydump_plan *plan, const struct struct_pages *block,
			     u64 end_pfn, struct page_scan *scan, struct going *found)
{
	while (scan->pfn < end_pfn) {
		const u64 pfn = scan->pfn, i = pfn - block->first_pfn;
		const int has_after = i + 1 < block->n && (pfn + 1) % HEADLESS_PAGES;
		enum pydump_kind kind;
		u64 n;

		kind = judge(plan, block->pages + i * plan->page_size, has_after, pfn, &n,
			     &scan->bad_orders);
		if (kind == PYDUMP_KINDS) {
			scan->pfn++;
			continue;
		}
		scan->pfn += n;
		if (kind == scan->going.kind && pfn <= scan->going.end_pfn) {
			if (scan->going.end_pfn < scan->pfn)
				scan->going.end_pfn = scan->pfn;
			continue;
		}
		*found = scan->going;
		scan->going.first_pfn = pfn;
		scan->going.end_pfn = scan->pfn;
		scan->going.kind = kind;
		if (found->first_pfn < found->end_pfn)
			return 1;
	}
	return 0;
}

#endif
