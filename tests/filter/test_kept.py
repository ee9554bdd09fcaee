# SPDX-License-Identifier: GPL-2.0-or-later
"""The 2nd bitmap a second time: read back, remembered or judged again, it is the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pydumpfile
from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import InputError
from pydumpfile.filter import kept
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.kept import KeptPages
from pydumpfile.filter.level import Level
from tests.builders import BuiltCore
from tests.conftest import MIB, SMALL, CoreMaker

HIGH = replace(SMALL, memory=((MIB, 39 * MIB), (33 << 30, 2 * MIB), (100 << 30, 3 * MIB)))


@pytest.fixture
def high(core_of: CoreMaker) -> BuiltCore:
    """A core whose bitmap has several windows."""
    return core_of(HIGH)


def contents(window: Bitmap) -> tuple[int, int, bytes]:
    return window.first_pfn, window.end_pfn, bytes(window.bits)


@pytest.mark.parametrize("way", ["read back", "remembered", "judged again"])
@pytest.mark.parametrize("level", [0, 1, 31])
def test_the_same_windows_twice(
    high: BuiltCore, monkeypatch: pytest.MonkeyPatch, way: str, level: int
) -> None:
    if way == "judged again":
        monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", 0)
    written: dict[tuple[int, int], Bitmap] = {}
    with pydumpfile.open(high.path) as vmcore:
        page_filter = PageFilter(vmcore, Level(level))
        read_back = (lambda *bounds: written[bounds]) if way == "read back" else None
        pages = KeptPages(page_filter, read_back)
        first = []
        for window in pages.judged():
            written[window.first_pfn, window.end_pfn] = window
            first.append(contents(window))
        left_out = list(page_filter.tally.left_out)
        assert [contents(window) for window in pages.again()] == first
        assert page_filter.tally.left_out == left_out, "counted twice"
    assert len(first) == 3
    if level == 31:
        assert sum(left_out) == sum(high.counts(31).values())


def test_what_is_not_read_back_is_remembered_up_to_a_bound(
    high: BuiltCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pydumpfile.open(high.path) as vmcore:
        page_filter = PageFilter(vmcore, Level(31))
        size = sum(end - first for first, end in page_filter.window_bounds()) // 8
        monkeypatch.setattr(PageFilter, "another", lambda _: pytest.fail("judges again"))
        monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", size)
        pages = KeptPages(page_filter)
        assert len(list(pages.judged())) == len(list(pages.again())) == 3
        monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", size - 1)
        pages = KeptPages(PageFilter(vmcore, Level(31)))
        assert len(list(pages.judged())) == 3
        with pytest.raises(pytest.fail.Exception, match="judges again"):
            list(pages.again())


def test_another_answer_is_an_error(high: BuiltCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every descriptor from there on would stand for another page."""
    monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", 0)
    with pydumpfile.open(high.path) as vmcore:
        monkeypatch.setattr(PageFilter, "another", lambda _: PageFilter(vmcore, Level(8)))
        pages = KeptPages(PageFilter(vmcore, Level(31)))
        assert list(pages.judged())
        with pytest.raises(InputError, match="once more"):
            list(pages.again())
