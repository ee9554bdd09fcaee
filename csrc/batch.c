// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Batches of kept pages: where their bytes are, by the bitmap, and the descriptors that say where
 * they went (docs/formats.md).
 */
#include "pagescan.h"
#include "words.h"

#define DESCRIPTOR_SIZE 24

int64_t pydump_list_pages(const uint8_t *bits, uint64_t first_bit, uint64_t end_bit,
			  uint64_t page_size, uint64_t *off, uint64_t max)
{
	uint64_t bit = first_bit, n = 0;

	while (bit < end_bit && n < max) {
		unsigned int rest = (unsigned int)bits[bit >> 3] >> (bit & 7);

		if (rest) {
			bit += (uint64_t)__builtin_ctz(rest);
			if (bit < end_bit)
				off[n++] = (bit - first_bit) * page_size;
			bit++;
			continue;
		}
		bit = (bit | 7) + 1;
		while (bit + 64 <= end_bit) {	/* long stretches of nothing */
			uint64_t word;

			memcpy(&word, bits + (bit >> 3), sizeof(word));
			if (word)
				break;
			bit += 64;
		}
	}
	return (int64_t)n;
}

int64_t pydump_spans(const uint64_t *off, uint64_t n, uint64_t page_size, uint64_t gap,
		     uint64_t *spans)
{
	int64_t n_spans = 0;

	for (uint64_t i = 0; i < n; i++) {
		if (n_spans && off[i] <= spans[2 * n_spans - 1] + gap) {
			spans[2 * n_spans - 1] = off[i] + page_size;
			continue;
		}
		spans[2 * n_spans] = off[i];
		spans[2 * n_spans + 1] = off[i] + page_size;
		n_spans++;
	}
	return n_spans;
}

/* struct page_desc: i64 offset, u32 size, u32 flags, u64 page_flags. */
static void put_descriptor(uint8_t *at, uint64_t off, uint64_t size, uint64_t flags)
{
	const uint64_t words[] = {
		little_endian(off), little_endian(size | flags << 32), 0,
	};

	memcpy(at, words, sizeof(words));
}

int64_t pydump_describe(const struct pydump_batch *batch, const uint32_t *sizes,
			uint8_t *descriptors)
{
	uint64_t off = batch->data_off;
	int64_t n = 0;

	for (uint64_t i = 0; i < batch->n; i++) {
		uint8_t *at = descriptors + n * DESCRIPTOR_SIZE;

		if (batch->state[i] == PYDUMP_PAGE_LOST)
			continue;
		if (batch->state[i] == PYDUMP_PAGE_ZERO)
			put_descriptor(at, batch->zero_off, batch->page_size, 0);
		else
			put_descriptor(at, off, sizes[i],
				       sizes[i] < batch->page_size ? batch->codec_flag : 0);
		off += sizes[i];
		n++;
	}
	return n;
}
