// SPDX-License-Identifier: GPL-2.0-or-later
/* contents: what pages hold. */
#include "workload.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t noise_state = 0x9e3779b97f4a7c15;

void fill_noise(unsigned char *page)
{
	uint64_t *word = (uint64_t *)page;

	for (size_t i = 0; i < PAGE_SIZE / 8; i++) {
		noise_state ^= noise_state << 13;
		noise_state ^= noise_state >> 7;
		noise_state ^= noise_state << 17;
		word[i] = noise_state;
	}
}

void fill_text(unsigned char *page)
{
	static unsigned long number;
	char sentence[64];
	int length = snprintf(sentence, sizeof(sentence),
			      "page %lu holds words that compress well. ", number++);

	for (size_t at = 0; at < PAGE_SIZE; at += length)
		memcpy(page + at, sentence,
		       PAGE_SIZE - at < (size_t)length ? PAGE_SIZE - at : (size_t)length);
}

void fill_zero(unsigned char *page)
{
	*(volatile unsigned char *)page = 0;	/* a page of its own, not the shared zero page */
}

void fill_few_patterns(unsigned char *page)
{
	static unsigned long number;

	memset(page, 'a' + number++ % 8, PAGE_SIZE);
}

void fill(unsigned char *start, size_t size, void (*fill_page)(unsigned char *))
{
	for (size_t off = 0; off < size; off += PAGE_SIZE)
		fill_page(start + off);
}
