// SPDX-License-Identifier: GPL-2.0-or-later
/* kinds: one function for each kind of page; they allocate, fill and keep. */
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_1G		(1024 * MIB)

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif
#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB	(30 << 26)
#endif

static void __attribute__((format(printf, 2, 3))) skip(struct kind *kind, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(kind->skipped, sizeof(kind->skipped), format, arguments);
	va_end(arguments);
	say("no %s: %s", kind->name, kind->skipped);
}

unsigned char *map_anonymous(size_t size, int flags)
{
	unsigned char *start = mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return start == MAP_FAILED ? NULL : start;
}

static void make_anonymous(struct kind *kind, size_t size, void (*fill_page)(unsigned char *))
{
	kind->start = map_anonymous(size, 0);
	if (!kind->start)
		fail("mmap for %s", kind->name);
	kind->size = size;
	madvise(kind->start, size, MADV_NOHUGEPAGE);
	fill(kind->start, size, fill_page);
}

static void make_anon_random(struct kind *kind, size_t size)
{
	make_anonymous(kind, size, fill_noise);
}

static void make_anon_text(struct kind *kind, size_t size)
{
	make_anonymous(kind, size, fill_text);
}

static void make_anon_zero(struct kind *kind, size_t size)
{
	make_anonymous(kind, size, fill_zero);
}

static void make_thp(struct kind *kind, size_t size)
{
	unsigned char *start;

	/* Below 512 MiB the kernel starts with THP off (hugepage_init() in mm/huge_memory.c). */
	write_text("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
	size = (size + HUGE_2M - 1) & ~(HUGE_2M - 1);
	start = map_anonymous(size + HUGE_2M, 0);
	if (!start)
		fail("mmap for %s", kind->name);
	start = (unsigned char *)(((uintptr_t)start + HUGE_2M - 1) & ~(HUGE_2M - 1));
	if (madvise(start, size, MADV_HUGEPAGE)) {
		skip(kind, "madvise(MADV_HUGEPAGE): %s", strerror(errno));
		return;
	}
	fill(start, size / 2, fill_noise);
	fill(start + size / 2, size - size / 2, fill_text);
	kind->start = start;
	kind->size = size;
}

static void make_hugetlb_2m(struct kind *kind, size_t size)
{
	size_t pages = (size + HUGE_2M - 1) / HUGE_2M, pool = pages + 1 + pages / 4;
	char text[32];

	/* The pool is larger than what is mapped: free hugetlb pages are a case of their own. */
	snprintf(text, sizeof(text), "%zu", pool);
	write_text("/proc/sys/vm/nr_hugepages", text);
	kind->start = map_anonymous(pages * HUGE_2M, MAP_HUGETLB | MAP_HUGE_2MB);
	if (!kind->start) {
		skip(kind, "mmap(MAP_HUGETLB) of %zu 2M pages: %s", pages, strerror(errno));
		return;
	}
	kind->size = pages * HUGE_2M;
	fill(kind->start, kind->size, fill_noise);
}

static void make_hugetlb_1g(struct kind *kind, size_t size)
{
	(void)size;
	if (!read_number("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages")) {
		skip(kind, "no 1G page was reserved at boot");
		return;
	}
	kind->start = map_anonymous(HUGE_1G, MAP_HUGETLB | MAP_HUGE_1GB);
	if (!kind->start) {
		skip(kind, "mmap(MAP_HUGE_1GB): %s", strerror(errno));
		return;
	}
	kind->size = HUGE_1G;
	fill(kind->start, 16 * MIB, fill_noise);
	fill(kind->start + HUGE_1G - 16 * MIB, 16 * MIB, fill_text);
}

static int write_file(const char *path, size_t size, void (*fill_page)(unsigned char *))
{
	static unsigned char page[PAGE_SIZE];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (size_t off = 0; fd >= 0 && off < size; off += PAGE_SIZE) {
		fill_page(page);
		if (write(fd, page, PAGE_SIZE) != PAGE_SIZE)
			fail("write %s", path);
	}
	return fd;
}

static void map_file(struct kind *kind, int fd, size_t size)
{
	kind->start = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (kind->start == MAP_FAILED)
		fail("mmap for %s", kind->name);
	kind->size = size;
	close(fd);
}

/* ext4 with 4K blocks, read back after the pages that were written (those have buffer heads) went. */
static void make_cache_clean(struct kind *kind, size_t size)
{
	int fd = write_file("/mnt/plain/clean", size, fill_text);

	if (fd < 0) {
		skip(kind, "/mnt/plain: %s", strerror(errno));
		return;
	}
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	map_file(kind, fd, size);
}

/* ext4 with 1K blocks keeps buffer heads on its pages, which sets PG_private. */
static void make_cache_private(struct kind *kind, size_t size)
{
	int fd = write_file("/mnt/small-blocks/private", size, fill_noise);

	if (fd < 0) {
		skip(kind, "/mnt/small-blocks: %s", strerror(errno));
		return;
	}
	fsync(fd);
	map_file(kind, fd, size);
}

static void make_shmem(struct kind *kind, size_t size)
{
	int fd = write_file("/dev/shm/shmem", size, fill_text);

	if (fd < 0)
		fail("/dev/shm/shmem");
	map_file(kind, fd, size);
}

/* Written out to swap and read back: the page stays in the swap cache beside its swap slot. */
static void make_swapcache(struct kind *kind, size_t size)
{
	volatile unsigned char sum = 0;

	if (!meminfo_kib("SwapTotal")) {
		skip(kind, "no swap is on");
		return;
	}
	make_anonymous(kind, size, fill_noise);
	if (madvise(kind->start, size, MADV_PAGEOUT))
		skip(kind, "madvise(MADV_PAGEOUT): %s", strerror(errno));
	for (size_t off = 0; off < size; off += PAGE_SIZE)
		sum += kind->start[off];
}

/* Paged out and left there: its page table entries are swap entries. */
static void make_swapped(struct kind *kind, size_t size)
{
	if (!meminfo_kib("SwapTotal")) {
		skip(kind, "no swap is on");
		return;
	}
	make_anonymous(kind, size, fill_text);
	if (madvise(kind->start, size, MADV_PAGEOUT))
		skip(kind, "madvise(MADV_PAGEOUT): %s", strerror(errno));
}

static void make_ksm(struct kind *kind, size_t size)
{
	make_anonymous(kind, size, fill_few_patterns);
	if (madvise(kind->start, size, MADV_MERGEABLE)) {
		skip(kind, "madvise(MADV_MERGEABLE): %s", strerror(errno));
		return;
	}
	write_text("/sys/kernel/mm/ksm/pages_to_scan", "20000");
	write_text("/sys/kernel/mm/ksm/sleep_millisecs", "20");
	write_text("/sys/kernel/mm/ksm/run", "1");
	for (int tenths = 0; tenths < 300; tenths++) {
		if (read_number("/sys/kernel/mm/ksm/pages_sharing") > size / PAGE_SIZE * 9 / 10)
			break;
		usleep(100000);
	}
	write_text("/sys/kernel/mm/ksm/run", "0");	/* stop scanning, keep what is merged */
	if (!read_number("/sys/kernel/mm/ksm/pages_sharing"))
		skip(kind, "ksmd merged nothing in 30 seconds");
}

/* Inodes and dentries in tmpfs, about 1 KiB of slab a file. */
static void make_slab(struct kind *kind, size_t size)
{
	char path[64];
	size_t files = size / 1024;

	for (size_t i = 0; i < files; i++) {
		if (i % 512 == 0) {
			snprintf(path, sizeof(path), "/tmp/slab-%zu", i / 512);
			mkdir(path, 0700);
		}
		snprintf(path, sizeof(path), "/tmp/slab-%zu/%zu", i / 512, i);
		if (mknod(path, S_IFREG | 0600, 0)) {
			skip(kind, "stopped after %zu files: %s", i, strerror(errno));
			return;
		}
	}
}

/* Pipe buffers and socket buffers: kernel pages on no list, full of user bytes. */
static void make_kernel_buffers(struct kind *kind, size_t size)
{
	static unsigned char page[PAGE_SIZE];
	struct rlimit many = { 65536, 65536 };

	setrlimit(RLIMIT_NOFILE, &many);
	for (size_t made = 0; made < size; made += 32 * PAGE_SIZE) {
		int ends[2], sockets[2];

		if (pipe2(ends, O_NONBLOCK) ||
		    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, sockets)) {
			skip(kind, "stopped after %zu MiB: %s", made / MIB, strerror(errno));
			return;
		}
		for (int i = 0; i < 16; i++) {
			fill_noise(page);
			if (write(ends[1], page, PAGE_SIZE) < 0 || write(sockets[1], page, 2048) < 0)
				break;
		}
	}
}

static void make_balloon(struct kind *kind, size_t size)
{
	size_t before = meminfo_kib("MemTotal");
	char request[64];

	if (access("/sys/bus/virtio/drivers/virtio_balloon", F_OK)) {
		skip(kind, "no virtio_balloon driver");
		return;
	}
	snprintf(request, sizeof(request), "balloon %zu", size / MIB + 1);
	ask_host(request);
	for (int tenths = 0; tenths < 200; tenths++) {
		if (before - meminfo_kib("MemTotal") >= size / 1024)
			return;
		usleep(100000);
	}
	skip(kind, "only %zu KiB inflated in 20 seconds", before - meminfo_kib("MemTotal"));
}

/* In the order made.  hugetlb first, while memory is whole; the balloon takes from what is left. */
struct kind kinds[] = {
	{ .name = "hugetlb_1g",	     .permille = 0,   .make = make_hugetlb_1g },
	{ .name = "hugetlb_2m",	     .permille = 50,  .make = make_hugetlb_2m },
	{ .name = "thp",	     .permille = 80,  .make = make_thp },
	{ .name = "anon_random",     .permille = 60,  .make = make_anon_random },
	{ .name = "anon_text",	     .permille = 60,  .make = make_anon_text },
	{ .name = "anon_zero",	     .permille = 30,  .make = make_anon_zero },
	{ .name = "cache_clean",     .permille = 70,  .make = make_cache_clean },
	{ .name = "cache_private",   .permille = 40,  .make = make_cache_private },
	{ .name = "shmem",	     .permille = 50,  .make = make_shmem },
	{ .name = "swapcache",	     .permille = 30,  .make = make_swapcache },
	{ .name = "swapped",	     .permille = 10,  .make = make_swapped },
	{ .name = "ksm",	     .permille = 20,  .make = make_ksm },
	{ .name = "slab",	     .permille = 20,  .make = make_slab },
	{ .name = "kernel_buffers",  .permille = 10,  .make = make_kernel_buffers },
	{ .name = "balloon",	     .permille = 30,  .make = make_balloon },
};

const size_t n_kinds = sizeof(kinds) / sizeof(kinds[0]);
