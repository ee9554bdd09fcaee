# SPDX-License-Identifier: GPL-2.0-or-later
"""Dump levels: which kinds of pages a dump leaves out, as makedumpfile numbers them."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pydumpfile.errors import UsageError


class Level(IntFlag):
    """Bits of a dump level. ``CACHE_PRIVATE`` leaves out all cache pages, private or not."""

    ZERO = 1
    CACHE = 2
    CACHE_PRIVATE = 4
    USER = 8
    FREE = 16

    @classmethod
    def of(cls, number: int) -> Level:
        """The level ``number``.

        :raises UsageError: it is not in 0..31.
        """
        if not 0 <= number <= MAX_LEVEL:
            raise UsageError(f"dump level {number} is not between 0 and {MAX_LEVEL}")
        return cls(number)


MAX_LEVEL = 31


class Kind(IntEnum):
    """What a page left out was: the index of its counter, here and in csrc/vmcore_pfn_lists.h.

    The loops there know all but the last, which is no matter of one struct page.
    """

    FREE = 0
    CACHE = 1
    CACHE_PRIVATE = 2
    USER = 3
    HWPOISON = 4
    OFFLINE = 5
    UNUSED_MEM_MAP = 6

    @property
    def label(self) -> str:
        """For people."""
        return _LABELS[self]


_LABELS = {
    Kind.FREE: "free",
    Kind.CACHE: "page cache",
    Kind.CACHE_PRIVATE: "page cache, private",
    Kind.USER: "user data",
    Kind.HWPOISON: "hardware poison",
    Kind.OFFLINE: "offline",
    Kind.UNUSED_MEM_MAP: "unused struct pages",
}
