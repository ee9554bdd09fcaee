// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * workload: fill the guest with every kind of page, write down which page is what, panic.
 *
 *	workload small|full|none RECORD-DISK [dump]
 *
 * Runs as root in the first kernel.  With "dump" the host is asked for QEMU's own core first.
 */
#define _GNU_SOURCE
#include "workload.h"

#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SMALL_BASE_MIB	150	/* "small" sizes itself as if this were all there is */

static void work(bool full)
{
	size_t avail_mib, base_mib;	/* the shares of the kinds are taken of base_mib */

	start_sleepers(full ? 64 : 12);
	offline_a_block();
	avail_mib = meminfo_kib("MemAvailable") / 1024;
	base_mib = !full && avail_mib > SMALL_BASE_MIB ? SMALL_BASE_MIB : avail_mib;
	say("%zu MiB available, sizes are shares of %zu MiB", avail_mib, base_mib);
	for (size_t i = 0; i < n_kinds; i++) {
		size_t size = base_mib * MIB / 1000 * kinds[i].permille;

		kinds[i].make(&kinds[i], (size + 0xffff) & ~0xffffUL);
		say("made %s, %zu MiB", kinds[i].name, size / MIB);
	}
	poison_pages();
	sync();
	/* Last: or the pages the others freed would be the only dirty free ones. */
	dirty_and_free(meminfo_kib("MemFree") / 10 * 6 * 1024);
	say("dirtied free memory");
}

int main(int argc, char **argv)
{
	if (argc < 3)
		fail("usage: workload small|full|none RECORD-DISK [dump]");
	record_fd = open(argv[2], O_RDWR | O_DIRECT);
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (record_fd < 0 || pagemap_fd < 0)
		fail("%s or /proc/self/pagemap", argv[2]);
	prctl(PR_SET_NAME, "lab-workload");

	if (strcmp(argv[1], "none"))
		work(!strcmp(argv[1], "full"));
	record_and_panic(argc > 3 && !strcmp(argv[3], "dump"));
}
