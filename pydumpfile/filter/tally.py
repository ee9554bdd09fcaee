# SPDX-License-Identifier: GPL-2.0-or-later
"""What the judging of pages carries from block to block: counters, and where to go on."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydumpfile.filter.level import Kind


def _per_kind() -> list[int]:
    return [0] * len(Kind)


@dataclass
class Tally:
    """``left_out`` counts bits that went from 1 to 0: no page is counted twice, nor any hole."""

    left_out: list[int] = field(default_factory=_per_kind)
    """By :class:`Kind`."""
    spill_pfn: list[int] = field(default_factory=_per_kind)
    """By kind: up to which pfn pages go although the window ended before."""
    resume_pfn: int = 0
    """Pages below were spoken for by an earlier one of the same mem_map piece."""
    bad_orders: int = 0
    """Free blocks whose order cannot be: kept."""
    unreadable: int = 0
    """Pages kept because their struct page could not be read."""
    broken_lists: int = 0
    """Free lists that could not be walked to their end: the rest of them is kept."""
