# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of numbers kept as sorted, disjoint, half-open ranges: pfns, or physical byte addresses.

A machine's memory is a handful of ranges however large it is, so these are plain tuples, and all
operations are linear sweeps or bisections over them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Protocol

Range = tuple[int, int]


class Window(Protocol):
    """What a set of pfns can be marked in: :class:`pydumpfile.bitmap.Bitmap`."""

    first_pfn: int
    end_pfn: int
    bits: bytearray

    def set_ranges(self, ranges: Iterable[Range]) -> None:
        """Set the bits of all pfns of ``ranges`` that lie in the window."""


class IntegerSet(Protocol):
    """A set of numbers, however it is kept: as :class:`Ranges`, or as a bitmap in some file."""

    @property
    def end(self) -> int:
        """One past the largest member; 0 when empty."""

    @property
    def total(self) -> int:
        """How many integers the set has."""

    def __iter__(self) -> Iterator[Range]:
        """Its ranges, ascending: perhaps a great many."""

    def __contains__(self, value: int) -> bool: ...

    def within(self, start: int, end: int) -> Iterator[Range]:
        """The parts of the set inside ``[start, end)``, in ascending order."""


class AddressSet(IntegerSet, Protocol):
    """A set of physical byte addresses."""

    def pages(self, page_shift: int) -> PageSet:
        """The pfns of which at least one byte is in this set of physical addresses."""


class PageSet(IntegerSet, Protocol):
    """A set of pfns."""

    def clipped(self, start: int, end: int) -> PageSet:
        """The part of the set inside ``[start, end)``, as a set."""

    def mark(self, window: Window) -> None:
        """Set the bits of those pfns of this set that lie in ``window``."""


class Ranges:
    """An immutable set of integers as sorted, disjoint, non-adjacent ranges ``(start, end)``.

    Built from ranges in any order, overlapping and empty ones included.
    """

    __slots__ = ("_ranges", "_starts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        merged: list[Range] = []
        for start, end in sorted(ranges):
            if start >= end:
                continue
            if merged and start <= merged[-1][1]:
                if end > merged[-1][1]:
                    merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        self._ranges = tuple(merged)
        self._starts = [start for start, _ in merged]

    def __iter__(self) -> Iterator[Range]:
        return iter(self._ranges)

    def __len__(self) -> int:
        """The number of ranges, not of integers: see :attr:`total`."""
        return len(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._ranges == other._ranges

    def __hash__(self) -> int:
        return hash(self._ranges)

    def __repr__(self) -> str:
        inside = ", ".join(f"({start:#x}, {end:#x})" for start, end in self._ranges)
        return f"Ranges([{inside}])"

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self._starts, value) - 1
        return at >= 0 and value < self._ranges[at][1]

    @property
    def end(self) -> int:
        """One past the largest member; 0 when empty."""
        return self._ranges[-1][1] if self._ranges else 0

    @property
    def total(self) -> int:
        """How many integers the set has."""
        return sum(end - start for start, end in self._ranges)

    def within(self, start: int, end: int) -> Iterator[Range]:
        """The parts of the set inside ``[start, end)``, in ascending order."""
        at = max(0, bisect_right(self._starts, start) - 1)
        while at < len(self._ranges) and self._ranges[at][0] < end:
            low = max(start, self._ranges[at][0])
            high = min(end, self._ranges[at][1])
            if low < high:
                yield low, high
            at += 1

    def clipped(self, start: int, end: int) -> Ranges:
        """The part of the set inside ``[start, end)``, as a set."""
        return Ranges(self.within(start, end))

    def pages(self, page_shift: int) -> Ranges:
        """The pfns of which at least one byte is in this set of physical addresses."""
        mask = (1 << page_shift) - 1
        return Ranges((start >> page_shift, (end + mask) >> page_shift) for start, end in self)

    def mark(self, window: Window) -> None:
        """Set the bits of those pfns of this set that lie in ``window``."""
        window.set_ranges(self.within(window.first_pfn, window.end_pfn))

    def whole_pages(self, page_shift: int) -> Ranges:
        """The pfns of which all bytes are in this set of physical addresses."""
        mask = (1 << page_shift) - 1
        return Ranges(((start + mask) >> page_shift, end >> page_shift) for start, end in self)


def align_down(value: int, alignment: int) -> int:
    """The largest multiple of ``alignment`` (a power of two) that is not above ``value``."""
    return value & ~(alignment - 1)


def align_up(value: int, alignment: int) -> int:
    """The smallest multiple of ``alignment`` (a power of two) that is not below ``value``."""
    return (value + alignment - 1) & ~(alignment - 1)
