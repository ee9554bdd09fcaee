/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What oldmem_ranges.c takes from the kernel, in user space. */
#include <stdint.h>
#include <stddef.h>
typedef uint64_t u64;
