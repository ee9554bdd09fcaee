# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory of the imitated machine: sparse pages, and an allocator for kernel data."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Optional

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
ZERO_PAGE = bytes(PAGE_SIZE)


def round_up(value: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `value`."""
    return -(-value // unit) * unit


class PhysicalMemory:
    """Bytes at physical addresses; what was never written is zero."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._sorted: Optional[list[int]] = None

    def write(self, paddr: int, data: bytes) -> None:
        """Store `data` at `paddr`, across page boundaries if need be."""
        done = 0
        while done < len(data):
            pfn, off = divmod(paddr + done, PAGE_SIZE)
            piece = data[done : done + PAGE_SIZE - off]
            page = self._pages.get(pfn)
            if page is None:
                page = self._pages[pfn] = bytearray(PAGE_SIZE)
                self._sorted = None
            page[off : off + len(piece)] = piece
            done += len(piece)

    def write_word(self, paddr: int, value: int) -> None:
        """Store an unsigned 64-bit word."""
        self.write(paddr, value.to_bytes(8, "little"))

    def repeat(self, from_paddr: int, paddr: int, size: int) -> None:
        """Make pages at `paddr` the very pages at `from_paddr`; neither may be written again."""
        for off in range(0, size, PAGE_SIZE):
            self._pages[(paddr + off) >> PAGE_SHIFT] = self._pages[(from_paddr + off) >> PAGE_SHIFT]
        self._sorted = None

    def page(self, pfn: int) -> bytes:
        """The 4096 bytes of one page."""
        return bytes(self._pages.get(pfn, ZERO_PAGE))

    def written(self, first_pfn: int, end_pfn: int) -> Iterator[tuple[int, bytearray]]:
        """Pages in the range that were ever written, ascending."""
        if self._sorted is None:
            self._sorted = sorted(self._pages)
        first = bisect_left(self._sorted, first_pfn)
        for pfn in self._sorted[first : bisect_left(self._sorted, end_pfn)]:
            yield pfn, self._pages[pfn]


class Allocator:
    """Hands out physical addresses from `start_paddr` upwards, never to be given back."""

    def __init__(self, start_paddr: int, end_paddr: int) -> None:
        self.next_paddr = start_paddr
        self._end_paddr = end_paddr

    def allocate(self, size: int, align: int = PAGE_SIZE) -> int:
        """Physical address of `size` fresh bytes."""
        paddr = round_up(self.next_paddr, align)
        if paddr + size > self._end_paddr:
            raise ValueError(
                f"kernel data needs {size:#x} bytes at {paddr:#x}, but the memory range that holds "
                f"the kernel ends at {self._end_paddr:#x}: give a larger range or fewer sections"
            )
        self.next_paddr = paddr + size
        return paddr
