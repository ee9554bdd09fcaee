// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * oldmem_lab: what the kernel lab needs done inside a kernel.
 *
 *	insmod oldmem_lab.ko			says where the direct mapping is
 *	insmod ... not_ram_every=7		a vmcore_cb for which each 7th page is not RAM
 *	insmod ... not_ram_start=PADDR not_ram_end=PADDR
 *						of those between only
 *	insmod ... offline_pages=3		keeps pages that are offline, as a balloon does
 *	insmod ... ceiling_mib=64		how fast memcpy() can be
 *	insmod ... map_function=ADDRESS demo_paddr=PADDR
 *						what init_memory_mapping(), at ADDRESS, does
 *						with a part of a large page; PADDR is that of
 *						2 MiB that are not mapped
 */
#define pr_fmt(fmt) "oldmem_lab: " fmt

#include <linux/crash_dump.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

static unsigned int not_ram_every;
module_param(not_ram_every, uint, 0444);
static unsigned long not_ram_start;
module_param(not_ram_start, ulong, 0444);
static unsigned long not_ram_end = ULONG_MAX;
module_param(not_ram_end, ulong, 0444);
static unsigned int nr_offline;
module_param_named(offline_pages, nr_offline, uint, 0444);
static unsigned int ceiling_mib;
module_param(ceiling_mib, uint, 0444);
/* Where init_memory_mapping() is; modules may not call it by name. */
static unsigned long map_function;
module_param(map_function, ulong, 0444);
static unsigned long demo_paddr;
module_param(demo_paddr, ulong, 0444);

static bool pfn_is_ram(struct vmcore_cb *cb, unsigned long pfn)
{
	return pfn < PHYS_PFN(not_ram_start) || pfn >= PHYS_PFN(not_ram_end) ||
	       pfn % not_ram_every;
}

static struct vmcore_cb vmcore_cb = { .pfn_is_ram = pfn_is_ram };

/* Copies 1 MiB again and again, as read() of a large block would at best. */
static int measure_ceiling(void)
{
	void *from = kmalloc(SZ_1M, GFP_KERNEL | __GFP_ZERO);
	void *to = kmalloc(SZ_1M, GFP_KERNEL | __GFP_ZERO);
	ktime_t begin;
	unsigned int i;

	if (!from || !to) {
		kfree(from);
		kfree(to);
		return -ENOMEM;
	}
	begin = ktime_get();
	for (i = 0; i < ceiling_mib; i++) {
		/* By this name the compiler cannot make an own one of it. */
		__memcpy(to, from, SZ_1M);
		barrier();
	}
	pr_info("memcpy %u MiB %lld ns\n", ceiling_mib,
		ktime_to_ns(ktime_sub(ktime_get(), begin)));
	kfree(from);
	kfree(to);
	return 0;
}

/* For good: the machine is about to crash. */
static int keep_offline_pages(void)
{
	for (; nr_offline; nr_offline--) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			return -ENOMEM;
		__SetPageOffline(page);
	}
	return 0;
}

static void show_entry(const char *when, unsigned long vaddr)
{
	unsigned int level;
	pte_t *pte = lookup_address(vaddr, &level);

	pr_info("demo: %s: entry for %#lx: %#lx\n", when, vaddr - PAGE_OFFSET,
		pte ? pte_val(*pte) : 0);
}

/* Maps 2 MiB that are a hole, then the second page of them, and looks at its neighbours. */
static void demonstrate_split(void)
{
	unsigned long (*map)(unsigned long start, unsigned long end, pgprot_t prot) =
		(void *)map_function;
	unsigned long vaddr = (unsigned long)__va(demo_paddr);

	show_entry("before", vaddr);
	map(demo_paddr, demo_paddr + SZ_2M, PAGE_KERNEL);
	show_entry("2 MiB mapped", vaddr);
	map(demo_paddr + PAGE_SIZE, demo_paddr + 2 * PAGE_SIZE, PAGE_KERNEL_RO);
	show_entry("its 2nd page mapped again, first page", vaddr);
	show_entry("its 2nd page mapped again, second page", vaddr + PAGE_SIZE);
	show_entry("its 2nd page mapped again, third page", vaddr + 2 * PAGE_SIZE);
}

static int __init oldmem_lab_init(void)
{
	pr_info("PAGE_OFFSET=%#lx VMALLOC_START=%#lx\n", PAGE_OFFSET, VMALLOC_START);
	if (not_ram_every)
		register_vmcore_cb(&vmcore_cb);
	if (ceiling_mib && measure_ceiling())
		return -ENOMEM;
	if (map_function && demo_paddr)
		demonstrate_split();
	return keep_offline_pages();
}
module_init(oldmem_lab_init);

MODULE_DESCRIPTION("what the kernel lab needs done inside a kernel");
MODULE_LICENSE("GPL");
