# SPDX-License-Identifier: GPL-2.0-or-later
"""The series' own C functions, compiled from the patches: merging, looking up, budgets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .purecode import PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT, PureCode
from .series import BASES

PAGE = 4096
LAST_BOUNDARY = (1 << 64) - PAGE
TIB = 1 << 40
# The direct mapping without KASLR, 4-level paging.
PAGE_OFFSET = 0xFFFF888000000000

# Few enough pages that ranges meet, overlap and share pages all the time.
_EDGE = st.integers(0, 40 * PAGE)
_RANGES = st.lists(st.tuples(_EDGE, _EDGE), max_size=12)
_ANYWHERE = st.integers(0, (1 << 64) - 1)


@pytest.fixture(scope="module", params=BASES)
def code(request: pytest.FixtureRequest) -> PureCode:
    return PureCode(request.param)


def pages(ranges: list[tuple[int, int]]) -> set[int]:
    """Page frame numbers that ranges touch."""
    found: set[int] = set()
    for start, end in ranges:
        if start < end:
            found |= set(range(start // PAGE, (end - 1) // PAGE + 1))
    return found


def test_kexec_headers(code: PureCode) -> None:
    text = (0x2A00_0000, 0x2C60_0000)  # the kernel's, within RAM
    low, ram = (0x1000, 0x9FC00), (0x10_0000, 0x3000_0000)
    assert code.merge([text, ram, low]) == [(0x1000, 0xA0000), ram]


@pytest.mark.parametrize(
    ("ranges", "merged"),
    [
        ([], []),
        ([(5, 5)], []),
        ([(9, 5)], []),
        ([(0, 1)], [(0, PAGE)]),
        ([(PAGE - 1, PAGE + 1)], [(0, 2 * PAGE)]),
        ([(0, PAGE), (PAGE, 2 * PAGE)], [(0, 2 * PAGE)]),  # they touch
        ([(0, PAGE), (2 * PAGE, 3 * PAGE)], [(0, PAGE), (2 * PAGE, 3 * PAGE)]),
        ([(0, 100), (200, 300)], [(0, PAGE)]),  # two parts of one page
        ([(0, PAGE + 1), (2 * PAGE - 1, 2 * PAGE)], [(0, 2 * PAGE)]),
        ([(0, 9 * PAGE), (PAGE, 2 * PAGE)], [(0, 9 * PAGE)]),  # one within another
        ([(PAGE, 2 * PAGE), (PAGE, 5 * PAGE), (PAGE, 2 * PAGE)], [(PAGE, 5 * PAGE)]),
        ([(PAGE, (1 << 64) - 1)], [(PAGE, LAST_BOUNDARY)]),  # rounding up does not wrap
        ([((1 << 64) - 2, (1 << 64) - 1)], []),  # no 64-bit end can say this page
    ],
)
def test_edges(
    code: PureCode, ranges: list[tuple[int, int]], merged: list[tuple[int, int]]
) -> None:
    assert code.merge(ranges) == merged


@settings(max_examples=500)
@given(ranges=_RANGES)
def test_merged_cover_the_same_pages(code: PureCode, ranges: list[tuple[int, int]]) -> None:
    assert pages(code.merge(ranges)) == pages(ranges)


@settings(max_examples=500)
@given(ranges=st.lists(st.tuples(_ANYWHERE, _ANYWHERE), max_size=20) | _RANGES)
def test_merged_are_sorted_aligned_and_apart(code: PureCode, ranges: list[tuple[int, int]]) -> None:
    merged = code.merge(ranges)
    assert all(start % PAGE == end % PAGE == 0 and start < end for start, end in merged)
    assert all(merged[i][1] < merged[i + 1][0] for i in range(len(merged) - 1))


@given(ranges=_RANGES, data=st.data())
def test_order_does_not_matter(
    code: PureCode, ranges: list[tuple[int, int]], data: st.DataObject
) -> None:
    assert code.merge(data.draw(st.permutations(ranges))) == code.merge(ranges)


@given(ranges=_RANGES)
def test_merging_again_changes_nothing(code: PureCode, ranges: list[tuple[int, int]]) -> None:
    merged = code.merge(ranges)
    assert code.merge(merged) == merged


@given(ranges=_RANGES, paddr=_EDGE, data=st.data())
def test_direct_bytes(
    code: PureCode, ranges: list[tuple[int, int]], paddr: int, data: st.DataObject
) -> None:
    mapped = [
        (start, end, data.draw(st.integers(0, (end - start) // PAGE)))
        for start, end in code.merge(ranges)
    ]
    expected = next(
        (
            start + n_pages * PAGE - paddr
            for start, _, n_pages in mapped
            if start <= paddr < start + n_pages * PAGE
        ),
        0,
    )
    assert code.direct_bytes(mapped, paddr) == expected


def walk_tables(start: int, end: int, leaf_shift: int, top_shift: int) -> int:
    """Page tables a mapping with the largest pages has, by building it."""
    tables: set[tuple[int, int]] = set()
    addr = start
    while addr < end:
        shift = next(
            s
            for s in (PUD_SHIFT, PMD_SHIFT, 12)
            if s == 12 or (s <= leaf_shift and addr % (1 << s) == 0 and addr + (1 << s) <= end)
        )
        tables |= {(above, addr >> above) for above in range(shift + 9, top_shift + 1, 9)}
        addr += 1 << shift
    return len(tables)


@settings(max_examples=200, deadline=None)
@given(
    start_pages=st.integers(0, 1 << 20),
    size_pages=st.integers(1, 1 << 10) | st.integers(1, 1 << 21),
    leaf_shift=st.sampled_from((PMD_SHIFT, PUD_SHIFT)),
    five_level=st.booleans(),
)
def test_budget_is_what_mapping_takes(
    code: PureCode, start_pages: int, size_pages: int, leaf_shift: int, five_level: bool
) -> None:
    start = PAGE_OFFSET + start_pages * PAGE
    end = start + size_pages * PAGE
    needed = code.tables_needed(start, end, leaf_shift=leaf_shift, five_level=five_level)
    assert needed == walk_tables(start, end, leaf_shift, 48 if five_level else 39)


@settings(max_examples=100, deadline=None)
@given(start_pages=st.integers(0, 1 << 20), size_pages=st.integers(1, 1 << 11))
def test_budget_of_the_smallest_pages(code: PureCode, start_pages: int, size_pages: int) -> None:
    start = PAGE_OFFSET + start_pages * PAGE
    end = start + size_pages * PAGE
    needed = code.tables_needed(start, end, leaf_shift=PAGE_SHIFT, five_level=False)
    assert needed == walk_tables(start, end, PAGE_SHIFT, 39)


@pytest.mark.parametrize(
    ("tib", "leaf_shift", "kib"),
    [
        (1, PUD_SHIFT, 2 * 4),  # two PUD tables
        (16, PUD_SHIFT, 32 * 4),
        (64, PUD_SHIFT, 128 * 4),
        (1, PMD_SHIFT, 2 * 4 + 1024 * 4),  # and a PMD table for each GiB
        (16, PMD_SHIFT, 32 * 4 + 16384 * 4),
        (64, PMD_SHIFT, 128 * 4 + 65536 * 4),
    ],
)
def test_budget_of_large_machines(code: PureCode, tib: int, leaf_shift: int, kib: int) -> None:
    end = PAGE_OFFSET + tib * TIB
    needed = code.tables_needed(PAGE_OFFSET, end, leaf_shift=leaf_shift, five_level=False)
    assert needed * 4 == kib
