# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of mem_map that describe only pages which were left out (``-e``).

Struct pages are 1.6 % of memory. Where all pages that one page of them describes are left out, it
can go as well: of a machine of many TiB that is most of what is left to write. Which ones those are
is known once every page has been judged, and mem_map may lie before or behind the memory that it
describes, so this takes a pass of its own.

Only large mappings of mem_map are looked at. What lies in one is what its address says and nothing
else, while HVO maps many small pages of vmemmap to one (``mm/hugetlb_vmemmap.c``, Linux 5.14).
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import FaultError
from pydumpfile.kernel.memmap import MemMapPiece
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.memory.x86_64 import Mapping
from pydumpfile.pfn import PageSet, align_down

_FRAME_SHIFT = 21
"""Of the least large mapping: results are kept by frames of that size."""
_NOWHERE = Mapping(0, 0, 0)


class UnusedMemMap:
    """Which pages of mem_map nobody needs.

    First :meth:`see` every window of the 2nd bitmap, ascending; then :meth:`clear` them.

    :param exists: pfns of the 1st bitmap. What describes a hole stays: nobody left it out.
    """

    def __init__(self, vmcore: Vmcore, exists: PageSet) -> None:
        facts = vmcore.need_facts()
        self._memory = vmcore.memory
        self._mem_map = vmcore.mem_map
        self._exists = exists
        self._page_shift = vmcore.page_shift
        self._struct_size = self._mem_map.struct_page_size
        self._per_page = (1 << vmcore.page_shift) // self._struct_size
        head_off = facts.find_offset("page", "compound_head")
        if head_off is None:  # renamed in Linux 7.1
            head_off = facts.find_offset("page", "compound_info")
        self._head_off = head_off
        self._unused: dict[int, Bitmap] = {}
        """Bits of unused pages, by the first pfn of the frame they lie in."""
        self._leaf = _NOWHERE

    @property
    def can_tell(self) -> bool:
        """Whether struct pages fill pages of mem_map so that none is in two of them."""
        return (1 << self._page_shift) % self._struct_size == 0 and self._per_page % 8 == 0

    def see(self, window: Bitmap) -> None:
        """Take note of what of mem_map is unused for ``window``, which has been judged."""
        if not self.can_tell:
            return
        for piece in self._mem_map.within(window.first_pfn, window.end_pfn):
            if piece.vaddr % (1 << self._page_shift) == piece.first_pfn % self._per_page == 0:
                self._see_piece(piece, window)

    def clear(self, window: Bitmap) -> int:
        """Leave the unused pages that lie in ``window`` out of it; how many were in it."""
        frame_pfns = 1 << _FRAME_SHIFT - self._page_shift
        first = bisect_left(self._frames, align_down(window.first_pfn, frame_pfns))
        end = bisect_left(self._frames, window.end_pfn)
        return sum(window.clear_all_of(self._unused[pfn]) for pfn in self._frames[first:end])

    @cached_property
    def _frames(self) -> list[int]:
        return sorted(self._unused)

    def _see_piece(self, piece: MemMapPiece, window: Bitmap) -> None:
        """Go through the part of ``piece`` in the window by groups, what one page describes each.

        Of a group that is only in part in the window the rest does not exist.
        """
        n = self._per_page
        first_pfn = max(piece.first_pfn, -(-window.first_pfn // n) * n)
        end_pfn = min(piece.end_pfn, align_down(window.end_pfn, n))
        if first_pfn >= end_pfn:
            return
        existing = Bitmap(first_pfn, end_pfn)
        self._exists.mark(existing)
        kept = window.bits[(first_pfn - window.first_pfn) // 8 : (end_pfn - window.first_pfn) // 8]
        none, every = bytes(n // 8), b"\xff" * (n // 8)
        kept_before = False
        for off in range(0, len(kept), n // 8):
            group = kept[off : off + n // 8]
            pfn = first_pfn + off * 8
            if group == none:
                if existing.bits[off : off + n // 8] == every:
                    self._mark(piece.vaddr + (pfn - piece.first_pfn) * self._struct_size, True)
            elif not kept_before:
                self._keep_head_of(piece, pfn + _first_bit(group))
            kept_before = group != none

    def _mark(self, vaddr: int, unused: bool) -> None:
        """Say of the page at ``vaddr`` whether it is unused, if a large mapping leads to it."""
        leaf = self._leaf
        if not leaf.vaddr <= vaddr < leaf.vaddr + leaf.size:
            try:
                leaf = self._memory.mapping(vaddr)
            except FaultError:
                return
            self._leaf = leaf
        if leaf.size < 1 << _FRAME_SHIFT:
            return
        pfn = leaf.paddr + vaddr - leaf.vaddr >> self._page_shift
        n = 1 << _FRAME_SHIFT - self._page_shift
        frame = self._unused.get(align_down(pfn, n))
        if unused:
            if frame is None:
                frame = Bitmap(align_down(pfn, n), align_down(pfn, n) + n)
                self._unused[frame.first_pfn] = frame
            frame.set_ranges(((pfn, pfn + 1),))
        elif frame is not None:
            frame.clear_range(pfn, pfn + 1)

    def _keep_head_of(self, piece: MemMapPiece, pfn: int) -> None:
        """``pfn`` is kept, what is before may not be: keep its head's struct page if it is a tail.

        A head is kept with its tails, unless its order is damaged; nobody could tell then what the
        tails are of.
        """
        if self._head_off is None:
            return
        vaddr = piece.vaddr + (pfn - piece.first_pfn) * self._struct_size
        try:
            head = self._memory.read_u64(vaddr + self._head_off)
        except FaultError:
            return
        if head & 1:
            # A pointer; or, with compound_info, perhaps a mask of the tail's own address.
            for head_vaddr in (head - 1, vaddr & (head - 1)):
                self._mark(align_down(head_vaddr, 1 << self._page_shift), False)


def _first_bit(group: bytearray) -> int:
    """Index of the first bit set; there is one."""
    bits = int.from_bytes(group, "little")
    return (bits & -bits).bit_length() - 1
