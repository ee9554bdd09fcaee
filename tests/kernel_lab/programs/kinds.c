// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * kinds: pages of the kinds that do not come of themselves, in the kernel that is to crash.
 *
 *	kinds make	huge pages of both sorts, private cache, swap cache, a poisoned page; stays
 *	kinds count	how many pages there are of each kind, and free blocks of each order
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE		4096UL
#define HUGE_PAGE	(2UL << 20)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_HWPOISON
#define MADV_HWPOISON	100
#endif

/* Bits of a word of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h, fs/proc/page.c). */
#define LRU		(1ULL << 5)
#define SLAB		(1ULL << 7)
#define BUDDY		(1ULL << 10)
#define ANON		(1ULL << 12)
#define SWAPCACHE	(1ULL << 13)
#define HEAD		(1ULL << 15)
#define TAIL		(1ULL << 16)
#define HUGETLB		(1ULL << 17)
#define HWPOISON	(1ULL << 19)
#define THP		(1ULL << 22)
#define OFFLINE		(1ULL << 23)
#define PRIVATE		(1ULL << 35)

static const struct {
	const char *name;
	uint64_t mask, value;
} kinds[] = {
	{ "free", BUDDY, BUDDY },
	{ "cache", LRU | ANON | PRIVATE, LRU },
	{ "cache-private", LRU | ANON | PRIVATE, LRU | PRIVATE },
	{ "anonymous", LRU | ANON | THP, LRU | ANON },
	{ "huge", THP | HEAD, THP | HEAD },
	{ "hugetlb", HUGETLB | HEAD, HUGETLB | HEAD },
	{ "swap-cache", SWAPCACHE, SWAPCACHE },
	{ "slab", SLAB, SLAB },
	{ "poisoned", HWPOISON, HWPOISON },
	{ "offline", OFFLINE, OFFLINE },
};

static void __attribute__((noreturn)) fail(const char *what)
{
	perror(what);
	printf("LAB-FAIL kinds: %s\n", what);
	exit(1);
}

static int open_and_write(const char *path, const void *text, size_t size)
{
	int file = open(path, O_WRONLY);

	if (file < 0 || write(file, text, size) != (ssize_t)size)
		fail(path);
	return file;
}

static void write_all(const char *path, const void *text, size_t size)
{
	close(open_and_write(path, text, size));
}

static unsigned char *map(size_t size, int flags)
{
	unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

static void touch(unsigned char *at, size_t size)
{
	for (size_t off = 0; off < size; off += PAGE)
		at[off] = 1;
}

static void make_huge(void)
{
	unsigned char *at = map(5 * HUGE_PAGE, 0);

	if (madvise(at, 5 * HUGE_PAGE, MADV_HUGEPAGE))
		fail("MADV_HUGEPAGE");
	touch(at, 5 * HUGE_PAGE);
}

/* More than are used: those that are not are a case of their own. */
static void make_hugetlb(void)
{
	write_all("/proc/sys/vm/nr_hugepages", "8", 1);
	touch(map(3 * HUGE_PAGE, MAP_HUGETLB), 3 * HUGE_PAGE);
}

/*
 * What is written to a block device by way of its cache has buffer heads. The cache goes when the
 * device is closed.
 */
static void make_private_cache(void)
{
	static unsigned char text[2 << 20];

	memset(text, 'p', sizeof(text));
	open_and_write("/dev/ram0", text, sizeof(text));
}

/* The swap's header, as mkswap makes it: version, last page, no bad ones; the magic ends the page. */
static void add_swap(const char *path, uint32_t n_pages)
{
	unsigned char header[PAGE] = { 0 };
	uint32_t words[] = { 1, n_pages - 1, 0 };

	memcpy(header + 1024, words, sizeof(words));
	memcpy(header + PAGE - 10, "SWAPSPACE2", 10);
	write_all(path, header, sizeof(header));
	if (swapon(path, 0))
		fail("swapon");
}

/*
 * Of what is swapped out and read again the slot stays, and the page with it in the swap cache, as
 * long as another process has not read it.
 */
static void make_swap_cache(void)
{
	size_t size = 256 * PAGE;
	unsigned char *at = map(size, 0);
	volatile unsigned char sum = 0;

	add_swap("/dev/ram1", 512);
	touch(at, size);
	if (madvise(at, size, MADV_PAGEOUT))
		fail("MADV_PAGEOUT");
	if (!fork()) {
		pause();
		_exit(0);
	}
	for (size_t off = 0; off < size / 2; off += PAGE)
		sum += at[off];
}

/* In a process of its own, should the kernel think it cannot go on. */
static void make_poisoned(void)
{
	if (!fork()) {
		unsigned char *at = map(PAGE, 0);

		touch(at, PAGE);
		if (madvise(at, PAGE, MADV_HWPOISON))
			fail("MADV_HWPOISON");
		pause();
		_exit(0);
	}
}

static void count(void)
{
	unsigned long n[sizeof(kinds) / sizeof(kinds[0])] = { 0 };
	FILE *file = fopen("/proc/kpageflags", "r");
	uint64_t flags;

	if (!file)
		fail("/proc/kpageflags");
	while (fread(&flags, sizeof(flags), 1, file) == 1) {
		for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++)
			n[i] += (flags & kinds[i].mask) == kinds[i].value;
	}
	fclose(file);
	for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++)
		printf("LAB-KIND %s %lu\n", kinds[i].name, n[i]);
}

/* Of all zones together. */
static void count_orders(void)
{
	unsigned long n[64] = { 0 }, blocks;
	FILE *file = fopen("/proc/buddyinfo", "r");
	char line[1024];
	int order = 0, n_orders = 0, begin, used;

	if (!file)
		fail("/proc/buddyinfo");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %*d, zone %*s%n", &begin) < 0)
			fail("a line of /proc/buddyinfo");
		for (order = 0; sscanf(line + begin, "%lu%n", &blocks, &used) == 1; order++) {
			n[order] += blocks;
			begin += used;
		}
		n_orders = order;
	}
	fclose(file);
	for (order = 0; order < n_orders; order++)
		printf("LAB-KIND order-%d %lu\n", order, n[order]);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(argv[1], "count")) {
		count();
		count_orders();
		return 0;
	}
	if (argc != 2 || strcmp(argv[1], "make"))
		fail("usage");
	make_hugetlb();
	make_huge();
	make_private_cache();
	make_swap_cache();
	make_poisoned();
	printf("LAB-MADE\n");
	for (;;)
		pause();
}
