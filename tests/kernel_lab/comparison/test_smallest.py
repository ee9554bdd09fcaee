# SPDX-License-Identifier: GPL-2.0-or-later
"""The smallest guest: all ways of judging and dumping agree in a real crash kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydumpfile.comparison.judging import BY_COPYING, BY_MMAP, BY_SCALAR, IN_PLACE
from pydumpfile.comparison.result import DUMPING, JUDGING

from .boots import PATCHED, TIME, Guest, measure


@pytest.mark.lab
def test_all_ways_give_the_same_bitmap(tmp_path: Path) -> None:
    comparison = measure(Guest("6.1", PATCHED, 1024, TIME), tmp_path, quick=True).comparison
    assert comparison.succeeded
    assert comparison.direct_mapping
    by_way = {(one.step, one.way): one for one in comparison.found}
    assert not [one for one in comparison.found if one.missing]
    for way in (BY_MMAP, BY_SCALAR, IN_PLACE, BY_COPYING, "user space, read 4K"):
        assert by_way[JUDGING, way].bitmap == by_way[DUMPING, "judged in kernel, mmap"].bitmap
    copied = by_way[DUMPING, "judged in kernel by copying, mmap"]
    assert copied.bitmap == by_way[JUDGING, BY_COPYING].bitmap
    # What makedumpfile judges otherwise is known: docs/ground-truth.md.
    assert by_way[DUMPING, "makedumpfile, mmap"].differing is not None
    assert (by_way[DUMPING, "makedumpfile, mmap"].differing or 0) < comparison.pages // 1000
