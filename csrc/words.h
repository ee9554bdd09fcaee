/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Little-endian 64-bit words at any address: what dumps and the struct pages of x86_64 consist of. */
#ifndef PYDUMP_WORDS_H
#define PYDUMP_WORDS_H

#include <stdint.h>
#include <string.h>

static inline uint64_t little_endian(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	return word;
}

static inline uint64_t word_at(const uint8_t *page, uint32_t off)
{
	uint64_t word;

	memcpy(&word, page + off, sizeof(word));
	return little_endian(word);
}

#endif
