# SPDX-License-Identifier: GPL-2.0-or-later
"""One bit per pfn, for a window of pfns: the kdump format's bitmaps, a piece at a time.

The bit of pfn p is bit ``p & 7`` of byte ``p >> 3``, least significant first, as the format has it.
A whole bitmap is 32 MiB per TiB of memory, which a crash kernel does not have, so a :class:`Bitmap`
is always a window ``[first_pfn, end_pfn)`` whose ends lie on byte boundaries.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydumpfile.pfn import Range

_BITS_IN = bytes(bin(byte).count("1") for byte in range(256))


class Bitmap:
    """Bits for the pfns ``[first_pfn, end_pfn)``, all clear at first; both a multiple of 8."""

    __slots__ = ("bits", "end_pfn", "first_pfn")

    def __init__(self, first_pfn: int, end_pfn: int) -> None:
        if first_pfn % 8 or end_pfn % 8 or first_pfn > end_pfn:
            raise ValueError(f"a bitmap window cannot be [{first_pfn:#x}, {end_pfn:#x})")
        self.first_pfn = first_pfn
        self.end_pfn = end_pfn
        self.bits = bytearray((end_pfn - first_pfn) // 8)

    def __contains__(self, pfn: int) -> bool:
        bit = pfn - self.first_pfn
        return pfn < self.end_pfn and bit >= 0 and bool(self.bits[bit >> 3] >> (bit & 7) & 1)

    def set_ranges(self, ranges: Iterable[Range]) -> None:
        """Set the bits of all pfns of ``ranges`` that lie in the window."""
        for first, end in ranges:
            self._set_range(first, end)

    def clear_range(self, first_pfn: int, end_pfn: int) -> int:
        """Clear the bits of ``[first_pfn, end_pfn)`` inside the window; how many were set."""
        first = max(first_pfn, self.first_pfn) - self.first_pfn
        end = min(end_pfn, self.end_pfn) - self.first_pfn
        cleared = 0
        while first < end and first & 7:
            cleared += self._put(first, False)
            first += 1
        while first < end and end & 7:
            end -= 1
            cleared += self._put(end, False)
        if first < end:
            cleared += sum(self.bits[first >> 3 : end >> 3].translate(_BITS_IN))
            self.bits[first >> 3 : end >> 3] = bytes((end - first) >> 3)
        return cleared

    def clear_all_of(self, other: Bitmap) -> int:
        """Clear the bits that are set in ``other`` where it overlaps; how many both had."""
        first_pfn = max(self.first_pfn, other.first_pfn)
        end_pfn = max(first_pfn, min(self.end_pfn, other.end_pfn))
        here = slice((first_pfn - self.first_pfn) >> 3, (end_pfn - self.first_pfn) >> 3)
        there = slice((first_pfn - other.first_pfn) >> 3, (end_pfn - other.first_pfn) >> 3)
        mine = int.from_bytes(self.bits[here], "little")
        both = mine & int.from_bytes(other.bits[there], "little")
        self.bits[here] = (mine ^ both).to_bytes((end_pfn - first_pfn) >> 3, "little")
        return bin(both).count("1")

    def count(self) -> int:
        """How many bits are set."""
        return sum(self.bits.translate(_BITS_IN))

    def _set_range(self, first_pfn: int, end_pfn: int) -> None:
        first = max(first_pfn, self.first_pfn) - self.first_pfn
        end = min(end_pfn, self.end_pfn) - self.first_pfn
        while first < end and first & 7:
            self._put(first, True)
            first += 1
        while first < end and end & 7:
            end -= 1
            self._put(end, True)
        if first < end:
            self.bits[first >> 3 : end >> 3] = b"\xff" * ((end - first) >> 3)

    def _put(self, bit: int, value: bool) -> bool:
        """Set one bit to ``value``; whether that changed it."""
        mask = 1 << (bit & 7)
        was = bool(self.bits[bit >> 3] & mask)
        if was != value:
            self.bits[bit >> 3] ^= mask
        return was != value
