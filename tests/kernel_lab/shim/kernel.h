/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What fs/proc/vmcore_pfn_lists.c takes from the kernel, in user space. Whatever is allocated is so
 * by malloc(), byte for byte, for AddressSanitizer to see what is read beyond.
 */
#ifndef LAB_KERNEL_H
#define LAB_KERNEL_H

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef uint8_t u8;
typedef uint32_t u32, __u32;
typedef unsigned long long u64, __u64, __le64;

#define __user
#define __init
#define __aligned(n)		__attribute__((aligned(n)))
#define READ_ONCE(x)		(*(const volatile typeof(x) *)&(x))
#define le64_to_cpu(x)		(x)
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define IS_ALIGNED(x, a)	(((x) & ((typeof(x))(a) - 1)) == 0)
#define min(a, b)		((a) < (b) ? (a) : (b))
#define max(a, b)		((a) > (b) ? (a) : (b))
#define min3(a, b, c)		min(min(a, b), c)
#define min_t(type, a, b)	min((type)(a), (type)(b))

#define PAGE_SIZE		4096UL
#define offset_in_page(p)	((unsigned long)(p) % PAGE_SIZE)
#define GFP_KERNEL		0
#define kvzalloc(size, gfp)	calloc(1, size)
#define kvfree(at)		free(at)
#define IS_ERR(at)		((uintptr_t)(at) >= (uintptr_t)-4095)
#define PTR_ERR(at)		((long)(at))

struct mutex { int dummy; };
#define mutex_init(mutex)		((void)(mutex))
#define mutex_lock_interruptible(mutex)	((void)(mutex), 0)
#define mutex_unlock(mutex)		((void)(mutex))

#define CAP_SYS_ADMIN		21
#define capable(which)		true
#define ERESTARTSYS		512
#define cond_resched()		((void)0)
#define signal_pending(task)	lab_signal_pending()
bool lab_signal_pending(void);

struct inode;
struct file { void *private_data; };
struct proc_dir_entry;
struct proc_ops {
	int (*proc_open)(struct inode *inode, struct file *file);
	ssize_t (*proc_read)(struct file *file, char *buffer, size_t size, loff_t *ppos);
	ssize_t (*proc_write)(struct file *file, const char *buffer, size_t size, loff_t *ppos);
	int (*proc_release)(struct inode *inode, struct file *file);
};
#define stream_open(inode, file)	0
extern const struct proc_ops *lab_proc_ops;
#define proc_create(name, mode, parent, ops)	(lab_proc_ops = (ops), NULL)

static inline void *vmemdup_user(const void *from, size_t size)
{
	return memcpy(malloc(size), from, size);
}

static inline unsigned long copy_to_user(void *to, const void *from, size_t size)
{
	memcpy(to, from, size);
	return 0;
}

#endif
