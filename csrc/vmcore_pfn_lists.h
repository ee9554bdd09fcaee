/* SPDX-License-Identifier: GPL-2.0-or-later WITH Linux-syscall-note */
/*
 * How pages of a crashed kernel are judged by their struct pages, and what is
 * said about it through /proc/vmcore_pfn_lists: see
 * Documentation/admin-guide/kdump/vmcore_pfn_lists.rst of the kernel.
 *
 * The same file in the kernel and in pydumpfile, whose user-space filter takes
 * the plan as well. Declarations only, apart from lines that start with '#'.
 */
#ifndef _LINUX_VMCORE_PFN_LISTS_H
#define _LINUX_VMCORE_PFN_LISTS_H

#include <linux/types.h>

/* Kinds of pages left out; pydumpfile.filter.level.Kind. */
enum pydump_kind {
	PYDUMP_FREE,
	PYDUMP_CACHE,
	PYDUMP_CACHE_PRIVATE,
	PYDUMP_USER,
	PYDUMP_HWPOISON,
	PYDUMP_OFFLINE,
	PYDUMP_KINDS
};

/*
 * A test of one aligned 64-bit word of a struct page:
 * (word at off) & mask == value, little-endian. mask 0 with value 1 is never
 * true. after: the word is in the struct page behind this one; hugetlb only.
 */
struct pydump_test {
	__u32 off;
	__u32 after;
	__u64 mask;
	__u64 value;
};

/*
 * One kernel and one dump level, folded into offsets, masks and values. No
 * versions, no levels.
 */
struct pydump_plan {
	__u32 page_size;		/* sizeof(struct page), a multiple of 8 */
	__u32 flags_off;		/* unsigned long page.flags */
	__u32 mapping_off;		/* unsigned long page.mapping */
	__u32 private_off;		/* unsigned long page.private */
	__u32 order_off;		/* word with the compound order, behind a head */
	__u32 order_shift;		/* where in that word */
	__u64 order_mask;		/* 0: the kernel does not say */
	__u32 max_order;		/* LENGTH(zone.free_area), 1 to 64 */
	__u32 drop_cache;		/* cache pages without private data go */
	__u32 drop_cache_private;	/* all cache pages go */
	__u32 drop_user;		/* anonymous and hugetlb pages go */
	struct pydump_test tail;
	struct pydump_test head;
	struct pydump_test slab_type;
	struct pydump_test slab_flag;
	struct pydump_test buddy;	/* never true unless free pages go */
	struct pydump_test unaccepted;	/* likewise */
	struct pydump_test hugetlb;
	struct pydump_test offline;
	struct pydump_test hwpoison;
	__u64 lru_mask;
	__u64 swapcache_mask;		/* all of these bits together make a page swap cache */
	__u64 private_mask;
};

#define PYDUMP_REQUEST_MAGIC	0x7374736c6e667076ULL	/* "vpfnlsts" */
#define PYDUMP_REQUEST_VERSION	1
#define PYDUMP_REQUEST_MAX	(64 << 10)		/* bytes, tables included */
#define PYDUMP_PFN_MAX		(1ULL << 52)
#define PYDUMP_STRUCT_PAGE_MAX	1024			/* bytes */
#define PYDUMP_NOWHERE		(~0ULL)

/*
 * What is written to /proc/vmcore_pfn_lists, with one write(): this, and behind
 * it n_ranges ranges, n_pieces pieces and n_extents extents.
 */
struct pydump_request {
	__u64 magic;			/* PYDUMP_REQUEST_MAGIC */
	__u32 version;			/* PYDUMP_REQUEST_VERSION */
	__u32 request_size;		/* sizeof() of each struct, as whoever asks knows it */
	__u32 plan_size;
	__u32 range_size;
	__u32 piece_size;
	__u32 extent_size;
	__u32 record_size;
	__u32 n_ranges;
	__u32 n_pieces;
	__u32 n_extents;
	__u64 end_pfn;			/* no range, piece or record goes past it */
	struct pydump_plan plan;
};

/* Pages to be judged, if there are struct pages for them. Ascending, disjoint. */
struct pydump_range {
	__u64 first_pfn;
	__u64 end_pfn;
};

/*
 * An array of struct pages: those of [first_pfn, end_pfn). Ascending, disjoint.
 * It consists of the bytes of the next n_extents extents.
 */
struct pydump_piece {
	__u64 first_pfn;
	__u64 end_pfn;
	__u32 n_extents;
	__u32 reserved;			/* 0 */
};

/*
 * Bytes of /proc/vmcore, all of the same PT_LOAD; off and size are multiples
 * of 8. PYDUMP_NOWHERE: what is there is not known. It is taken for zeros,
 * with which a page stays.
 */
struct pydump_extent {
	__u64 off;
	__u64 size;
};

/*
 * What is read: n pages from first_pfn on go, and why. After the last of them,
 * one record for each kind and one for bad orders, with a total in place of
 * first_pfn and n being 0.
 */
struct pydump_record {
	__u64 first_pfn;
	__u64 n_kind;			/* n << 8 | kind */
};

#define PYDUMP_TOTAL		0x80	/* | kind: pages in records of that kind */
#define PYDUMP_BAD_ORDERS	0x90	/* free blocks of impossible order: kept */

#endif
