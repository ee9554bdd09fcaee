/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fs/proc/vmcore_pfn_lists.c in user space, for a core file in place of /proc/vmcore.
 *
 *	harness answer CORE DIRECT SIZE <REQUEST >RECORDS
 *		DIRECT: bytes at most that are looked at in place, 0: all is copied; SIZE: of the
 *		buffer to read with. The status is the error number of write(), then of read().
 *	harness garble CORE SEED N <REQUEST
 *		N garbled requests; says how many were taken
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "vmcore_pfn_lists.c"

#define MAX_PARTS	20000	/* reads of one answer to a garbled request */

const struct proc_ops *lab_proc_ops;
static const u8 *core;
static u64 core_size;
static size_t direct_max;
static void *looked_at;		/* exactly what vmcore_direct() gave last */
static unsigned int checks_left = UINT_MAX;

bool lab_signal_pending(void)
{
	return checks_left-- == 0;
}

void vmcore_prepare(void)
{
}

static const Elf64_Phdr *phdrs(unsigned int *n)
{
	const Elf64_Ehdr *elf = (const void *)core;
	const Elf64_Shdr *first = (const void *)(core + elf->e_shoff);

	*n = elf->e_phnum == PN_XNUM ? first->sh_info : elf->e_phnum;
	return (const void *)(core + elf->e_phoff);
}

/* Physical addresses are offsets here, but not the same: shifted by a page. */
int vmcore_locate(u64 off, u64 size, u64 *paddr)
{
	unsigned int n;
	const Elf64_Phdr *load = phdrs(&n);

	for (; n--; load++) {
		if (load->p_type != PT_LOAD || off < load->p_offset ||
		    off - load->p_offset >= load->p_filesz)
			continue;
		if (size > load->p_filesz - (off - load->p_offset))
			break;
		*paddr = off + PAGE_SIZE;
		return 0;
	}
	return -ENXIO;
}

const void *vmcore_direct(u64 paddr, size_t *size)
{
	free(looked_at);
	looked_at = NULL;
	*size = min(*size, direct_max);
	if (!*size)
		return NULL;
	if (paddr - PAGE_SIZE > core_size || *size > core_size - (paddr - PAGE_SIZE))
		abort();
	looked_at = malloc(*size);
	return memcpy(looked_at, core + (paddr - PAGE_SIZE), *size);
}

int vmcore_copy(void *to, u64 paddr, size_t size)
{
	if (offset_in_page(paddr) + size > PAGE_SIZE || paddr - PAGE_SIZE > core_size ||
	    size > core_size - (paddr - PAGE_SIZE))
		abort();
	memcpy(to, core + (paddr - PAGE_SIZE), size);
	return 0;
}

static void open_core(const char *path)
{
	int file = open(path, O_RDONLY);
	struct stat status;

	if (file < 0 || fstat(file, &status))
		abort();
	core_size = status.st_size;
	core = mmap(NULL, core_size, PROT_READ, MAP_PRIVATE, file, 0);
	if (core == MAP_FAILED)
		abort();
}

static int answer(struct file *file, const u8 *request, u64 request_size, size_t size)
{
	ssize_t n = lab_proc_ops->proc_write(file, (const char *)request, request_size, NULL);
	char *buffer = malloc(size);

	while (n > 0) {
		n = lab_proc_ops->proc_read(file, buffer, size, NULL);
		if (n > 0)
			fwrite(buffer, 1, n, stdout);
	}
	free(buffer);
	return -n;
}

/* A signal ends what would take long. */
static void garble(struct file *file, const u8 *request, u64 size, u64 random, unsigned int n)
{
	char *buffer = malloc(1 << 16);
	unsigned int taken = 0;
	loff_t pos = 0;

	while (n--) {
		u8 *copy = memcpy(malloc(size), request, size);
		unsigned int changes, parts = 0;

#define NEXT (random ^= random << 13, random ^= random >> 7, random ^= random << 17, random >> 11)
		for (changes = 1 + NEXT % 4; changes--;) {
			static const u8 likely[] = { 0, 1, 7, 8, 0x3f, 0x40, 0x7f, 0x80, 0xff };
			u64 at = NEXT % 4 ? 48 + NEXT % (size - 48) : NEXT % size;

			copy[at] = NEXT % 4 ? likely[NEXT % sizeof(likely)] : NEXT;
		}
		direct_max = NEXT % 3 ? NEXT % 70000 : 0;
		checks_left = UINT_MAX;
		if (lab_proc_ops->proc_write(file, (const char *)copy, size, &pos) > 0) {
			taken++;
			checks_left = 3000;
			while (parts++ < MAX_PARTS &&
			       lab_proc_ops->proc_read(file, buffer, 16 + NEXT % 60000, &pos) > 0)
				;
		}
		free(copy);
	}
	free(buffer);
	printf("%u taken\n", taken);
}

int main(int argc, char **argv)
{
	static u8 all[2 * PYDUMP_REQUEST_MAX];
	struct file file;
	u64 size = fread(all, 1, sizeof(all), stdin);
	u8 *request = memcpy(malloc(size), all, size);
	int status = 0;

	if (argc != 5)
		return 2;
	open_core(argv[2]);
	vmcore_pfn_lists_create();
	lab_proc_ops->proc_open(NULL, &file);
	if (!strcmp(argv[1], "answer")) {
		direct_max = strtoul(argv[3], NULL, 0);
		status = answer(&file, request, size, strtoul(argv[4], NULL, 0));
	} else {
		garble(&file, request, size, strtoull(argv[3], NULL, 0) * 2 + 1, atoi(argv[4]));
	}
	lab_proc_ops->proc_release(NULL, &file);
	free(looked_at);
	free(request);
	return status;
}
