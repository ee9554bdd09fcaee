// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Struct pages by the 64: each test of the plan gives a word with one bit a page, and the rules are
 * operations on such words. No branch depends on a single page, a test the plan does not use costs
 * next to nothing, and one whose answer no longer matters for any of the 64 is not made.
 *
 * The same rules as judge() in page_judge.h, which decides the pages left open here.
 */
#include "group.h"

/* Four words at a time: two registers of SSE2 or NEON, one of AVX2. */
typedef uint64_t four __attribute__((vector_size(32)));

/* At most so many words does a plan look at: flags, mapping, private, and those of nine tests. */
#define MAX_COLUMNS 12

/* The same word of all struct pages of the group, side by side. */
struct column {
	four words[GROUP_PAGES / 4];
	const uint8_t *at;	/* that word of the first struct page */
};

struct group {
	uint64_t page_size;
	uint32_t variant;
	uint32_t n_columns;	/* of those that were asked for so far */
	struct column columns[MAX_COLUMNS];
};

static inline __attribute__((always_inline)) void gather(struct column *column, uint64_t page_size)
{
	const uint8_t *at = column->at;

	for (int i = 0; i < GROUP_PAGES / 4; i++, at += 4 * page_size)
		column->words[i] = (four) { word_at(at, 0), word_at(at + page_size, 0),
					    word_at(at + 2 * page_size, 0),
					    word_at(at + 3 * page_size, 0) };
}

static inline __attribute__((always_inline)) uint64_t compare(const four *words, uint64_t mask,
							      uint64_t value)
{
	const four masks = { mask, mask, mask, mask };
	const four values = { value, value, value, value };
	four bit = { 1, 2, 4, 8 }, bits = { 0 };

	for (int i = 0; i < GROUP_PAGES / 4; i++, bit <<= 4)
		bits |= (four)((words[i] & masks) == values) & bit;
	return bits[0] | bits[1] | bits[2] | bits[3];
}

static void gather_any(struct column *column, uint64_t page_size)
{
	gather(column, page_size);
}

static uint64_t compare_any(const four *words, uint64_t mask, uint64_t value)
{
	return compare(words, mask, value);
}

#if defined(__x86_64__)
__attribute__((target("avx2")))
static void gather_avx2(struct column *column, uint64_t page_size)
{
	gather(column, page_size);
}

__attribute__((target("avx2")))
static uint64_t compare_avx2(const four *words, uint64_t mask, uint64_t value)
{
	return compare(words, mask, value);
}
#endif

/* The words at at, in the first struct page, and at the same place of the others. */
static const four *column_of(struct group *group, const uint8_t *at)
{
	struct column *column = group->columns;

	for (uint32_t i = 0; i < group->n_columns; i++, column++) {
		if (column->at == at)
			return column->words;
	}
	group->n_columns++;
	column->at = at;
#if defined(__x86_64__)
	if (group->variant == PYDUMP_AVX2) {
		gather_avx2(column, group->page_size);
		return column->words;
	}
#endif
	gather_any(column, group->page_size);
	return column->words;
}

/* Which pages of the group have word & mask == value, the word being that at at in the first. */
static uint64_t which(struct group *group, const uint8_t *at, uint64_t mask, uint64_t value)
{
	if (value & ~mask)
		return 0;	/* true of no page */
#if defined(__x86_64__)
	if (group->variant == PYDUMP_AVX2)
		return compare_avx2(column_of(group, at), mask, value);
#endif
	return compare_any(column_of(group, at), mask, value);
}

void pydump_judge_group(const struct pydump_plan *plan, const uint8_t *pages, uint32_t variant,
			struct pydump_verdict *verdict)
{
#define WHICH(test) which(&group, pages + (test).off, (test).mask, (test).value)
#define FLAGS(mask, value) which(&group, pages + plan->flags_off, mask, value)
	struct group group;
	uint64_t *goes = verdict->goes;
	uint64_t left, slab, anon = 0, going;

	group.page_size = plan->page_size;
	group.variant = variant;
	group.n_columns = 0;
	left = ~WHICH(plan->tail);	/* pages that no rule has claimed so far */
	*verdict = (struct pydump_verdict) { { 0 }, 0 };
	if (!left)
		return;
	slab = WHICH(plan->slab_type) | WHICH(plan->slab_flag);
	if (left & ~slab) {
		uint64_t buddy = WHICH(plan->buddy) & left & ~slab;

		if (buddy && plan->max_order)
			goes[PYDUMP_FREE] = buddy & which(&group, pages + plan->private_off, ~0ULL,
							  0);
		verdict->open = buddy & ~goes[PYDUMP_FREE];
		left &= ~buddy;
	}
	verdict->open |= WHICH(plan->unaccepted) & left;
	left &= ~verdict->open;
	if (!left)
		return;

	if (left & ~slab)
		anon = which(&group, pages + plan->mapping_off, ANON_BIT, ANON_BIT) & ~slab;
	if (left & ~anon && (plan->drop_cache || plan->drop_cache_private)) {
		uint64_t cache = ~FLAGS(plan->lru_mask, 0) & left & ~anon;

		if (left & ~anon & ~cache)
			cache |= FLAGS(plan->swapcache_mask, plan->swapcache_mask) & left & ~anon;
		if (cache) {
			uint64_t private = ~FLAGS(plan->private_mask, 0);

			goes[PYDUMP_CACHE] = plan->drop_cache ? cache & ~private : 0;
			goes[PYDUMP_CACHE_PRIVATE] = plan->drop_cache_private ? cache & private : 0;
		}
	}
	going = goes[PYDUMP_CACHE] | goes[PYDUMP_CACHE_PRIVATE];
	if (plan->drop_user)
		goes[PYDUMP_USER] = anon & left & ~going;
	going |= goes[PYDUMP_USER];
	goes[PYDUMP_HWPOISON] = WHICH(plan->hwpoison) & left & ~going;
	going |= goes[PYDUMP_HWPOISON];
	if (left & ~slab & ~going)
		goes[PYDUMP_OFFLINE] = WHICH(plan->offline) & left & ~slab & ~going;
	going |= goes[PYDUMP_OFFLINE];

	if (going || plan->drop_user) {		/* heads speak for their tails, whatever the rule */
		uint64_t head = WHICH(plan->head) & left;
		const uint8_t *after = pages + (plan->hugetlb.after ? plan->page_size : 0);

		if (head & ~going && plan->drop_user)
			going |= which(&group, after + plan->hugetlb.off, plan->hugetlb.mask,
				       plan->hugetlb.value);
		head &= going;
		verdict->open |= head;
		for (int kind = PYDUMP_CACHE; kind < PYDUMP_KINDS; kind++)
			goes[kind] &= ~head;
	}
#undef WHICH
#undef FLAGS
}
