// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * workload: fill the guest with every kind of page, write down which page is what, panic.
 *
 *	workload small|full|none RECORD-DISK
 *
 * Runs as root in the first kernel.  Everything it learns goes to RECORD-DISK (see record()) with
 * O_DIRECT; the last reading of /proc/kpageflags stays in memory and is dug out of the vmcore by
 * the host, so nothing but one read() lies between the ground truth and the panic.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_SIZE	4096UL
#define MIB		(1UL << 20)
#define HUGE_2M		(2 * MIB)
#define HUGE_1G		(1024 * MIB)
#define SMALL_BASE_MIB	150	/* "small" sizes itself as if this were all there is */
#define MAX_RUNS	4096	/* pfn runs written per kind */

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif
#ifndef MAP_HUGE_1GB
#define MAP_HUGE_1GB	(30 << 26)
#endif

static size_t base_mib;		/* what the shares of the kinds are taken of */
static bool full;

/* ------------------------------------------------------------------ small tools */

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	printf("LAB-FAIL workload: ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(": %s\n", strerror(error));
	fflush(stdout);
	exit(1);
}

static void say(const char *format, ...)
{
	va_list arguments;

	printf("LAB-NOTE ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t written;

	if (fd < 0)
		return -1;
	written = write(fd, text, strlen(text));
	close(fd);
	return written < 0 ? -1 : 0;
}

static int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = read(fd, text, size - 1);
	close(fd);
	text[got > 0 ? got : 0] = 0;
	text[strcspn(text, "\n")] = 0;
	return got < 0 ? -1 : 0;
}

static unsigned long read_number(const char *path)
{
	char text[64];

	return read_text(path, text, sizeof(text)) ? 0 : strtoul(text, NULL, 0);
}

static size_t meminfo_kib(const char *key)
{
	FILE *meminfo = fopen("/proc/meminfo", "r");
	char line[128];
	size_t kib = 0;

	while (meminfo && fgets(line, sizeof(line), meminfo))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			kib = strtoul(line + strlen(key) + 1, NULL, 10);
	if (meminfo)
		fclose(meminfo);
	return kib;
}

/* Ask the host for something it must do from outside; it answers with one line. */
static void ask_host(const char *request)
{
	char answer[64];
	int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY);

	if (console < 0)
		fail("/dev/ttyS0");
	dprintf(console, "\nLAB-ASK %s\n", request);
	do {
		ssize_t got = read(console, answer, sizeof(answer) - 1);

		if (got <= 0)
			fail("no answer from the host to '%s'", request);
		answer[got] = 0;
	} while (!strstr(answer, "ok"));
	close(console);
}

/* ------------------------------------------------------------------ contents */

static uint64_t noise_state = 0x9e3779b97f4a7c15;

static void fill_noise(unsigned char *page)
{
	uint64_t *word = (uint64_t *)page;

	for (size_t i = 0; i < PAGE_SIZE / 8; i++) {
		noise_state ^= noise_state << 13;
		noise_state ^= noise_state >> 7;
		noise_state ^= noise_state << 17;
		word[i] = noise_state;
	}
}

static void fill_text(unsigned char *page)
{
	static unsigned long number;
	char sentence[64];
	int length = snprintf(sentence, sizeof(sentence),
			      "page %lu holds words that compress well. ", number++);

	for (size_t at = 0; at < PAGE_SIZE; at += length)
		memcpy(page + at, sentence,
		       PAGE_SIZE - at < (size_t)length ? PAGE_SIZE - at : (size_t)length);
}

static void fill_zero(unsigned char *page)
{
	*(volatile unsigned char *)page = 0;	/* a page of its own, not the shared zero page */
}

static void fill_few_patterns(unsigned char *page)
{
	static unsigned long number;

	memset(page, 'a' + number++ % 8, PAGE_SIZE);
}

static void fill(unsigned char *start, size_t size, void (*fill_page)(unsigned char *))
{
	for (size_t off = 0; off < size; off += PAGE_SIZE)
		fill_page(start + off);
}

/* ------------------------------------------------------------------ kinds of pages */

/* One kind's outcome: mapped memory whose pfns can be looked up, or a reason there is none. */
struct kind {
	const char *name;
	unsigned int permille;		/* share of base_mib */
	void (*make)(struct kind *kind, size_t size);
	unsigned char *start;
	size_t size;
	char skipped[128];
};

static void __attribute__((format(printf, 2, 3))) skip(struct kind *kind, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(kind->skipped, sizeof(kind->skipped), format, arguments);
	va_end(arguments);
	say("no %s: %s", kind->name, kind->skipped);
}

static unsigned char *map_anonymous(size_t size, int flags)
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
static struct kind kinds[] = {
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

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ------------------------------------------------------------------ pfns of our own pages */

static int pagemap_fd = -1;

/* The page frame behind a virtual address, 0 if no page is there. */
static uint64_t pfn_of(const void *address)
{
	uint64_t entry = 0;

	if (pread(pagemap_fd, &entry, 8, (uintptr_t)address / PAGE_SIZE * 8) != 8)
		return 0;
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* "pages": n, "pfns": [[first, end], ...] */
static void print_pfns(FILE *out, const unsigned char *start, size_t size)
{
	uint64_t first = 0, end = 0;
	size_t pages = 0, runs = 0;

	fprintf(out, "\"pfns\": [");
	for (size_t off = 0; off <= size; off += PAGE_SIZE) {
		uint64_t pfn = off < size ? pfn_of(start + off) : 0;

		pages += pfn != 0;
		if (pfn && pfn == end) {
			end++;
			continue;
		}
		if (end && runs++ < MAX_RUNS)
			fprintf(out, "%s[%lu, %lu]", runs > 1 ? ", " : "", first, end);
		first = pfn;
		end = pfn ? pfn + 1 : 0;
	}
	fprintf(out, "], \"pages\": %zu, \"all_pfns_listed\": %s", pages,
		runs <= MAX_RUNS ? "true" : "false");
}

/* ------------------------------------------------------------------ memory that goes away */

/* Fill @size bytes and free them again; what they held stays in the free pages. */
static void dirty_and_free(size_t size)
{
	pid_t child = fork();

	if (child == 0) {
		unsigned char *start;

		write_text("/proc/self/oom_score_adj", "1000");
		start = map_anonymous(size, 0);
		if (start)
			fill(start, size, fill_noise);
		_exit(start ? 0 : 1);
	}
	waitpid(child, NULL, 0);
}

/* ------------------------------------------------------------------ an offlined block */

static char offline_reason[160] = "not tried";
static uint64_t offlined_first_pfn, offlined_end_pfn;

/* The hot-added DIMM: put it online, dirty it, take it offline again. */
static void offline_a_block(void)
{
	static const char directory[] = "/sys/devices/system/memory";
	char path[128], state[32], size_text[32];
	size_t block_size;
	unsigned long number = 0;
	struct dirent *entry;
	DIR *blocks = opendir(directory);

	if (!blocks || read_text("/sys/devices/system/memory/block_size_bytes", size_text,
				 sizeof(size_text))) {
		snprintf(offline_reason, sizeof(offline_reason), "no memory hotplug in this kernel");
		return;
	}
	block_size = strtoul(size_text, NULL, 16);
	while ((entry = readdir(blocks))) {
		if (sscanf(entry->d_name, "memory%lu", &number) != 1)
			continue;
		snprintf(path, sizeof(path), "%s/memory%lu/state", directory, number);
		if (!read_text(path, state, sizeof(state)) && !strcmp(state, "offline"))
			break;
	}
	closedir(blocks);
	if (!entry) {
		snprintf(offline_reason, sizeof(offline_reason), "the hot-added DIMM did not show up");
		return;
	}
	if (write_text(path, "online_movable")) {
		snprintf(offline_reason, sizeof(offline_reason), "online_movable: %s", strerror(errno));
		return;
	}
	dirty_and_free(block_size / 4 * 3);
	for (int attempt = 0; attempt < 10; attempt++) {
		if (!write_text(path, "offline")) {
			offlined_first_pfn = number * (block_size / PAGE_SIZE);
			offlined_end_pfn = offlined_first_pfn + block_size / PAGE_SIZE;
			return;
		}
		snprintf(offline_reason, sizeof(offline_reason), "offline: %s", strerror(errno));
		usleep(200000);
	}
}

/* ------------------------------------------------------------------ poisoned pages */

static char poison_reason[160] = "not tried";
static uint64_t poisoned_pfns[2];

/* A child dies of its poisoned page; the page stays poisoned. */
static uint64_t poison(unsigned char *page, int advice)
{
	int ends[2], error = 0;
	uint64_t pfn = 0;
	pid_t child;

	if (pipe(ends))
		fail("pipe");
	child = fork();
	if (child == 0) {
		int own_pagemap = open("/proc/self/pagemap", O_RDONLY);

		pagemap_fd = own_pagemap;
		*(volatile unsigned char *)page += 1;	/* private anonymous: a copy of our own */
		pfn = pfn_of(page);
		if (write(ends[1], &pfn, sizeof(pfn)) < 0)
			_exit(1);
		if (madvise(page, PAGE_SIZE, advice))
			error = errno;
		if (write(ends[1], &error, sizeof(error)) < 0)
			_exit(1);
		_exit(0);
	}
	close(ends[1]);
	if (read(ends[0], &pfn, sizeof(pfn)) != sizeof(pfn))
		pfn = 0;
	/* No second message: killed by SIGBUS, which is what poisoning does. */
	if (read(ends[0], &error, sizeof(error)) == sizeof(error) && error) {
		snprintf(poison_reason, sizeof(poison_reason), "madvise(%d): %s", advice,
			 strerror(error));
		pfn = 0;
	}
	close(ends[0]);
	waitpid(child, NULL, 0);
	return pfn;
}

static void poison_pages(void)
{
	unsigned char *page = map_anonymous(PAGE_SIZE * 2, 0);

	if (!page)
		fail("mmap");
	fill(page, PAGE_SIZE * 2, fill_noise);
	poisoned_pfns[0] = poison(page, MADV_HWPOISON);
	if (poisoned_pfns[0])
		poisoned_pfns[1] = poison(page + PAGE_SIZE, MADV_SOFT_OFFLINE);
}

/* ------------------------------------------------------------------ tasks */

static void *idle_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	pause();
	return NULL;
}

/* Processes that sleep in different places of the kernel, one with threads. */
static void start_sleepers(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		char name[16];
		int ends[2];

		if (fork() != 0)
			continue;
		snprintf(name, sizeof(name), "lab-sleeper-%u", i);
		prctl(PR_SET_NAME, name);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		switch (i % 4) {
		case 0:
			pause();
			break;
		case 1:
			if (pipe(ends) == 0 && read(ends[0], name, 1) < 0)
				_exit(1);
			break;
		case 2:
			epoll_wait(epoll_create1(0), &(struct epoll_event){ 0 }, 1, -1);
			break;
		case 3: {
			pthread_t thread;

			pthread_create(&thread, NULL, idle_thread, "lab-thread-a");
			pthread_create(&thread, NULL, idle_thread, "lab-thread-b");
			sleep(1000000);
		}
		}
		_exit(0);
	}
	usleep(200000);
}

static void print_json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		if ((unsigned char)*text >= ' ')
			fputc(*text, out);
	}
	fputc('"', out);
}

/* [[pid, comm], ...] from a /proc-like directory; kworkers keep the suffix /proc shows. */
static void print_tasks(FILE *out, const char *directory)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	const char *separator = "";

	fprintf(out, "[");
	while (entries && (entry = readdir(entries))) {
		char path[300], comm[80];

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "%s/%s/comm", directory, entry->d_name);
		if (read_text(path, comm, sizeof(comm)))
			continue;
		fprintf(out, "%s[%s, ", separator, entry->d_name);
		print_json_string(out, comm);
		fprintf(out, "]");
		separator = ", ";
	}
	fprintf(out, "]");
	if (entries)
		closedir(entries);
}

/* ------------------------------------------------------------------ the record disk */

static int record_fd = -1;

/*
 * One record: a 4096 byte header "PYDUMPFILE-LAB name size\n", then the bytes, padded to 4096.
 * @data must be page aligned and readable up to the padding.
 */
static void record(const char *name, const void *data, size_t size)
{
	static char header[PAGE_SIZE] __attribute__((aligned(4096)));
	size_t padded = (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);

	memset(header, 0, sizeof(header));
	snprintf(header, sizeof(header), "PYDUMPFILE-LAB %s %zu\n", name, size);
	if (write(record_fd, header, sizeof(header)) != sizeof(header))
		fail("write the header of record %s", name);
	for (size_t done = 0; done < padded;) {
		size_t chunk = padded - done < MIB ? padded - done : MIB;

		if (write(record_fd, (const char *)data + done, chunk) != (ssize_t)chunk)
			fail("write record %s at %zu of %zu", name, done, padded);
		done += chunk;
	}
}

/* Read a file of unknown length into @buffer (whole pages of it are then readable). */
static size_t read_whole(const char *path, unsigned char *buffer, size_t capacity)
{
	int fd = open(path, O_RDONLY);
	size_t size = 0;
	ssize_t got;

	if (fd < 0)
		fail("%s", path);
	while (size < capacity && (got = read(fd, buffer + size, capacity - size)) > 0)
		size += got;
	close(fd);
	return size;
}

static void record_text_files(unsigned char *buffer, size_t capacity)
{
	static const char *const paths[] = {
		"/proc/meminfo", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/pagetypeinfo",
		"/proc/vmstat", "/proc/iomem", "/proc/cmdline", "/proc/cpuinfo", "/proc/modules",
		"/proc/swaps", "/proc/version", "/proc/mounts", "/sys/kernel/vmcoreinfo",
		"/sys/kernel/kexec_crash_size", "/proc/sys/kernel/tainted",
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (!access(paths[i], R_OK))
			record(paths[i] + 1, buffer, read_whole(paths[i], buffer, capacity));
}

static size_t print_truth(char *text, size_t capacity, const unsigned char *flags, size_t flags_size)
{
	FILE *out = fmemopen(text, capacity, "w");
	size_t size;

	fprintf(out, "{\"panic_pid\": %d, \"panic_comm\": \"lab-panic\",\n", getpid());
	fprintf(out, "\"tasks\": ");
	print_tasks(out, "/proc");
	fprintf(out, ",\n\"workload\": {");
	for (size_t i = 0; i < N_KINDS; i++) {
		fprintf(out, "%s\n\"%s\": {", i ? "," : "", kinds[i].name);
		print_pfns(out, kinds[i].start, kinds[i].size);
		if (kinds[i].skipped[0]) {
			fprintf(out, ", \"skipped\": ");
			print_json_string(out, kinds[i].skipped);
		}
		fprintf(out, "}");
	}
	fprintf(out, "},\n");
	if (offlined_end_pfn)
		fprintf(out, "\"offlined_block\": [%lu, %lu],\n", offlined_first_pfn,
			offlined_end_pfn);
	else {
		fprintf(out, "\"offlined_block\": null, \"offlined_block_reason\": ");
		print_json_string(out, offline_reason);
		fprintf(out, ",\n");
	}
	if (poisoned_pfns[0]) {
		fprintf(out, "\"poisoned_pfn\": %lu, \"poisoned_pfns\": [%lu", poisoned_pfns[0],
			poisoned_pfns[0]);
		if (poisoned_pfns[1])
			fprintf(out, ", %lu", poisoned_pfns[1]);
		fprintf(out, "],\n");
	} else {
		fprintf(out, "\"poisoned_pfn\": null, \"poisoned_pfns\": [], "
			"\"poisoned_pfn_reason\": ");
		print_json_string(out, poison_reason);
		fprintf(out, ",\n");
	}
	fprintf(out, "\"kpageflags_size\": %zu, \"kpageflags_buffer\": {", flags_size);
	print_pfns(out, flags, flags_size);
	fprintf(out, "}}\n");
	size = ftell(out);
	if (ferror(out) || size >= capacity)
		fail("truth does not fit %zu bytes", capacity);
	fclose(out);
	return size;
}

/* ------------------------------------------------------------------ the end */

/* From here on nothing else runs on this CPU but interrupts. */
static void stop_the_world(void)
{
	struct sched_param highest = { .sched_priority = 99 };

	write_text("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	if (sched_setscheduler(0, SCHED_FIFO, &highest))
		fail("sched_setscheduler");
}

static size_t count_bytes(const char *path, unsigned char *buffer, size_t capacity)
{
	int fd = open(path, O_RDONLY);
	size_t size = 0;
	ssize_t got;

	if (fd < 0)
		fail("%s", path);
	while ((got = read(fd, buffer, capacity)) > 0)
		size += got;
	close(fd);
	return size;
}

static void record_and_panic(bool ask_for_dump)
{
	const size_t text_capacity = 4 * MIB;
	unsigned char *text = map_anonymous(text_capacity, MAP_POPULATE);
	size_t flags_size, capacity, truth_size;
	unsigned char *flags;
	int sysrq, flags_fd;

	if (!text)
		fail("mmap");
	flags_size = count_bytes("/proc/kpageflags", text, text_capacity);
	capacity = (flags_size + HUGE_2M - 1) & ~(HUGE_2M - 1);
	flags = map_anonymous(capacity, MAP_POPULATE);
	if (!flags || mlock(flags, capacity) || mlock(text, text_capacity))
		fail("mlock of %zu bytes for kpageflags", capacity);

	record_text_files(text, text_capacity);
	sysrq = open("/proc/sysrq-trigger", O_WRONLY);
	flags_fd = open("/proc/kpageflags", O_RDONLY);
	if (sysrq < 0 || flags_fd < 0)
		fail("/proc/sysrq-trigger or /proc/kpageflags");
	prctl(PR_SET_NAME, "lab-panic");
	if (ask_for_dump)
		ask_host("dump");

	stop_the_world();
	truth_size = print_truth((char *)text, text_capacity, flags, flags_size);
	record("truth", text, truth_size);
	if (read_whole("/proc/kpagecount", flags, flags_size) != flags_size)
		fail("/proc/kpagecount is not as long as /proc/kpageflags");
	record("kpagecount", flags, flags_size);
	read_whole("/proc/kpageflags", flags, flags_size);
	record("kpageflags-before", flags, flags_size);
	record("end", flags, 0);
	printf("LAB-PANIC-NEXT\n");
	fflush(stdout);
	usleep(300000);		/* let the last write's completion and the console settle */

	for (size_t done = 0; done < flags_size;) {
		ssize_t got = read(flags_fd, flags + done, flags_size - done);

		if (got <= 0)
			fail("/proc/kpageflags, second reading");
		done += got;
	}
	if (write(sysrq, "c", 1) < 0)
		fail("/proc/sysrq-trigger");
	fail("still alive after sysrq c");
}

int main(int argc, char **argv)
{
	size_t avail_mib;

	if (argc < 3)
		fail("usage: workload small|full|none RECORD-DISK [dump]");
	full = !strcmp(argv[1], "full");
	record_fd = open(argv[2], O_RDWR | O_DIRECT);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (record_fd < 0 || pagemap_fd < 0)
		fail("%s or /proc/self/pagemap", argv[2]);
	prctl(PR_SET_NAME, "lab-workload");

	if (strcmp(argv[1], "none")) {
		start_sleepers(full ? 64 : 12);
		offline_a_block();
		avail_mib = meminfo_kib("MemAvailable") / 1024;
		base_mib = !full && avail_mib > SMALL_BASE_MIB ? SMALL_BASE_MIB : avail_mib;
		say("%zu MiB available, sizes are shares of %zu MiB", avail_mib, base_mib);
		for (size_t i = 0; i < N_KINDS; i++) {
			size_t size = base_mib * MIB / 1000 * kinds[i].permille;

			kinds[i].make(&kinds[i], (size + 0xffff) & ~0xffffUL);
			say("made %s, %zu MiB", kinds[i].name, kinds[i].size / MIB);
		}
		poison_pages();
		sync();
		/* Last: or the pages the others freed would be the only dirty free ones. */
		dirty_and_free(meminfo_kib("MemFree") / 10 * 6 * 1024);
		say("dirtied free memory");
	}
	record_and_panic(argc > 3 && !strcmp(argv[3], "dump"));
}
