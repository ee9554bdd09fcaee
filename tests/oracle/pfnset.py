# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of pfns as integers: bit p is pfn p, so `|`, `&` and `& ~` are the operations on them.

A bitmap of the kdump format, read as a little-endian number, is such a set already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator


def from_bitmap(bitmap: bytes | bytearray) -> int:
    """The set that a bitmap of the kdump format says (bit of pfn p: byte p >> 3, bit p & 7)."""
    return int.from_bytes(bitmap, "little")


def from_runs(runs: Iterable[tuple[int, int]]) -> int:
    """The union of half-open ranges."""
    pfns = 0
    for first, end in runs:
        pfns |= (1 << end) - (1 << first)
    return pfns


def from_pfns(pfns: Iterable[int]) -> int:
    """The set of single pfns, fast for many of them."""
    listed = sorted(pfns)
    bitmap = bytearray(listed[-1] // 8 + 1 if listed else 0)
    for pfn in listed:
        bitmap[pfn >> 3] |= 1 << (pfn & 7)
    return from_bitmap(bitmap)


def where(codes: bytes, wanted: Collection[int]) -> int:
    """The pfns at which `codes`, one byte a pfn from 0, is one of `wanted`."""
    digits = bytes(ord("1") if code in wanted else ord("0") for code in range(256))
    return int(codes.translate(digits)[::-1] or b"0", 2)


def count(pfns: int) -> int:
    """How many there are."""
    return bin(pfns).count("1")


def runs_of(pfns: int) -> Iterator[tuple[int, int]]:
    """The half-open ranges the set is made of, ascending."""
    digits = bin(pfns)[:1:-1]
    first = digits.find("1")
    while first >= 0:
        end = digits.find("0", first)
        if end < 0:
            end = len(digits)
        yield first, end
        first = digits.find("1", end)


def each(pfns: int) -> Iterator[int]:
    """Every pfn, ascending."""
    for first, end in runs_of(pfns):
        yield from range(first, end)


def show(pfns: int, limit: int = 8) -> str:
    """A few of them, for messages."""
    runs = [f"{first:#x}-{end:#x}" for first, end in runs_of(pfns)]
    more = f" and {len(runs) - limit} more ranges" if len(runs) > limit else ""
    return f"{count(pfns)} pages: {', '.join(runs[:limit])}{more}"


def require_none(pfns: int, what: str) -> None:
    """Fail with a few of `pfns`, which are `what`, unless there are none.

    A bare assert would print a number of a hundred thousand digits.
    """
    __tracebackhide__ = True
    if pfns:
        raise AssertionError(f"{what}: {show(pfns)}")
