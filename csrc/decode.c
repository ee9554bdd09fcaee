/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stored pages to pages, with functions that some library lent. The bytes come from a file that may
 * be damaged: every function here stays inside what it is given, and a page is only one if it has
 * exactly its size.
 */
#include <string.h>

#include "pagescan.h"

typedef int (*uncompress_fn)(uint8_t *page, unsigned long *page_size, const uint8_t *stored,
			     unsigned long size);
typedef int (*unlzo1x_fn)(const uint8_t *stored, size_t size, uint8_t *page, size_t *page_size,
			  void *workspace);
typedef int (*unsnappy_fn)(const uint8_t *stored, size_t size, uint8_t *page, size_t *page_size);
typedef int (*undeflate_fn)(void *workspace, const uint8_t *stored, size_t size, uint8_t *page,
			    size_t page_size, size_t *actual_size);
typedef size_t (*unzstd_fn)(void *workspace, uint8_t *page, size_t page_size, const uint8_t *stored,
			    size_t size);

/* Whether by makes a page of exactly page_size bytes of the size stored ones. */
static int decode_page(const struct pydump_decoder *by, const uint8_t *stored, uint32_t size,
		       uint8_t *page, uint64_t page_size)
{
	unsigned long length = page_size;
	size_t result = page_size;

	switch (by->signature) {
	case PYDUMP_UNCOMPRESS:
		return !((uncompress_fn)by->function)(page, &length, stored, size) &&
		       length == page_size;
	case PYDUMP_UNLZO1X:
		return !((unlzo1x_fn)by->function)(stored, size, page, &result, NULL) &&
		       result == page_size;
	case PYDUMP_UNSNAPPY:
		return !((unsnappy_fn)by->function)(stored, size, page, &result) &&
		       result == page_size;
	case PYDUMP_UNDEFLATE:
		return !((undeflate_fn)by->function)(by->workspace, stored, size, page, page_size,
						     NULL);
	case PYDUMP_UNZSTD:
		return ((unzstd_fn)by->function)(by->workspace, page, page_size, stored, size) ==
		       page_size;
	}
	return 0;
}

/* The decoder for the encoding that a descriptor's flags name; NULL if there is none. */
static const struct pydump_decoder *decoder_for(const struct pydump_decoder *decoders,
						uint32_t flags)
{
	for (uint32_t i = 0; i < PYDUMP_DECODERS; i++)
		if (decoders[i].flag == flags)
			return decoders[i].function ? &decoders[i] : NULL;
	return NULL;
}

int64_t pydump_decode(const struct pydump_decoder *decoders, const struct pydump_stored *stored,
		      const uint64_t *place, uint8_t *pages, uint64_t pages_size)
{
	const uint64_t page_size = stored->page_size;

	for (uint64_t i = 0; i < stored->n; i++) {
		const uint64_t start = stored->off[i] - stored->data_off;
		const uint32_t size = stored->size[i], flags = stored->flags[i];
		const struct pydump_decoder *by;

		if (pages_size < page_size || place[i] > pages_size - page_size)
			return PYDUMP_NO_SPACE;
		if (stored->off[i] == stored->zero_off && size == page_size && !flags) {
			memset(pages + place[i], 0, page_size);
			continue;
		}
		if (size > page_size || start > stored->data_size ||
		    size > stored->data_size - start)
			return (int64_t)i;
		if (!flags) {
			if (size != page_size)
				return (int64_t)i;
			memcpy(pages + place[i], stored->data + start, page_size);
			continue;
		}
		by = decoder_for(decoders, flags);
		if (!by || !decode_page(by, stored->data + start, size, pages + place[i], page_size))
			return (int64_t)i;
	}
	return (int64_t)stored->n;
}
