// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmcopy: copy /proc/vmcore to a raw disk from inside the crash kernel, byte for byte.
 *
 *	vmcopy /proc/vmcore DISK
 *
 * Runs of zeros are not written: the disk is a fresh sparse file.  The last 4096 bytes of the disk
 * say "PYDUMPFILE-LAB vmcore SIZE\n"; they are written only after everything else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_SIZE	(1UL << 20)
#define GRAIN_SIZE	65536UL
#define TRAILER_SIZE	4096UL

static void __attribute__((noreturn)) fail(const char *what)
{
	perror(what);
	printf("LAB-FAIL vmcopy: %s\n", what);
	exit(1);
}

static int is_zero(const unsigned char *data, size_t size)
{
	return !data[0] && !memcmp(data, data + 1, size - 1);
}

int main(int argc, char **argv)
{
	unsigned char *block = mmap(NULL, BLOCK_SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	off_t size = 0, disk_size;
	int from, to;

	if (argc != 3 || block == MAP_FAILED)
		fail("usage: vmcopy VMCORE DISK");
	from = open(argv[1], O_RDONLY);
	if (from < 0)
		fail(argv[1]);
	to = open(argv[2], O_RDWR | O_DIRECT);
	if (to < 0)
		fail(argv[2]);
	disk_size = lseek(to, 0, SEEK_END);

	for (;;) {
		size_t filled = 0, grain;
		ssize_t got = 0;

		while (filled < BLOCK_SIZE &&
		       (got = read(from, block + filled, BLOCK_SIZE - filled)) > 0)
			filled += got;
		if (got < 0)
			fail("read of the vmcore");
		if (!filled)
			break;
		if (size + (off_t)filled > disk_size - (off_t)TRAILER_SIZE)
			fail("the disk is too small");
		memset(block + filled, 0, BLOCK_SIZE - filled);
		for (size_t off = 0; off < filled; off += GRAIN_SIZE) {
			grain = (filled - off + 4095) & ~4095UL;
			if (grain > GRAIN_SIZE)
				grain = GRAIN_SIZE;
			if (!is_zero(block + off, grain) &&
			    pwrite(to, block + off, grain, size + off) != (ssize_t)grain)
				fail("write to the disk");
		}
		size += filled;
	}
	memset(block, 0, TRAILER_SIZE);
	snprintf((char *)block, TRAILER_SIZE, "PYDUMPFILE-LAB vmcore %lld\n", (long long)size);
	if (pwrite(to, block, TRAILER_SIZE, disk_size - TRAILER_SIZE) != (ssize_t)TRAILER_SIZE)
		fail("write of the trailer");
	if (fsync(to))
		fail("fsync");
	printf("LAB-COPIED %lld\n", (long long)size);
	return 0;
}
