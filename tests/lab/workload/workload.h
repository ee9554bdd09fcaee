// SPDX-License-Identifier: GPL-2.0-or-later
/* workload.h: what the parts of the workload know of each other. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define PAGE_SIZE	4096UL
#define MIB		(1UL << 20)
#define HUGE_2M		(2 * MIB)

/* system.c */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int write_text(const char *path, const char *text);
int read_text(const char *path, char *text, size_t size);
unsigned long read_number(const char *path);
size_t meminfo_kib(const char *key);
void ask_host(const char *request);

/* contents.c */
void fill_noise(unsigned char *page);
void fill_text(unsigned char *page);
void fill_zero(unsigned char *page);
void fill_few_patterns(unsigned char *page);
void fill(unsigned char *start, size_t size, void (*fill_page)(unsigned char *));

/* kinds.c */
/* One kind's outcome: mapped memory whose pfns can be looked up, or a reason there is none. */
struct kind {
	const char *name;
	unsigned int permille;		/* share of base_mib */
	void (*make)(struct kind *kind, size_t size);
	unsigned char *start;
	size_t size;
	char skipped[128];
};

extern struct kind kinds[];
extern const size_t n_kinds;
unsigned char *map_anonymous(size_t size, int flags);

/* lost.c */
extern char offline_reason[160], poison_reason[160];
extern uint64_t offlined_first_pfn, offlined_end_pfn, poisoned_pfns[2];
void dirty_and_free(size_t size);
void offline_a_block(void);
void poison_pages(void);

/* tasks.c */
void start_sleepers(unsigned int count);
void print_json_string(FILE *out, const char *text);
void print_tasks(FILE *out, const char *directory);

/* truth.c */
extern int pagemap_fd, record_fd;
uint64_t pfn_of(const void *address);
void __attribute__((noreturn)) record_and_panic(bool ask_for_dump);

#endif
