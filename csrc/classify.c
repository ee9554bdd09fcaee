// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which pages of a block go, as bits cleared in a window of the bitmap. page_judge.h says which.
 */
#include "group.h"
#include "window.h"

/* What one call works on. */
struct scan {
	const struct pydump_plan *plan;
	const struct pydump_block *block;
	struct pydump_window *window;
	uint64_t end_pfn;
	int64_t cleared;
	uint64_t bad_orders;
};

/* Judge the page at pfn; returns the pfn from which to go on. */
static uint64_t judge_one(struct scan *scan, uint64_t pfn, enum pydump_kind *kind)
{
	const uint64_t i = pfn - scan->block->first_pfn;
	const int has_after = i + 1 < scan->block->n_pages && (pfn + 1) % HEADLESS_PAGES;
	uint64_t n;

	*kind = judge(scan->plan, scan->block->pages + i * scan->plan->page_size, has_after, pfn, &n,
		      &scan->bad_orders);
	return pfn + (*kind == PYDUMP_KINDS ? 1 : n);
}

/* Clear the bits of the group at first_pfn that go; only those of the pages in mask. */
static void clear_group(struct scan *scan, uint64_t first_pfn, const uint64_t *goes, uint64_t mask)
{
	struct pydump_window *window = scan->window;
	uint8_t *at = window->bits + (first_pfn - window->first_pfn) / 8;
	uint64_t before, word;

	memcpy(&word, at, sizeof(word));
	before = word = little_endian(word);
	for (int kind = 0; kind < PYDUMP_KINDS; kind++) {
		const uint64_t gone = word & goes[kind] & mask;
		int n;

		if (!gone)
			continue;
		n = __builtin_popcountll(gone);
		window->left_out[kind] += (uint64_t)n;
		scan->cleared += n;
		word &= ~gone;
	}
	if (word == before)
		return;
	word = little_endian(word);
	memcpy(at, &word, sizeof(word));
}

/*
 * Judge the pages from pfn on of the group at first_pfn. Those that speak for others are taken one
 * after the other: what lies behind them in the group is theirs. Returns where to go on.
 */
static uint64_t judge_group(struct scan *scan, uint64_t first_pfn, uint64_t pfn, uint32_t variant)
{
	const uint64_t end_pfn = first_pfn + GROUP_PAGES;
	const uint64_t mask = ~0ULL << (pfn - first_pfn);
	const uint64_t i = first_pfn - scan->block->first_pfn;
	struct pydump_verdict verdict;
	uint64_t next_pfn = end_pfn;

	pydump_judge_group(scan->plan, scan->block->pages + i * scan->plan->page_size, variant,
			   &verdict);
	for (uint64_t open = verdict.open & mask; open;) {
		const int bit = __builtin_ctzll(open);
		enum pydump_kind kind;
		uint64_t range;

		pfn = judge_one(scan, first_pfn + (uint64_t)bit, &kind);
		range = ~0ULL << bit;
		if (pfn < end_pfn)
			range &= ~(~0ULL << (pfn - first_pfn));
		open &= ~range;
		if (kind == PYDUMP_KINDS)
			continue;
		for (int other = 0; other < PYDUMP_KINDS; other++)
			verdict.goes[other] &= ~range;
		verdict.goes[kind] |= range;
		if (pfn > end_pfn) {
			scan->cleared += leave_out(scan->window, end_pfn, pfn, kind);
			next_pfn = pfn;
		}
	}
	clear_group(scan, first_pfn, verdict.goes, mask);
	return next_pfn;
}

/*
 * Where the group of pfn starts: on a whole byte of the bitmap. UINT64_MAX if pages of it are not in
 * the block or not to be judged, the struct page behind it cannot be read, or they are too small.
 */
static uint64_t group_of(const struct scan *scan, uint64_t pfn)
{
	const struct pydump_block *block = scan->block;
	const uint64_t first_pfn = pfn - (pfn - scan->window->first_pfn) % 8;

	if (scan->plan->page_size < MIN_PAGE_SIZE ||
	    first_pfn < block->first_pfn || first_pfn + GROUP_PAGES > scan->end_pfn ||
	    first_pfn + GROUP_PAGES >= block->first_pfn + block->n_pages)
		return UINT64_MAX;
	return first_pfn;
}

/* Whether [first_pfn, end_pfn) can be judged with what is at hand. */
static int fits(const struct pydump_plan *plan, const struct pydump_block *block,
		uint64_t first_pfn, uint64_t end_pfn, const struct pydump_window *window)
{
	return first_pfn >= block->first_pfn && end_pfn <= block->first_pfn + block->n_pages &&
	       first_pfn >= window->first_pfn && end_pfn <= window->end_pfn && plan_fits(plan);
}

int64_t pydump_classify(const struct pydump_plan *plan, const struct pydump_block *block,
			uint64_t first_pfn, uint64_t end_pfn, struct pydump_window *window,
			uint32_t variant)
{
	const struct pydump_plan copy = *plan;	/* no store to the bitmap can change it */
	struct scan scan = { &copy, block, window, end_pfn, 0, 0 };
	uint64_t pfn = first_pfn, group_pfn;
	int strides = 0;	/* a large block was passed over: another may follow */

	if (!fits(&copy, block, first_pfn, end_pfn, window) || !(pydump_variants() >> variant & 1))
		return PYDUMP_BAD_ARGUMENT;
	if (pfn < window->resume_pfn)
		pfn = window->resume_pfn;
	while (pfn < end_pfn) {
		const uint64_t from_pfn = pfn;
		enum pydump_kind kind;

		group_pfn = strides ? UINT64_MAX : group_of(&scan, pfn);
		if (group_pfn != UINT64_MAX) {
			pfn = judge_group(&scan, group_pfn, pfn, variant);
		} else {
			pfn = judge_one(&scan, pfn, &kind);
			if (kind != PYDUMP_KINDS)
				scan.cleared += leave_out(window, from_pfn, pfn, kind);
		}
		strides = pfn - from_pfn > GROUP_PAGES;
	}
	if (pfn > window->resume_pfn)
		window->resume_pfn = pfn;
	window->bad_orders += scan.bad_orders;
	return scan.cleared;
}

static int is_largest_free_block(const struct pydump_plan *plan, const uint8_t *page)
{
	return holds(&plan->buddy, page) &&
	       word_at(page, plan->private_off) == plan->max_order - 1 &&
	       !holds(&plan->tail, page) && !holds(&plan->slab_type, page) &&
	       !holds(&plan->slab_flag, page);
}

int64_t pydump_pass_free(const struct pydump_plan *plan, const struct pydump_block *block,
			 uint64_t first_pfn, uint64_t end_pfn, struct pydump_window *window)
{
	const uint8_t *pages;
	uint64_t n = 0, step;
	int64_t cleared;

	if (!plan->max_order || !fits(plan, block, first_pfn, end_pfn, window))
		return PYDUMP_BAD_ARGUMENT;
	step = 1ULL << (plan->max_order - 1);
	if (first_pfn & (step - 1))
		return PYDUMP_BAD_ARGUMENT;
	pages = block->pages + (first_pfn - block->first_pfn) * plan->page_size;
	while (n < end_pfn - first_pfn && is_largest_free_block(plan, pages + n * plan->page_size))
		n += step;
	cleared = leave_out(window, first_pfn, first_pfn + n, PYDUMP_FREE);
	if (first_pfn + n > window->resume_pfn)
		window->resume_pfn = first_pfn + n;
	return cleared;
}
