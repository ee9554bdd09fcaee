# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows of the bitmap against sets of pfns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.bitmap import Bitmap
from pydumpfile.pfn import Range

FIRST, END = 64, 208
pfns = st.integers(0, END + 40)
ranges = st.lists(st.tuples(pfns, pfns), max_size=6)


def pfns_of(window: Bitmap) -> set[int]:
    """Read bit by bit, as the format says: byte p >> 3, bit p & 7."""
    return {
        window.first_pfn + bit
        for bit in range(8 * len(window.bits))
        if window.bits[bit >> 3] >> (bit & 7) & 1
    }


@given(ranges, ranges)
def test_set_and_clear(to_set: list[Range], to_clear: list[Range]) -> None:
    window = Bitmap(FIRST, END)
    window.set_ranges(to_set)
    inside = range(FIRST, END)
    expected = {pfn for start, end in to_set for pfn in range(start, end) if pfn in inside}
    assert pfns_of(window) == expected
    for start, end in to_clear:
        gone = expected & set(range(start, end))
        assert window.clear_range(start, end) == len(gone)
        expected -= gone
    assert pfns_of(window) == expected
    assert window.count() == len(expected)
    assert {pfn for pfn in range(END + 40) if pfn in window} == expected


def test_is_clear_at_first() -> None:
    assert Bitmap(FIRST, END).bits == bytearray((END - FIRST) // 8)
    assert Bitmap(FIRST, FIRST).count() == 0


@pytest.mark.parametrize(("first", "end"), [(1, 8), (0, 7), (16, 8)])
def test_windows_lie_on_bytes(first: int, end: int) -> None:
    with pytest.raises(ValueError, match="window"):
        Bitmap(first, end)
