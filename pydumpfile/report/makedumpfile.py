# SPDX-License-Identifier: GPL-2.0-or-later
"""``--show-stats``: the counts of a dump in the form of makedumpfile's report.

It differs where makedumpfile's counts are wrong: no page is counted twice, pages that the source
lacks are not called remaining, and of a split dump all parts are counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.dump import Statistics
from pydumpfile.filter.level import Kind

_RULE = "-" * 50


def makedumpfile_report(statistics: Statistics) -> str:
    """The whole report, lines without a newline at the end."""
    return "\n".join(_lines(statistics))


def _lines(statistics: Statistics) -> Iterator[str]:
    yield _step("Excluding unnecessary pages", statistics.scan_seconds)
    yield _step("Copying data", statistics.copy_seconds)
    yield ""
    original = statistics.existing
    excluded = dict(_excluded(statistics))
    remaining = original - sum(excluded.values())
    yield _count("Original pages  ", original)
    yield _count("  Excluded pages   ", sum(excluded.values()))
    if statistics.holes is not None:
        yield _count("     in ELF format ", statistics.holes)
    for label, pages in excluded.items():
        yield _count(f"    {label:<24}", pages)
    yield _count("  Remaining pages  ", remaining)
    if statistics.holes is not None:
        remaining = original - statistics.holes
        yield _count("     in ELF format ", remaining)
    if original:
        yield f"  (The number of pages is reduced to {100 * remaining // original}%.)"
    yield _count("Memory Hole     ", statistics.max_pfn - original)
    yield _RULE
    yield _count("Total pages     ", statistics.max_pfn)
    yield f"Write bytes     : {statistics.bytes_written}"
    yield ""
    yield "Cache hit: 0, miss: 0"  # memory is mapped, and no page of it cached by itself
    yield ""


def _excluded(statistics: Statistics) -> Iterator[tuple[str, int]]:
    left_out = statistics.left_out
    yield "Pages filled with zero", statistics.zero
    yield "Non-private cache pages", left_out[Kind.CACHE]
    yield "Private cache pages", left_out[Kind.CACHE_PRIVATE]
    yield "User process data pages", left_out[Kind.USER]
    yield "Free pages", left_out[Kind.FREE]
    yield "Hwpoison pages", left_out[Kind.HWPOISON]
    yield "Offline pages", left_out[Kind.OFFLINE]
    yield "Extension filter pages", 0
    if left_out.get(Kind.UNUSED_MEM_MAP):
        yield "Unused vmemmap pages", left_out[Kind.UNUSED_MEM_MAP]
    if statistics.filtered_before:
        yield "Not in the source", statistics.filtered_before


def _step(name: str, seconds: float) -> str:
    return f"STEP [{name:<27}] : {seconds:.6f} seconds"


def _count(label: str, pages: int) -> str:
    return f"{label}: {pages:#018x}"
