# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead kernel's virtual memory: reads through its page tables, in as few pieces as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Optional

from pydumpfile.errors import FaultError
from pydumpfile.memory.x86_64 import Mapping, PageTables, Step
from pydumpfile.pfn import Range
from pydumpfile.sources.base import Source

_U64 = Struct("<Q")
_PAGE_SIZE = 4096


class AddressSpace:
    """Virtual addresses of the kernel itself: image, direct map, vmemmap, vmalloc."""

    def __init__(self, source: Source, page_tables: PageTables) -> None:
        self._source = source
        self._page_tables = page_tables

    def view(self, vaddr: int, size: int) -> memoryview:
        """The bytes at ``[vaddr, vaddr + size)``, without copying where they lie together.

        Good until the next read of anything.

        :raises FaultError: with the address of the first byte that cannot be had.
        """
        pieces = list(self._page_tables.translate(vaddr, size))
        if len(pieces) == 1:
            return self._source.view(pieces[0][0], size)
        copy = memoryview(bytearray(size))
        done = 0
        for paddr, length in pieces:
            copy[done : done + length] = self._source.view(paddr, length)
            done += length
        return copy

    def glance(self, vaddr: int, size: int, wanted: Sequence[Range]) -> Optional[memoryview]:
        """As :meth:`view`, but only the byte ranges ``wanted``, relative to ``vaddr``, are right.

        None where the bytes do not lie together.
        """
        pieces = list(self._page_tables.translate(vaddr, size))
        return self._source.view(pieces[0][0], size, wanted) if len(pieces) == 1 else None

    def read(self, vaddr: int, size: int) -> bytes:
        """A copy of the bytes at ``[vaddr, vaddr + size)``; raises as :meth:`view` does."""
        return bytes(self.view(vaddr, size))

    def read_u64(self, vaddr: int) -> int:
        """The unsigned long at ``vaddr``."""
        (value,) = _U64.unpack(self.read(vaddr, 8))
        return int(value)

    def mapping(self, vaddr: int) -> Mapping:
        """The page, of whatever size, that maps ``vaddr``; raises FaultError if none does."""
        return self._page_tables.lookup(vaddr)

    def translate(self, vaddr: int, size: int) -> Iterator[tuple[int, int]]:
        """The bytes at ``[vaddr, vaddr + size)`` as physical pieces; see PageTables.translate."""
        return self._page_tables.translate(vaddr, size)

    def walk(self, vaddr: int) -> Iterator[Step]:
        """The page-table entries on the way to ``vaddr``; see PageTables.walk."""
        return self._page_tables.walk(vaddr)

    def salvage(self, vaddr: int, size: int, unit: int) -> tuple[bytearray, list[int]]:
        """What can be read of ``[vaddr, vaddr + size)`` in ``unit``-sized records.

        For when :meth:`view` fails. Memory is there or not by pages; a record of which any page
        cannot be read is zeros.

        :return: the bytes, and the indices of the records that could not be read.
        """
        records = bytearray(size)
        lost: set[int] = set()
        at = vaddr
        while at < vaddr + size:
            end = min(vaddr + size, at - at % _PAGE_SIZE + _PAGE_SIZE)
            try:
                records[at - vaddr : end - vaddr] = self.view(at, end - at)
            except FaultError:
                lost.update(range((at - vaddr) // unit, -(-(end - vaddr) // unit)))
            at = end
        for i in lost:
            records[i * unit : (i + 1) * unit] = bytes(unit)
        return records, sorted(lost)

    def is_kernel(self, vaddr: int) -> bool:
        """Whether ``vaddr`` lies in the kernel's half of the address space."""
        return self._page_tables.lowest_kernel_vaddr <= vaddr < 1 << 64
