// SPDX-License-Identifier: GPL-2.0-or-later
/* The kernel's own functions, as they are in the patches, made callable from a test. */
#include "oldmem_ranges.c"
#include "oldmem_tables.h"

unsigned long tables_needed(unsigned long start, unsigned long end, unsigned int page_shift,
			    unsigned int leaf_shift, unsigned int top_shift)
{
	return oldmem_tables_needed(start, end, page_shift, leaf_shift, top_shift);
}
