// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Struct pages by the 64: each test of the plan gives a word with one bit a page, and the rules are
 * operations on such words. No branch depends on a single page, a test the plan does not use costs
 * next to nothing, and one whose answer no longer matters for any of the 64 is not made.
 *
 * The same rules as judge() in page_judge.h, which decides the pages left open here.
 */
#include "group.h"

/* Four words at a time: two registers of SSE2 or NEON, one of AVX2. And two of them. */
typedef uint64_t four __attribute__((vector_size(32)));
typedef uint64_t two __attribute__((vector_size(16)));

/* At most so many stripes does a plan look at: those of flags, mapping, private, and nine tests. */
#define MAX_STRIPES 12

/*
 * Neighbouring words of all struct pages of the group, as the file has them: first the first word
 * of each, side by side, then the second. To turn so many at a time costs less than to pick one.
 */
struct stripe {
	four words[STRIPE_WORDS][GROUP_PAGES / 4];
	const uint8_t *at;	/* those of the first struct page */
};

struct group {
	uint64_t page_size;
	uint32_t variant;
	uint32_t n_stripes;	/* of those that were asked for so far */
	struct stripe stripes[MAX_STRIPES];
};

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

static inline two two_at(const uint8_t *at)
{
	two words;

	memcpy(&words, at, sizeof(words));
	return words;
}

static void gather_any(struct stripe *stripe, uint64_t page_size)
{
	const uint8_t *at = stripe->at;

	for (int i = 0; i < GROUP_PAGES / 2; i++, at += 2 * page_size) {
		const two a01 = two_at(at), b01 = two_at(at + page_size);
		const two a23 = two_at(at + 16), b23 = two_at(at + page_size + 16);

		((two *)stripe->words[0])[i] = __builtin_shuffle(a01, b01, (two) { 0, 2 });
		((two *)stripe->words[1])[i] = __builtin_shuffle(a01, b01, (two) { 1, 3 });
		((two *)stripe->words[2])[i] = __builtin_shuffle(a23, b23, (two) { 0, 2 });
		((two *)stripe->words[3])[i] = __builtin_shuffle(a23, b23, (two) { 1, 3 });
	}
}

static uint64_t compare_any(const four *words, uint64_t mask, uint64_t value)
{
	return compare(words, mask, value);
}

#if defined(__x86_64__)
__attribute__((target("avx2")))
static inline four four_at(const uint8_t *at)
{
	four words;

	memcpy(&words, at, sizeof(words));
	return words;
}

__attribute__((target("avx2")))
static void gather_avx2(struct stripe *stripe, uint64_t page_size)
{
	const uint8_t *at = stripe->at;

	for (int i = 0; i < GROUP_PAGES / 4; i++, at += 4 * page_size) {
		const four a = four_at(at), b = four_at(at + page_size);
		const four c = four_at(at + 2 * page_size), d = four_at(at + 3 * page_size);
		const four ab02 = __builtin_shuffle(a, b, (four) { 0, 4, 2, 6 });
		const four ab13 = __builtin_shuffle(a, b, (four) { 1, 5, 3, 7 });
		const four cd02 = __builtin_shuffle(c, d, (four) { 0, 4, 2, 6 });
		const four cd13 = __builtin_shuffle(c, d, (four) { 1, 5, 3, 7 });

		stripe->words[0][i] = __builtin_shuffle(ab02, cd02, (four) { 0, 1, 4, 5 });
		stripe->words[1][i] = __builtin_shuffle(ab13, cd13, (four) { 0, 1, 4, 5 });
		stripe->words[2][i] = __builtin_shuffle(ab02, cd02, (four) { 2, 3, 6, 7 });
		stripe->words[3][i] = __builtin_shuffle(ab13, cd13, (four) { 2, 3, 6, 7 });
	}
}

__attribute__((target("avx2")))
static uint64_t compare_avx2(const four *words, uint64_t mask, uint64_t value)
{
	return compare(words, mask, value);
}
#endif

/* The words at off in the struct page at page, which is in or behind the first, and in the 63 on. */
static const four *words_of(struct group *group, const uint8_t *page, uint32_t off)
{
	struct stripe *stripe = group->stripes;
	uint64_t i = off / 8 % STRIPE_WORDS;
	const uint8_t *at;

	while (off - 8 * i + STRIPE_SIZE > group->page_size)	/* not into the next struct page */
		i++;
	at = page + off - 8 * i;
	for (; stripe < group->stripes + group->n_stripes; stripe++) {
		if (stripe->at == at)
			return stripe->words[i];
	}
	group->n_stripes++;
	stripe->at = at;
#if defined(__x86_64__)
	if (group->variant == PYDUMP_AVX2) {
		gather_avx2(stripe, group->page_size);
		return stripe->words[i];
	}
#endif
	gather_any(stripe, group->page_size);
	return stripe->words[i];
}

/* Which pages of the group have word & mask == value, the word being that at off. */
static uint64_t which(struct group *group, const uint8_t *page, uint32_t off, uint64_t mask,
		      uint64_t value)
{
	if (value & ~mask)
		return 0;	/* true of no page */
	mask = little_endian(mask);
	value = little_endian(value);
#if defined(__x86_64__)
	if (group->variant == PYDUMP_AVX2)
		return compare_avx2(words_of(group, page, off), mask, value);
#endif
	return compare_any(words_of(group, page, off), mask, value);
}

void pydump_judge_group(const struct pydump_plan *plan, const uint8_t *pages, uint32_t variant,
			struct pydump_verdict *verdict)
{
#define WHICH(test) which(&group, pages, (test).off, (test).mask, (test).value)
#define FLAGS(mask, value) which(&group, pages, plan->flags_off, mask, value)
	struct group group;
	uint64_t *goes = verdict->goes;
	uint64_t left, slab, anon = 0, going;

	group.page_size = plan->page_size;
	group.variant = variant;
	group.n_stripes = 0;
	left = ~WHICH(plan->tail);	/* pages that no rule has claimed so far */
	*verdict = (struct pydump_verdict) { { 0 }, 0 };
	if (!left)
		return;
	slab = WHICH(plan->slab_type) | WHICH(plan->slab_flag);
	if (left & ~slab) {
		uint64_t buddy = WHICH(plan->buddy) & left & ~slab;

		if (buddy && plan->max_order)
			goes[PYDUMP_FREE] = buddy & which(&group, pages, plan->private_off, ~0ULL, 0);
		verdict->open = buddy & ~goes[PYDUMP_FREE];
		left &= ~buddy;
	}
	verdict->open |= WHICH(plan->unaccepted) & left;
	left &= ~verdict->open;
	if (!left)
		return;

	if (left & ~slab && (plan->drop_cache || plan->drop_cache_private || plan->drop_user))
		anon = which(&group, pages, plan->mapping_off, ANON_BIT, ANON_BIT) & ~slab;
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
			going |= which(&group, after, plan->hugetlb.off, plan->hugetlb.mask,
				       plan->hugetlb.value);
		head &= going;
		verdict->open |= head;
		for (int kind = PYDUMP_CACHE; kind < PYDUMP_KINDS; kind++)
			goes[kind] &= ~head;
	}
#undef WHICH
#undef FLAGS
}
