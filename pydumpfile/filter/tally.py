# SPDX-License-Identifier: GPL-2.0-or-later
"""What the judging of pages carries from block to block: counters, and where to go on."""

from __future__ import annotations

from pydumpfile.filter.level import Kind


class Tally:
    """``left_out`` counts bits that went from 1 to 0: no page is counted twice, nor any hole."""

    def __init__(self, resume_pfn: int = 0) -> None:
        self.left_out = [0] * len(Kind)
        """By :class:`Kind`."""
        self.spill_pfn = [0] * len(Kind)
        """By kind: up to which pfn pages go although the window ended before."""
        self.piece_pfn = -1
        """First pfn of the mem_map piece that was judged last."""
        self.resume_pfn = resume_pfn
        """Pages below were spoken for by an earlier one of the same mem_map piece."""
        self.bad_orders = 0
        """Free blocks whose order cannot be: kept."""
        self.unreadable = 0
        """Pages kept because their struct page could not be read."""
        self.broken_lists = 0
        """Free lists that could not be walked to their end: the rest of them is kept."""

    def enter(self, piece_pfn: int) -> None:
        """The piece that begins with this pfn is judged now, or still."""
        if piece_pfn != self.piece_pfn:
            self.piece_pfn = piece_pfn
            self.resume_pfn = 0
