# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures that nobody measured, for tests of what is made of figures."""

from __future__ import annotations

from pydumpfile.comparison.judging import BY_COPYING, BY_MMAP, IN_PLACE
from pydumpfile.comparison.result import DUMPING, JUDGING, READING, Comparison, Found

from .boots import INSTRUCTIONS, KERNELS, PATCHED, SIZES_GIB, STOCK, TIME, Guest, Measured
from .figures import Figures

FIXED = 5_000_000
PER_PAGE = {
    (READING, "read 4K"): {STOCK: 90, PATCHED: 30},
    (JUDGING, "user space, read 4K"): {STOCK: 120, PATCHED: 60},
    (JUDGING, "user space, read 1M"): {STOCK: 100, PATCHED: 40},
    (JUDGING, BY_MMAP): {STOCK: 30, PATCHED: 30},
    (JUDGING, IN_PLACE): {PATCHED: 20},
    (JUDGING, BY_COPYING): {PATCHED: 80},
    (DUMPING, "makedumpfile, mmap"): {STOCK: 500, PATCHED: 500},
}
"""Instructions a page, by step and way, and kernel."""


def pages(memory_mib: int) -> int:
    """All but what the crash kernel has."""
    return (memory_mib - 256) << 8


def sample(guest: Guest) -> Measured:
    """A boot that behaved like a straight line, twice; a second one was 1 % slower if timed."""
    found = []
    for (step, way), by_kernel in PER_PAGE.items():
        if guest.kernel not in by_kernel:
            found.append(Found(step, way, missing="not in this kernel"))
            continue
        count = FIXED + by_kernel[guest.kernel] * pages(guest.memory_mib)
        again = count if guest.unit == INSTRUCTIONS else count * 101 // 100
        bitmap = "aa" if step == JUDGING else ""
        differing = 1 if way.startswith("makedumpfile") else None
        found.append(Found(step, way, (count, again), bitmap, differing))
    comparison = Comparison(
        release=guest.base,
        level=31,
        pages=pages(guest.memory_mib),
        kept=1000,
        mem_map_size=pages(guest.memory_mib) * 64,
        mem_map_extents=1,
        direct_mapping=guest.kernel == PATCHED or None,
        found=tuple(found),
    )
    return Measured(guest, "2013-01-16 12:00 UTC", 90, comparison)


def sample_figures() -> Figures:
    """All guests of one base."""
    return Figures(
        sample(Guest("6.1", kernel, gib << 10, unit))
        for kernel in KERNELS
        for gib in SIZES_GIB
        for unit in (INSTRUCTIONS, TIME)
    )
