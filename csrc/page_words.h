/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What page_judge.h takes from where it is compiled. The kernel has a page_words.h of its own. */
#ifndef PYDUMP_PAGE_WORDS_H
#define PYDUMP_PAGE_WORDS_H

#include "vmcore_pfn_lists.h"
#include "words.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#endif
