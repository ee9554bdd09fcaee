# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of set bits against the bits themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.bitmap import Bitmap
from pydumpfile.bitruns import runs
from pydumpfile.pfn import Range

FIRST, END = 64, 208
pfns = st.integers(0, END + 40)


@given(st.lists(st.tuples(pfns, pfns), max_size=9), pfns, pfns)
def test_runs(to_set: list[Range], first_pfn: int, end_pfn: int) -> None:
    window = Bitmap(FIRST, END)
    window.set_ranges(to_set)
    found = list(runs(window, first_pfn, end_pfn))
    expected = [pfn for pfn in range(first_pfn, end_pfn) if pfn in window]
    assert [pfn for run in found for pfn in range(*run)] == expected
    assert all(one[1] < other[0] for one, other in zip(found, found[1:])), "one run told as two"


def test_bits_may_be_cleared_on_the_way() -> None:
    """Of a run that was told; what comes behind it stays."""
    window = Bitmap(FIRST, END)
    window.set_ranges([(70, 90), (91, 92), (100, 208)])
    found = []
    for start, end in runs(window, 0, 300):
        found.append((start, end))
        window.clear_range(start, end)
    assert found == [(70, 90), (91, 92), (100, 208)]
    assert window.count() == 0
