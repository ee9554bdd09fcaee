// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which pages are all zero. Most pages differ early, so each variant gives up at the first 64 bytes
 * that are not; zero pages stream at memory speed. The variant is the caller's choice among those that
 * pydump_variants() names, and all give the same answer. AVX-512 is not among them: it was
 * measured no faster than AVX2, in cache or out of it.
 */
#include <string.h>

#include "pagescan.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

static int zero_scalar(const uint8_t *page, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += 64) {
		uint64_t w[8];

		memcpy(w, page + i, sizeof(w));
		if (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7])
			return 0;
	}
	return 1;
}

#if defined(__x86_64__)
__attribute__((target("avx2")))
static int zero_avx2(const uint8_t *page, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += 64) {
		__m256i a = _mm256_loadu_si256((const __m256i *)(page + i));
		__m256i b = _mm256_loadu_si256((const __m256i *)(page + i + 32));

		a = _mm256_or_si256(a, b);
		if (!_mm256_testz_si256(a, a))
			return 0;
	}
	return 1;
}
#elif defined(__aarch64__)
static int zero_neon(const uint8_t *page, uint64_t size)
{
	for (uint64_t i = 0; i < size; i += 64) {
		uint8x16_t a = vorrq_u8(vld1q_u8(page + i), vld1q_u8(page + i + 16));
		uint8x16_t b = vorrq_u8(vld1q_u8(page + i + 32), vld1q_u8(page + i + 48));

		if (vmaxvq_u8(vorrq_u8(a, b)))
			return 0;
	}
	return 1;
}
#endif

int64_t pydump_find_zero(const uint8_t *pages, uint64_t page_size, const uint64_t *off, uint64_t n,
			 uint8_t *zero, uint32_t variant)
{
	int (*is_zero)(const uint8_t *, uint64_t);
	int64_t found = 0;

	if (page_size % 64 || variant > 31 || !(pydump_variants() >> variant & 1))
		return PYDUMP_BAD_ARGUMENT;
	switch (variant) {
#if defined(__x86_64__)
	case PYDUMP_AVX2:
		is_zero = zero_avx2;
		break;
#elif defined(__aarch64__)
	case PYDUMP_NEON:
		is_zero = zero_neon;
		break;
#endif
	default:
		is_zero = zero_scalar;
	}
	for (uint64_t i = 0; i < n; i++) {
		zero[i] = (uint8_t)is_zero(pages + off[i], page_size);
		found += zero[i];
	}
	return found;
}
