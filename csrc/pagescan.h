/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hot loops of pydumpfile: what a struct page says, which pages are zero, where a page goes.
 *
 * Every function works on a whole block, takes pointers and lengths, returns a count or a negative
 * status, and neither allocates, nor does I/O, nor keeps anything: callers may run them without the
 * GIL. pydumpfile/filter/reference.py does the same in plain Python, bit for bit.
 *
 * This file and vmcore_pfn_lists.h, which has the plan, are also what cffi's cdef() reads, less the
 * lines that start with '#': declarations only.
 */
#ifndef PYDUMP_PAGESCAN_H
#define PYDUMP_PAGESCAN_H

#include <stddef.h>
#include <stdint.h>
#include "vmcore_pfn_lists.h"

/* Negative return values. */
enum pydump_status {
	PYDUMP_OK = 0,
	PYDUMP_BAD_ARGUMENT = -1,	/* lengths or ranges that do not fit each other */
	PYDUMP_NO_SPACE = -2,		/* the output buffer is too small */
	PYDUMP_CODEC_FAILED = -3,	/* the compression library refused a page */
	PYDUMP_NO_MEMORY = -4		/* it had no memory to work in */
};

/* Ways to do the same, by what a processor can do. This one can do a mask of 1 << variant. */
enum pydump_variant {
	PYDUMP_SCALAR,
	PYDUMP_AVX2,
	PYDUMP_NEON
};
uint32_t pydump_variants(void);

/* Struct pages of consecutive pfns: n of them, the first that of first_pfn. */
struct pydump_block {
	const uint8_t *pages;
	uint64_t n_pages;
	uint64_t first_pfn;
};

/*
 * Bits of pfns [first_pfn, end_pfn), and what was left out of them so far. A range that goes past the
 * end of the window is cut there; spill_pfn then says where it ends, for the next window.
 */
struct pydump_window {
	uint8_t *bits;
	uint64_t first_pfn;
	uint64_t end_pfn;
	uint64_t resume_pfn;			/* no page below is looked at */
	uint64_t bad_orders;			/* buddy blocks of impossible order: kept */
	uint64_t left_out[6];			/* bits that went from 1 to 0, by kind */
	uint64_t spill_pfn[6];
};

/*
 * Judge the pfns [first_pfn, end_pfn) of one block and clear the bits of those that go. Both ends
 * must lie in the block and in the window. Returns the number of bits cleared.
 */
int64_t pydump_classify(const struct pydump_plan *plan, const struct pydump_block *block,
			uint64_t first_pfn, uint64_t end_pfn, struct pydump_window *window,
			uint32_t variant);

/*
 * The same for pages from first_pfn on that lie in free blocks of the largest order, one after the
 * other, as in memory that nobody uses. Only the first struct page of each is looked at; first_pfn is
 * a multiple of their size. Ends, as resume_pfn then says, before a page that may be anything else.
 */
int64_t pydump_pass_free(const struct pydump_plan *plan, const struct pydump_block *block,
			 uint64_t first_pfn, uint64_t end_pfn, struct pydump_window *window);

/*
 * What the answer of /proc/vmcore_pfn_lists to one request has said so far. Zeros before its first
 * record, but for end_pfn.
 */
struct pydump_answer {
	uint64_t end_pfn;		/* that of the request: no run goes past it */
	uint64_t next_pfn;		/* no run begins below */
	uint64_t pages[6];		/* in runs, by kind */
	uint64_t n_totals;		/* records behind the runs; the 7th is the last of all */
};

/*
 * Do what n records, in the order of the answer, say of pages that were asked about, which are those
 * of the window from window->first_pfn on: clear bits, and count them and bad orders. Returns how many
 * could be followed, from the first on: if there are fewer than n, the next is no such record.
 */
int64_t pydump_take_records(const uint8_t *records, uint64_t n, struct pydump_answer *answer,
			    struct pydump_window *window);

/*
 * Where the pages of the bits set in [first_bit, end_bit) lie, at most max of them: off[i] becomes
 * (bit - first_bit) * page_size. Returns how many; fewer than max only if there are no more.
 */
int64_t pydump_list_pages(const uint8_t *bits, uint64_t first_bit, uint64_t end_bit,
			  uint64_t page_size, uint64_t *off, uint64_t max);

/*
 * The byte ranges that cover pages at ascending off, joined where no more than gap bytes lie
 * between: spans gets (start, end) pairs, n at the most. Returns how many pairs.
 */
int64_t pydump_spans(const uint64_t *off, uint64_t n, uint64_t page_size, uint64_t gap,
		     uint64_t *spans);

/*
 * Which of n pages of page_size bytes (a multiple of 64), at pages + off[i], are all zero: zero[i]
 * becomes 1 or 0. Returns how many are.
 */
int64_t pydump_find_zero(const uint8_t *pages, uint64_t page_size, const uint64_t *off, uint64_t n,
			 uint8_t *zero, uint32_t variant);

/* What to do with one page of a batch. */
enum pydump_page_state {
	PYDUMP_PAGE_DATA,
	PYDUMP_PAGE_ZERO,		/* shares the one zero page */
	PYDUMP_PAGE_LOST		/* could not be read: no descriptor, no data */
};

/* Signatures of the functions that compress a page; pydumpfile.codecs.Signature. */
enum pydump_signature {
	PYDUMP_COMPRESS2,		/* compress2() of zlib */
	PYDUMP_LZO1X,			/* lzo1x_1_compress() and its like of lzo */
	PYDUMP_SNAPPY,			/* snappy_compress() of snappy */
	PYDUMP_LIBDEFLATE,		/* libdeflate_zlib_compress() */
	PYDUMP_ZSTD,			/* ZSTD_compress2() */
	PYDUMP_SIGNATURES
};

/* A function that some library lent, and what to call it with. */
struct pydump_compressor {
	void (*function)(void);
	void *workspace;		/* of the library's own kind: one for each thread */
	uint32_t signature;
	int32_t level;			/* compress2() is told; others have it in their workspace */
	uint32_t passes_noise;		/* pages of noise are not tried: the function is slow on them */
};

/* Whether a page looks like random bytes, by a part of it: then compressing does not make it smaller. */
int pydump_is_noise(const uint8_t *page, uint64_t page_size);

/* Some pages, where they are, and where in the dump they go. */
struct pydump_batch {
	const uint8_t *pages;
	const uint64_t *off;		/* of each page, in pages */
	const uint8_t *state;		/* enum pydump_page_state of each page */
	uint64_t n;
	uint64_t page_size;
	uint64_t data_off;		/* file offset of the first page's data */
	uint64_t zero_off;		/* file offset of the shared zero page */
	uint32_t codec_flag;		/* descriptor flag of a compressed page */
};

/* How large pydump_encode()'s out has to be: libraries may write more than they keep. */
uint64_t pydump_encode_room(uint64_t n_pages, uint64_t page_size);

/*
 * The data of a batch, one page behind the other in out: compressed if compressor is not NULL and
 * the page gets smaller by it, else as it is. sizes gets the length of each: page_size if it is not
 * compressed, 0 if its state says that nothing is stored. Returns the bytes of out used.
 */
int64_t pydump_encode(const struct pydump_compressor *compressor, const struct pydump_batch *batch,
		      uint8_t *out, uint64_t out_size, uint32_t *sizes);

/*
 * 24-byte kdump page descriptors of a batch with these sizes, one for each page that is not lost.
 * Returns how many.
 */
int64_t pydump_describe(const struct pydump_batch *batch, const uint32_t *sizes,
			uint8_t *descriptors);

/* Signatures of the functions that decompress a page; pydumpfile.decoders.Signature. */
enum pydump_unsignature {
	PYDUMP_UNCOMPRESS,		/* uncompress() of zlib */
	PYDUMP_UNLZO1X,			/* lzo1x_decompress_safe() of lzo */
	PYDUMP_UNSNAPPY,		/* snappy_uncompress() of snappy */
	PYDUMP_UNDEFLATE,		/* libdeflate_zlib_decompress() */
	PYDUMP_UNZSTD,			/* ZSTD_decompressDCtx() */
	PYDUMP_UNSIGNATURES
};

/* A function that some library lent, for the encoding that a page descriptor's flags name. */
struct pydump_decoder {
	void (*function)(void);		/* NULL: not needed so far, or not there */
	void *workspace;		/* of the library's own kind: one for each thread */
	uint32_t signature;
	uint32_t flag;
};

/* There are as many encodings as this. */
enum pydump_decoders {
	PYDUMP_DECODERS = 4
};

/* What descriptors say of some pages, and the bytes of the file that they lead to. */
struct pydump_stored {
	const uint64_t *off;
	const uint32_t *size;
	const uint32_t *flags;
	uint64_t n;
	uint64_t page_size;
	uint64_t zero_off;		/* where the page is that zero pages share; ~0 if none do */
	const uint8_t *data;		/* of the file, from data_off on */
	uint64_t data_off;
	uint64_t data_size;
};

/*
 * Put each page at its place in pages. Returns how many could be, from the first on: if there are
 * fewer than n, what is stored of the next is no page.
 */
int64_t pydump_decode(const struct pydump_decoder *decoders, const struct pydump_stored *stored,
		      const uint64_t *place, uint8_t *pages, uint64_t pages_size);

#endif
