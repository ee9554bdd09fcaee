# SPDX-License-Identifier: GPL-2.0-or-later
"""x86_64 page tables, written into the imitated machine's memory."""

from __future__ import annotations

from typing import Callable

from .physmem import PAGE_SHIFT, PAGE_SIZE, PhysicalMemory

# Architecture manual, "4-level and 5-level paging".
_PRESENT_RW_ACCESSED_DIRTY = 0x63
_LARGE = 1 << 7
_LARGE_PAT = 1 << 12  # in a large page's entry, inside what would be address bits of a small one
_NX = 1 << 63
_SOFTWARE = 1 << 58
SHIFTS = (48, 39, 30, 21, 12)


class PageTables:
    """One tree of tables; `map` adds one page of 4 KiB, 2 MiB or 1 GiB.

    :param levels: 4 or 5.
    :param root_paddr: where the top table is.
    :param new_table: returns the physical address of a fresh zeroed page.
    :param sme_mask: encryption bit that is set in every entry.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        levels: int,
        root_paddr: int,
        new_table: Callable[[], int],
        sme_mask: int = 0,
    ) -> None:
        if levels not in (4, 5):
            raise ValueError(f"x86_64 has 4 or 5 levels of page tables, not {levels}")
        self._memory = memory
        self._shifts = SHIFTS[5 - levels :]
        self._root_paddr = root_paddr
        self._new_table = new_table
        self._sme_mask = sme_mask
        self._tables: dict[tuple[int, int], int] = {}

    def map(self, vaddr: int, paddr: int, page_shift: int) -> None:
        """Map the page of 1 << `page_shift` bytes at `vaddr` to `paddr`."""
        table_paddr = self._root_paddr
        for shift in self._shifts:
            slot_paddr = table_paddr + (vaddr >> shift & 0x1FF) * 8
            if shift == page_shift:
                self._memory.write_word(slot_paddr, self._leaf(paddr, page_shift))
                return
            key = (shift, vaddr >> shift)
            if key not in self._tables:
                self._tables[key] = self._new_table()
                entry = self._tables[key] | _PRESENT_RW_ACCESSED_DIRTY | self._sme_mask
                self._memory.write_word(slot_paddr, entry)
            table_paddr = self._tables[key]
        raise ValueError(f"no page of 1 << {page_shift} bytes exists")

    def _leaf(self, paddr: int, page_shift: int) -> int:
        entry = paddr | _PRESENT_RW_ACCESSED_DIRTY | self._sme_mask | _NX | _SOFTWARE
        if page_shift > PAGE_SHIFT:
            entry |= _LARGE
            if paddr >> page_shift & 1:
                entry |= _LARGE_PAT
        return entry

    def map_range(
        self, vaddr: int, paddr: int, size: int, unmapped: frozenset[int] = frozenset()
    ) -> None:
        """Map a range with the largest pages that fit.

        :param unmapped: pfns to leave without an entry.
        """
        end_paddr = paddr + size
        holes = sorted(pfn * PAGE_SIZE for pfn in unmapped)
        while paddr < end_paddr:
            if paddr >> PAGE_SHIFT in unmapped:
                vaddr, paddr = vaddr + PAGE_SIZE, paddr + PAGE_SIZE
                continue
            for shift in (30, 21, 12):
                page = 1 << shift
                aligned = not (vaddr | paddr) & (page - 1)
                broken = any(paddr <= hole < paddr + page for hole in holes)
                if shift == PAGE_SHIFT or (aligned and paddr + page <= end_paddr and not broken):
                    break
            self.map(vaddr, paddr, shift)
            vaddr, paddr = vaddr + page, paddr + page
