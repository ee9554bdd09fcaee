# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64 page tables: 4 and 5 levels, large pages, memory encryption.

Source: Intel SDM volume 3, "Paging", and ``arch/x86/include/asm/pgtable_types.h``. Every lookup
walks the dead kernel's own tables, so that KASLR and vmemmap's place need no special treatment.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from pydumpfile.errors import FaultError, PageTableError
from pydumpfile.sources.base import Source

PAGE_SHIFT = 12
START_KERNEL_MAP = 0xFFFFFFFF80000000
LOWEST_KERNEL_VADDR_4LEVEL = 0xFFFF800000000000
LOWEST_KERNEL_VADDR_5LEVEL = 0xFF00000000000000

_PRESENT = 1 << 0
_PSE = 1 << 7
_TABLE = Struct("<512Q")
_INDEX_BITS = 9
_ENTRY_SIZE = 8
_ADDRESS_MASK = (1 << 52) - (1 << PAGE_SHIFT)
_SHIFTS = (48, 39, 30, 21, 12)
"""How far a virtual address is shifted for its index at level 5, 4, 3, 2, 1."""
_LARGE_PAGE_LEVELS = (3, 2)
_TABLES_KEPT = 64


class Mapping(NamedTuple):
    """One page-table leaf: ``size`` bytes at virtual ``vaddr`` lie at physical ``paddr``."""

    vaddr: int
    paddr: int
    size: int


class Step(NamedTuple):
    """One page-table entry on the way to a virtual address."""

    level: int
    """5 to 1; the names that go with it are PGD, P4D, PUD, PMD, PTE."""
    entry_paddr: int
    entry: int


class PageTables:
    """The kernel half of one set of page tables.

    :param root_paddr: physical address of the top-level table (``init_top_pgt``).
    :param levels: 4 or 5.
    :param sme_mask: the memory encryption bit, which is set in entries and addresses but is no part
        of them (AMD SME); 0 without.
    """

    def __init__(self, source: Source, root_paddr: int, levels: int, sme_mask: int = 0) -> None:
        self._source = source
        self._root_paddr = root_paddr & ~sme_mask
        self._shifts = _SHIFTS[-levels:]
        self._address_mask = _ADDRESS_MASK & ~sme_mask
        self._tables: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self.lowest_kernel_vaddr = (
            LOWEST_KERNEL_VADDR_5LEVEL if levels == 5 else LOWEST_KERNEL_VADDR_4LEVEL
        )

    def lookup(self, vaddr: int) -> Mapping:
        """The leaf that maps ``vaddr``.

        :raises PageTableError: none does.
        :raises FaultError: a table on the way cannot be read.
        """
        for step in self.walk(vaddr):
            last = step
        if not last.entry & _PRESENT:
            raise PageTableError(vaddr, last.level, last.entry)
        size = 1 << self._shifts[-last.level]
        return Mapping(vaddr & -size, last.entry & self._address_mask & -size, size)

    def walk(self, vaddr: int) -> Iterator[Step]:
        """The entries that lead to ``vaddr``, down to its leaf or the first that is not present.

        :raises FaultError: a table on the way cannot be read.
        """
        table_paddr = self._root_paddr
        for level, shift in zip(range(len(self._shifts), 0, -1), self._shifts):
            index = vaddr >> shift & (1 << _INDEX_BITS) - 1
            entry = self._table(table_paddr, vaddr)[index]
            yield Step(level, table_paddr + index * _ENTRY_SIZE, entry)
            is_leaf = level == 1 or (level in _LARGE_PAGE_LEVELS and entry & _PSE)
            if is_leaf or not entry & _PRESENT:
                return
            table_paddr = entry & self._address_mask

    def translate(self, vaddr: int, size: int) -> Iterator[tuple[int, int]]:
        """``[vaddr, vaddr + size)`` as ``(paddr, size)`` pieces, as few as can be.

        :raises PageTableError: at the first address that is not mapped, after the pieces before it.
        :raises FaultError: a table cannot be read, likewise.
        """
        start = length = 0
        end = vaddr + size
        while vaddr < end:
            try:
                leaf = self.lookup(vaddr)
            except FaultError:
                if length:
                    yield start, length
                raise
            paddr = leaf.paddr + vaddr - leaf.vaddr
            here = min(end, leaf.vaddr + leaf.size) - vaddr
            if length and start + length == paddr:
                length += here
            else:
                if length:
                    yield start, length
                start, length = paddr, here
            vaddr += here
        if length:
            yield start, length

    def _table(self, paddr: int, vaddr: int) -> tuple[int, ...]:
        """The 512 entries at ``paddr``, from a small cache of the tables used last."""
        table = self._tables.get(paddr)
        if table is None:
            try:
                table = _TABLE.unpack(self._source.read(paddr, _TABLE.size))
            except FaultError as error:
                raise error.within(f"page table for virtual address {vaddr:#x}") from error
            if len(self._tables) >= _TABLES_KEPT:
                self._tables.popitem(last=False)
            self._tables[paddr] = table
        else:
            self._tables.move_to_end(paddr)
        return table
