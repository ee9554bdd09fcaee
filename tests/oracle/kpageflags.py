# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kpageflags: what the kernel itself said of each page just before it died.

The bits are user-space interface (include/uapi/linux/kernel-page-flags.h, fs/proc/page.c and
Documentation/admin-guide/mm/pagemap.rst; from 32 on include/linux/kernel-page-flags.h). What they
mean for a dump is decided by `is_needed`, from these bits alone.
"""

from __future__ import annotations

from array import array
from enum import IntFlag
from typing import Callable

from . import pfnset


class Kpf(IntFlag):
    """The bits that tell what a page is."""

    LRU = 1 << 5
    SLAB = 1 << 7
    BUDDY = 1 << 10
    ANON = 1 << 12
    SWAPCACHE = 1 << 13
    COMPOUND_HEAD = 1 << 15
    COMPOUND_TAIL = 1 << 16
    HUGE = 1 << 17
    HWPOISON = 1 << 19
    NOPAGE = 1 << 20
    KSM = 1 << 21
    THP = 1 << 22
    OFFLINE = 1 << 23
    ZERO_PAGE = 1 << 24
    PGTABLE = 1 << 26
    RESERVED = 1 << 32
    PRIVATE = 1 << 35


# Plain integers: a million words are looked at one by one.
_ALL = int(sum(Kpf))
_HEAD, _TAIL = int(Kpf.COMPOUND_HEAD), int(Kpf.COMPOUND_TAIL)
# What is true of a compound page is said on its head only, by kernels before 6.8 or so.
_INHERITED = int(Kpf.LRU | Kpf.SLAB | Kpf.ANON | Kpf.SWAPCACHE | Kpf.HUGE | Kpf.THP | Kpf.PRIVATE)


class KpageFlags:
    """The words of /proc/kpageflags, those of compound tails completed from their heads."""

    def __init__(self, data: bytes) -> None:
        words = array("Q", data)
        numbers: dict[int, int] = {}  # distinct word -> its number, so that one byte a pfn will do
        codes = bytearray(len(words))
        head = 0
        for pfn, word in enumerate(words):
            word &= _ALL
            if word & _TAIL:
                if not head:
                    raise ValueError(f"page {pfn:#x} is a tail without a head")
                word |= head & _INHERITED
            else:
                head = word if word & _HEAD else 0
            codes[pfn] = numbers.setdefault(word, len(numbers))
        self._codes = bytes(codes)
        self._words = list(numbers)

    def where(self, predicate: Callable[[Kpf], bool]) -> int:
        """Set of the pfns whose word satisfies `predicate`."""
        wanted = [number for number, word in enumerate(self._words) if predicate(Kpf(word))]
        return pfnset.where(self._codes, wanted)

    def word(self, pfn: int) -> Kpf:
        """What was said of one page."""
        return Kpf(self._words[self._codes[pfn]])

    def having(self, bits: Kpf) -> int:
        """Set of the pfns that have all of `bits`."""
        return self.where(lambda word: word & bits == bits)

    def needed(self, level: int) -> int:
        """Set of the pfns that a dump of `level` has to have, if the core has them."""
        return self.where(lambda word: is_needed(word, level))


def is_needed(word: Kpf, level: int) -> bool:
    """Whether a page of which the kernel said `word` has to be in a dump of `level`.

    Never: poisoned pages (reading one can kill the machine), balloon pages, and what is no online
    memory to the kernel. The rest as the levels are defined: 2 and 4 page cache, 8 user data, 16
    free pages.
    """
    if word & (Kpf.HWPOISON | Kpf.OFFLINE | Kpf.NOPAGE):
        return False
    if level & 16 and word & Kpf.BUDDY:
        return False
    if level & 8 and is_user(word):
        return False
    return not (is_cache(word) and level & (4 if word & Kpf.PRIVATE else 2 | 4))


def is_user(word: Kpf) -> bool:
    """Anonymous (KSM is) or hugetlb, hugetlb's free pool included."""
    return _is_anonymous(word) or bool(word & Kpf.HUGE)


def is_cache(word: Kpf) -> bool:
    """On an LRU list or in the swap cache, and nobody's anonymous memory."""
    listed = word & (Kpf.LRU | Kpf.SWAPCACHE)
    return bool(listed) and not word & Kpf.SLAB and not word & Kpf.ANON


def _is_anonymous(word: Kpf) -> bool:
    # From 6.2 a number of struct slab lies where page->mapping has its anonymous bit, so 6.12 says
    # ANON of some slab pages; slab they are.
    return bool(word & Kpf.ANON) and not word & Kpf.SLAB
