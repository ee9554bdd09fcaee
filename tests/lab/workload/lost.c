// SPDX-License-Identifier: GPL-2.0-or-later
/* lost: memory that is freed, taken offline or poisoned, with what it held still in it. */
#define _GNU_SOURCE
#include "workload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

/* Fill @size bytes and free them again; what they held stays in the free pages. */
void dirty_and_free(size_t size)
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

char offline_reason[160] = "not tried";
uint64_t offlined_first_pfn, offlined_end_pfn;

/* The hot-added DIMM: put it online, dirty it, take it offline again. */
void offline_a_block(void)
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

char poison_reason[160] = "not tried";
uint64_t poisoned_pfns[2];

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
		snprintf(poison_reason, sizeof(poison_reason), "madvise(%d): %s%s", advice,
			 strerror(error),
			 error == EINVAL ? " (kernel without CONFIG_MEMORY_FAILURE)" : "");
		pfn = 0;
	}
	close(ends[0]);
	waitpid(child, NULL, 0);
	return pfn;
}

void poison_pages(void)
{
	unsigned char *page = map_anonymous(PAGE_SIZE * 2, 0);

	if (!page)
		fail("mmap");
	fill(page, PAGE_SIZE * 2, fill_noise);
	poisoned_pfns[0] = poison(page, MADV_HWPOISON);
	if (poisoned_pfns[0])
		poisoned_pfns[1] = poison(page + PAGE_SIZE, MADV_SOFT_OFFLINE);
}
