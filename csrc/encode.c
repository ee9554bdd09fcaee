// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From pages to the bytes of a dump: which pages to compress, a loop around a library's compressor,
 * and the layout of descriptors and data (docs/formats.md).
 */
#include <string.h>

#include "pagescan.h"

#define DESCRIPTOR_SIZE 24

static void put_le(uint8_t *at, uint64_t value, int n_bytes)
{
	for (int i = 0; i < n_bytes; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

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

int64_t pydump_segments(const uint64_t *off, const uint8_t *state, uint64_t n, uint64_t page_size,
			uint64_t *segments)
{
	int64_t n_segments = 0;

	for (uint64_t i = 0; i < n; i++) {
		if (state[i] != PYDUMP_PAGE_DATA)
			continue;
		segments[2 * n_segments] = off[i];
		segments[2 * n_segments + 1] = page_size;
		n_segments++;
	}
	return n_segments;
}

int64_t pydump_compress2(pydump_compress2_fn compress2, int level, const uint8_t *source,
			 const uint64_t *segments, uint64_t n, uint8_t *out, uint64_t out_size,
			 uint64_t *sizes)
{
	const int buffer_error = -5;	/* Z_BUF_ERROR: the result does not fit */
	uint64_t used = 0;

	for (uint64_t i = 0; i < n; i++) {
		const uint64_t size = segments[2 * i + 1];
		unsigned long result = size;
		int status;

		if (size > out_size - used)
			return PYDUMP_NO_SPACE;
		status = compress2(out + used, &result, source + segments[2 * i], size, level);
		if (status == buffer_error || (!status && result >= size))
			result = 0;
		else if (status)
			return PYDUMP_CODEC_FAILED;
		sizes[i] = result;
		used += result;
	}
	return (int64_t)used;
}

static void put_descriptor(uint8_t *at, uint64_t off, uint64_t size, uint32_t flags)
{
	put_le(at, off, 8);
	put_le(at + 8, size, 4);
	put_le(at + 12, flags, 4);
	put_le(at + 16, 0, 8);
}

int64_t pydump_lay_out(const struct pydump_batch *batch, const uint8_t *encoded,
		       const uint64_t *sizes, uint64_t n_sizes, uint8_t *descriptors, uint8_t *out,
		       uint64_t out_size)
{
	uint64_t used = 0, n_data = 0;

	for (uint64_t i = 0; i < batch->n; i++) {
		const uint8_t *bytes = batch->pages + batch->off[i];
		uint64_t size = batch->page_size;
		uint32_t flags = 0;

		if (batch->state[i] == PYDUMP_PAGE_LOST)
			continue;
		if (batch->state[i] == PYDUMP_PAGE_ZERO) {
			put_descriptor(descriptors, batch->zero_off, size, 0);
			descriptors += DESCRIPTOR_SIZE;
			continue;
		}
		if (encoded) {
			if (n_data >= n_sizes)
				return PYDUMP_BAD_ARGUMENT;
			if (sizes[n_data] && sizes[n_data] < size) {
				bytes = encoded;
				size = sizes[n_data];
				flags = batch->codec_flag;
			}
			encoded += sizes[n_data++];
		}
		if (size > out_size - used)
			return PYDUMP_NO_SPACE;
		memcpy(out + used, bytes, size);
		put_descriptor(descriptors, batch->data_off + used, size, flags);
		descriptors += DESCRIPTOR_SIZE;
		used += size;
	}
	return (int64_t)used;
}
