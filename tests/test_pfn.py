# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of ranges against sets of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.pfn import Range, Ranges, align_down, align_up

TOP = 60
ranges = st.lists(st.tuples(st.integers(0, TOP), st.integers(0, TOP)), max_size=8)
bounds = st.integers(0, TOP + 5)


def members(given_ranges: list[Range]) -> set[int]:
    return {value for start, end in given_ranges for value in range(start, end)}


def as_set(result: Ranges) -> set[int]:
    """The integers of ``result``, which must be sorted, disjoint, apart and not empty."""
    pairs = list(result)
    assert all(start < end for start, end in pairs)
    assert all(one[1] < other[0] for one, other in zip(pairs, pairs[1:]))
    return members(pairs)


@given(ranges)
def test_is_the_union_of_what_it_is_made_from(made_from: list[Range]) -> None:
    expected = members(made_from)
    result = Ranges(made_from)
    assert as_set(result) == expected
    assert result.total == len(expected)
    assert result.end == max(expected, default=-1) + 1
    assert len(result) == len(list(result))
    assert [value in result for value in range(-1, TOP + 2)] == [
        value in expected for value in range(-1, TOP + 2)
    ]


@given(ranges, bounds, bounds)
def test_within(made_from: list[Range], start: int, end: int) -> None:
    result = Ranges(made_from)
    expected = members(made_from) & set(range(start, end))
    pieces = list(result.within(start, end))
    assert pieces == sorted(pieces)
    assert members(pieces) == expected
    assert as_set(result.clipped(start, end)) == expected


@given(ranges, st.integers(0, 4))
def test_pages(made_from: list[Range], shift: int) -> None:
    expected = {value >> shift for value in members(made_from)}
    assert as_set(Ranges(made_from).pages(shift)) == expected


@given(ranges, ranges)
def test_equality_is_that_of_the_sets(one: list[Range], other: list[Range]) -> None:
    same = members(one) == members(other)
    assert (Ranges(one) == Ranges(other)) == same
    if same:
        assert hash(Ranges(one)) == hash(Ranges(other))
    assert Ranges(one) != members(one)


def test_repr_tells_the_ranges() -> None:
    assert repr(Ranges([(1, 2), (16, 32)])) == "Ranges([(0x1, 0x2), (0x10, 0x20)])"


@given(st.integers(0, 1 << 52), st.integers(0, 30))
def test_alignment(value: int, shift: int) -> None:
    unit = 1 << shift
    assert align_down(value, unit) == value // unit * unit
    assert align_up(value, unit) == -(-value // unit) * unit
