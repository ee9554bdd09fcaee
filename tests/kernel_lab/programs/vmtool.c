// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtool: what the kernel lab does in its guests.
 *
 *	vmtool fill PERCENT [holes]	stamp one page in eight of so much of the free memory, and stay;
 *					holes: free single pages again, here and there
 *	vmtool cache FILE PERCENT	have so much of the free memory be page cache of FILE, in a tmpfs,
 *					without touching it; of each 64 pages one is a hole
 *	vmtool hash read BLOCK		SHA-256 of /proc/vmcore, read with blocks of BLOCK bytes;
 *					the digest is the one sha256sum would print
 *	vmtool hash mmap WINDOW		the same, through mmap windows of WINDOW bytes
 *	vmtool copy MIB			how fast user space can copy memory
 *	vmtool hash-failing BLOCK	as hash read, but opened subject to fault injection
 *	vmtool headers			physical address and size of each PT_LOAD of /proc/vmcore
 *	vmtool drain			wait until the console has all that was printed
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "sha256.h"

#define PAGE	4096UL

static void __attribute__((noreturn)) fail(const char *what)
{
	perror(what);
	printf("LAB-FAIL vmtool: %s\n", what);
	exit(1);
}

static void *memory(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED)
		fail("mmap of memory");
	return at;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static void hash_by_read(struct sha256 *hash, int file, size_t block)
{
	unsigned char *buffer = memory(block);
	ssize_t got;

	while ((got = read(file, buffer, block)) > 0)
		sha256_add(hash, buffer, got);
	if (got < 0)
		fail("read of /proc/vmcore");
}

static void hash_by_mmap(struct sha256 *hash, int file, size_t window, uint64_t size)
{
	for (uint64_t off = 0; off < size; off += window) {
		size_t length = size - off < window ? size - off : window;
		void *at = mmap(NULL, length, PROT_READ, MAP_PRIVATE, file, off);

		if (at == MAP_FAILED)
			fail("mmap of /proc/vmcore");
		sha256_add(hash, at, length);
		munmap(at, length);
	}
}

static int open_vmcore(void)
{
	int file = open("/proc/vmcore", O_RDONLY);

	if (file < 0)
		fail("/proc/vmcore");
	return file;
}

static void hash_vmcore(int file, const char *how, size_t block)
{
	struct sha256 hash;
	struct stat status;
	uint64_t size;
	char digest[65];

	if (fstat(file, &status))
		fail("stat of /proc/vmcore");
	size = status.st_size;
	sha256_begin(&hash);
	if (!strcmp(how, "mmap"))
		hash_by_mmap(&hash, file, block, size);
	else
		hash_by_read(&hash, file, block);
	if (hash.length != size)
		fail("/proc/vmcore is not as long as it says");
	sha256_end(&hash, digest);
	printf("LAB-HASH %s %s %zu %llu\n", digest, how, block, (unsigned long long)size);
}

static void show_headers(int file)
{
	Elf64_Ehdr elf;
	Elf64_Phdr load;

	if (pread(file, &elf, sizeof(elf), 0) != sizeof(elf))
		fail("ELF header of /proc/vmcore");
	for (unsigned int i = 0; i < elf.e_phnum; i++) {
		if (pread(file, &load, sizeof(load), elf.e_phoff + i * sizeof(load)) !=
		    sizeof(load))
			fail("program header of /proc/vmcore");
		if (load.p_type == PT_LOAD)
			printf("LAB-LOAD %#lx %#lx\n", load.p_paddr, load.p_memsz);
	}
}

/* Free every third page, but no more than a process may have mappings. */
static void make_holes(unsigned char *at, size_t size)
{
	size_t end = size < 90000 * PAGE ? size : 90000 * PAGE;

	for (size_t off = 0; off < end; off += 3 * PAGE) {
		if (munmap(at + off, PAGE))
			fail("munmap of a page");
	}
}

static void fill(unsigned int percent, int holes)
{
	struct sysinfo info;
	uint64_t random = 88172645463325252ULL;
	size_t size, pages = 0;
	unsigned char *at;

	sysinfo(&info);
	size = info.freeram / 100 * percent * info.mem_unit & -PAGE;
	if (!size)
		size = PAGE;
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		fail("mmap of memory to fill");
	for (size_t off = 0; off < size; off += PAGE) {
		uint64_t *page = (uint64_t *)(at + off);

		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		page[0] = 0;	/* the page is there, all zero */
		if (random % 8)
			continue;
		for (int word = 0; word < 512; word += 64)
			page[word] = random + word;
		page[511] = off;
		pages++;
	}
	if (holes)
		make_holes(at, size);
	printf("LAB-FILLED %zu of %zu pages\n", pages, size / PAGE);
	fflush(stdout);
	pause();
}

/* Pages that are allocated to a file of a tmpfs are not cleared before they are used. */
static void fill_cache(const char *path, unsigned int percent)
{
	struct sysinfo info;
	size_t size;
	int file = open(path, O_RDWR | O_CREAT, 0600);

	if (file < 0)
		fail("file to fill the page cache");
	sysinfo(&info);
	size = info.freeram / 100 * percent * info.mem_unit & -PAGE;
	if (fallocate(file, 0, 0, size))
		fail("fallocate");
	for (size_t off = 0; off + PAGE <= size; off += 64 * PAGE) {
		if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, PAGE))
			fail("fallocate of a hole");
	}
	printf("LAB-CACHED %zu pages\n", size / PAGE);
}

/* As the kernel copies on this CPU, 8 bytes at a time: what read() could reach at best. */
static void copy(unsigned int mib)
{
	/* Not a multiple of 128 MiB apart: emulated TLBs are direct-mapped. */
	unsigned char *from = memory((1UL << 20) + 3 * PAGE), *to = memory((1UL << 20) + 5 * PAGE);
	uint64_t begin = now_ns();

	for (unsigned int i = 0; i < mib; i++) {
		unsigned long words = (1UL << 20) / 8;
		void *source = from, *target = to;

		asm volatile("rep movsq" : "+c"(words), "+S"(source), "+D"(target) : : "memory");
	}
	printf("LAB-USER-COPY %u MiB %llu ns\n", mib, (unsigned long long)(now_ns() - begin));
}

/* Which allocations fail is set up in fail_page_alloc; whose, here. */
static void make_me_fail(const char *value)
{
	int control = open("/proc/self/make-it-fail", O_WRONLY);

	if (control < 0 || write(control, value, strlen(value)) < 0)
		fail("/proc/self/make-it-fail");
	close(control);
}

static int open_failing(void)
{
	int file;

	make_me_fail("1");
	file = open_vmcore();
	make_me_fail("0");
	return file;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "hash"))
		hash_vmcore(open_vmcore(), argv[2], strtoul(argv[3], NULL, 0));
	else if (argc == 3 && !strcmp(argv[1], "fill"))
		fill(atoi(argv[2]), 0);
	else if (argc == 4 && !strcmp(argv[1], "fill") && !strcmp(argv[3], "holes"))
		fill(atoi(argv[2]), 1);
	else if (argc == 4 && !strcmp(argv[1], "cache"))
		fill_cache(argv[2], atoi(argv[3]));
	else if (argc == 3 && !strcmp(argv[1], "copy"))
		copy(atoi(argv[2]));
	else if (argc == 3 && !strcmp(argv[1], "hash-failing"))
		hash_vmcore(open_failing(), "read", strtoul(argv[2], NULL, 0));
	else if (argc == 2 && !strcmp(argv[1], "headers"))
		show_headers(open_vmcore());
	else if (argc == 2 && !strcmp(argv[1], "drain"))
		return tcdrain(STDOUT_FILENO) ? 1 : 0;
	else
		fail("usage");
	return 0;
}
