/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SHA-256 (FIPS 180-4), for programs that run where no library is, and where an emulator makes each
 * instruction cost ten: the variables stay in registers, so nothing is moved from round to round.
 */
#ifndef SHA256_H
#define SHA256_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct sha256 {
	uint32_t state[8];
	uint64_t length;	/* bytes so far */
	unsigned char block[64];
};

static const uint32_t sha256_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t sha256_rotate(uint32_t word, int bits)
{
	return word >> bits | word << (32 - bits);
}

/* The next word of the schedule, in place of the one 16 before it. */
static inline uint32_t sha256_schedule(uint32_t *w, int i)
{
	uint32_t a = w[(i + 1) & 15], b = w[(i + 14) & 15];

	return w[i & 15] += w[(i + 9) & 15] +
			    (sha256_rotate(a, 7) ^ sha256_rotate(a, 18) ^ a >> 3) +
			    (sha256_rotate(b, 17) ^ sha256_rotate(b, 19) ^ b >> 10);
}

/*
 * One round; the caller renames the variables instead of moving them.  The three rotations of each
 * sum are nested (6, 11, 25 and 2, 13, 22), choice and majority are those of FIPS 180-4 with an
 * operation less.
 */
#define SHA256_ROUND(a, b, c, d, e, f, g, h, i, word)					\
	do {										\
		uint32_t sum_e = sha256_rotate(e ^ sha256_rotate(e, 14), 5);		\
		uint32_t sum_a = sha256_rotate(a ^ sha256_rotate(a, 9), 11);		\
											\
		h += sha256_rotate(e ^ sum_e, 6) + (g ^ (e & (f ^ g))) +		\
		     sha256_constants[i] + (word);					\
		d += h;									\
		h += sha256_rotate(a ^ sum_a, 2) + ((a & b) | (c & (a | b)));		\
	} while (0)

#define SHA256_8_ROUNDS(i, WORD)							\
	do {										\
		SHA256_ROUND(a, b, c, d, e, f, g, h, (i) + 0, WORD((i) + 0));		\
		SHA256_ROUND(h, a, b, c, d, e, f, g, (i) + 1, WORD((i) + 1));		\
		SHA256_ROUND(g, h, a, b, c, d, e, f, (i) + 2, WORD((i) + 2));		\
		SHA256_ROUND(f, g, h, a, b, c, d, e, (i) + 3, WORD((i) + 3));		\
		SHA256_ROUND(e, f, g, h, a, b, c, d, (i) + 4, WORD((i) + 4));		\
		SHA256_ROUND(d, e, f, g, h, a, b, c, (i) + 5, WORD((i) + 5));		\
		SHA256_ROUND(c, d, e, f, g, h, a, b, (i) + 6, WORD((i) + 6));		\
		SHA256_ROUND(b, c, d, e, f, g, h, a, (i) + 7, WORD((i) + 7));		\
	} while (0)

#define SHA256_GIVEN(i)		(w[i])
#define SHA256_SCHEDULED(i)	sha256_schedule(w, i)

static void sha256_block(struct sha256 *hash, const unsigned char *block)
{
	uint32_t *s = hash->state, w[16];
	uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];

	for (int i = 0; i < 16; i++) {
		uint32_t word;

		memcpy(&word, block + 4 * i, 4);
		w[i] = __builtin_bswap32(word);
	}
	SHA256_8_ROUNDS(0, SHA256_GIVEN);
	SHA256_8_ROUNDS(8, SHA256_GIVEN);
	SHA256_8_ROUNDS(16, SHA256_SCHEDULED);
	SHA256_8_ROUNDS(24, SHA256_SCHEDULED);
	SHA256_8_ROUNDS(32, SHA256_SCHEDULED);
	SHA256_8_ROUNDS(40, SHA256_SCHEDULED);
	SHA256_8_ROUNDS(48, SHA256_SCHEDULED);
	SHA256_8_ROUNDS(56, SHA256_SCHEDULED);
	s[0] += a;
	s[1] += b;
	s[2] += c;
	s[3] += d;
	s[4] += e;
	s[5] += f;
	s[6] += g;
	s[7] += h;
}

static void sha256_begin(struct sha256 *hash)
{
	static const uint32_t start[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};

	memcpy(hash->state, start, sizeof(start));
	hash->length = 0;
}

static void sha256_add(struct sha256 *hash, const void *data, size_t size)
{
	const unsigned char *from = data;

	while (size) {
		size_t used = hash->length % 64, part = 64 - used < size ? 64 - used : size;

		if (part == 64) {
			sha256_block(hash, from);
		} else {
			memcpy(hash->block + used, from, part);
			if (used + part == 64)
				sha256_block(hash, hash->block);
		}
		hash->length += part;
		from += part;
		size -= part;
	}
}

/* Writes 64 hexadecimal digits and a zero. */
static void sha256_end(struct sha256 *hash, char *digits)
{
	uint64_t bits = __builtin_bswap64(hash->length * 8);
	unsigned char padding[72] = { 0x80 };
	size_t zeros = (119 - hash->length % 64) % 64;

	memcpy(padding + 1 + zeros, &bits, 8);
	sha256_add(hash, padding, 1 + zeros + 8);
	for (int i = 0; i < 8; i++)
		sprintf(digits + 8 * i, "%08x", hash->state[i]);
}

#endif
