// SPDX-License-Identifier: GPL-2.0-or-later
/* Which variants of the loops this processor can run: asked of it, not assumed at compile time. */
#include "pagescan.h"

uint32_t pydump_variants(void)
{
	uint32_t variants = 1u << PYDUMP_SCALAR;

#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2"))
		variants |= 1u << PYDUMP_AVX2;
#elif defined(__aarch64__)
	variants |= 1u << PYDUMP_NEON;
#endif
	return variants;
}
