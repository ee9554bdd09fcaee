// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * truth: write down which page is what, then panic.
 *
 * Everything goes to the record disk with O_DIRECT, but for the last reading of /proc/kpageflags:
 * that stays in memory and is dug out of the vmcore by the host, so nothing but one read() lies
 * between the ground truth and the panic.
 */
#define _GNU_SOURCE
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MAX_RUNS	4096	/* pfn runs written per kind */

int pagemap_fd = -1;

/* The page frame behind a virtual address, 0 if no page is there. */
uint64_t pfn_of(const void *address)
{
	uint64_t entry = 0;

	if (pread(pagemap_fd, &entry, 8, (uintptr_t)address / PAGE_SIZE * 8) != 8)
		return 0;
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/* "pages": n, "pfns": [[first, end], ...], of the runs at most @max_runs */
static void print_pfns(FILE *out, const unsigned char *start, size_t size, size_t max_runs)
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
		if (end && runs++ < max_runs)
			fprintf(out, "%s[%lu, %lu]", runs > 1 ? ", " : "", first, end);
		first = pfn;
		end = pfn ? pfn + 1 : 0;
	}
	fprintf(out, "], \"pages\": %zu, \"all_pfns_listed\": %s", pages,
		runs <= max_runs ? "true" : "false");
}

int record_fd = -1;

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
	for (size_t i = 0; i < n_kinds; i++) {
		fprintf(out, "%s\n\"%s\": {", i ? "," : "", kinds[i].name);
		print_pfns(out, kinds[i].start, kinds[i].size, MAX_RUNS);
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
	print_pfns(out, flags, flags_size, SIZE_MAX);
	fprintf(out, "}}\n");
	size = ftell(out);
	if (ferror(out) || size >= capacity)
		fail("truth does not fit %zu bytes", capacity);
	fclose(out);
	return size;
}

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

void record_and_panic(bool ask_for_dump)
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
	flags = map_anonymous(capacity, 0);
	if (!flags)
		fail("mmap");
	madvise(flags, capacity, MADV_HUGEPAGE);	/* fewer runs to name; any pages will do */
	if (mlock(flags, capacity) || mlock(text, text_capacity))
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

