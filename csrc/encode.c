// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The data of a batch of pages, compressed one by one with a function that some library lent. What
 * libraries differ in is here: the order of arguments, what they call an error, and whether they
 * stop where their result would be no smaller than the page, or run on and need room to.
 */
#include <string.h>

#include "pagescan.h"

typedef int (*compress2_fn)(uint8_t *out, unsigned long *out_size, const uint8_t *page,
			    unsigned long size, int level);
typedef int (*lzo1x_fn)(const uint8_t *page, size_t size, uint8_t *out, size_t *out_size,
			void *workspace);
typedef int (*snappy_fn)(const uint8_t *page, size_t size, uint8_t *out, size_t *out_size);
typedef size_t (*libdeflate_fn)(void *workspace, const uint8_t *page, size_t size, uint8_t *out,
				size_t out_size);
typedef size_t (*zstd_fn)(void *workspace, uint8_t *out, size_t out_size, const uint8_t *page,
			  size_t size);

#define Z_MEM_ERROR (-4)
#define Z_BUF_ERROR (-5)
#define ZSTD_MAX_CODE 120		/* results above its negative are errors (ZSTD_isError()) */
#define ZSTD_MEMORY_ALLOCATION 64	/* ZSTD_error_memory_allocation, stable since 1.3.1 */
#define ZSTD_DST_SIZE_TOO_SMALL 70	/* ZSTD_error_dstSize_tooSmall, likewise */

/* What a page may become on its way: snappy says size + size / 6 + 32, lzo size + size / 16 + 67. */
static uint64_t worst_size(uint64_t page_size)
{
	return page_size + page_size / 6 + 67;
}

/*
 * Noise: data that is compressed or encrypted already. To deflate a page of it takes as long as any,
 * and gains nothing. What is looked at are 16 runs of 64 bytes, the last at the end: of that many
 * random bytes the squares of how often each value occurs sum up to 4096 + 1020, with a deviation of
 * 90. Noise is what is nearer to that than five deviations: codes for its bytes would save less than
 * their table takes. What is lost are pages that repeat their noise, or are something else between
 * the runs.
 */
#define NOISE_RUNS 16
#define NOISE_RUN_SIZE 64
#define NOISE_LEAST 4666
#define NOISE_MOST 5566

int pydump_is_noise(const uint8_t *page, uint64_t page_size)
{
	uint16_t counts[256] = { 0 };
	uint32_t squares = 0;

	if (page_size < NOISE_RUNS * NOISE_RUN_SIZE)
		return 0;
	for (uint64_t run = 0; run < NOISE_RUNS && squares <= NOISE_MOST; run++) {
		const int is_last = run == NOISE_RUNS - 1;
		const uint8_t *at = page + (is_last ? page_size - NOISE_RUN_SIZE :
						      run * (page_size / NOISE_RUNS));

		for (int i = 0; i < NOISE_RUN_SIZE; i++)
			squares += 2 * counts[at[i]]++ + 1;
	}
	return NOISE_LEAST <= squares && squares <= NOISE_MOST;
}

/*
 * Compress one page to out, which has room for its worst size. Returns the size of the result, that
 * of the page if it is no smaller, or a negative status.
 */
static int64_t compress_page(const struct pydump_compressor *by, const uint8_t *page,
			     uint64_t size, uint8_t *out)
{
	const size_t smaller = size - 1;
	unsigned long room = smaller;
	size_t result = worst_size(size);

	if (by->passes_noise && pydump_is_noise(page, size))
		return (int64_t)size;
	switch (by->signature) {
	case PYDUMP_COMPRESS2:
		switch (((compress2_fn)by->function)(out, &room, page, size, by->level)) {
		case 0:
			return (int64_t)room;
		case Z_BUF_ERROR:
			return (int64_t)size;
		case Z_MEM_ERROR:
			return PYDUMP_NO_MEMORY;
		}
		return PYDUMP_CODEC_FAILED;
	case PYDUMP_LZO1X:
		if (((lzo1x_fn)by->function)(page, size, out, &result, by->workspace))
			return PYDUMP_CODEC_FAILED;
		break;
	case PYDUMP_SNAPPY:
		if (((snappy_fn)by->function)(page, size, out, &result))
			return PYDUMP_CODEC_FAILED;
		break;
	case PYDUMP_LIBDEFLATE:
		result = ((libdeflate_fn)by->function)(by->workspace, page, size, out, smaller);
		if (!result)
			return (int64_t)size;
		break;
	case PYDUMP_ZSTD:
		result = ((zstd_fn)by->function)(by->workspace, out, smaller, page, size);
		if (result == (size_t)-ZSTD_DST_SIZE_TOO_SMALL)
			return (int64_t)size;
		if (result == (size_t)-ZSTD_MEMORY_ALLOCATION)
			return PYDUMP_NO_MEMORY;
		if (result > (size_t)-ZSTD_MAX_CODE)
			return PYDUMP_CODEC_FAILED;
		break;
	default:
		return PYDUMP_BAD_ARGUMENT;
	}
	return (int64_t)(result < size ? result : size);
}

uint64_t pydump_encode_room(uint64_t n_pages, uint64_t page_size)
{
	return n_pages ? (n_pages - 1) * page_size + worst_size(page_size) : 0;
}

int64_t pydump_encode(const struct pydump_compressor *compressor, const struct pydump_batch *batch,
		      uint8_t *out, uint64_t out_size, uint32_t *sizes)
{
	const uint64_t page_size = batch->page_size;
	uint64_t used = 0;

	if (out_size < pydump_encode_room(batch->n, page_size))
		return PYDUMP_NO_SPACE;
	for (uint64_t i = 0; i < batch->n; i++) {
		const uint8_t *page = batch->pages + batch->off[i];
		int64_t size = (int64_t)page_size;

		sizes[i] = 0;
		if (batch->state[i] != PYDUMP_PAGE_DATA)
			continue;
		if (compressor)
			size = compress_page(compressor, page, page_size, out + used);
		if (size < 0)
			return size;
		if ((uint64_t)size == page_size)
			memcpy(out + used, page, page_size);
		sizes[i] = (uint32_t)size;
		used += (uint64_t)size;
	}
	return (int64_t)used;
}
