# SPDX-License-Identifier: GPL-2.0-or-later
"""Zero pages left out of the 2nd bitmap, for formats that cannot say that a page is zero.

A kdump file has zero pages share one, which is found out as they are copied. An ELF core shows
zeros for what it does not have, and has to know before its first byte how many holes there will be;
so there all pages to be kept are read once to be judged, and once more to be copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from pydumpfile import loops
from pydumpfile.bitmap import Bitmap
from pydumpfile.bitruns import runs
from pydumpfile.errors import FaultError
from pydumpfile.filter.kept import Judge
from pydumpfile.pfn import Range

CHUNK_PAGES = 512
"""Pages looked at in one go: 2 MiB."""
_ZERO_RUN = re.compile(b"\1+")


class ZeroTest(Protocol):
    """The loop over pages: C, or its reference."""

    def find(self, pages: memoryview) -> bytes:
        """Of each page, at most ``CHUNK_PAGES``, whether it is zero: 1 or 0."""


class ReferenceZeroTest:
    """csrc/zero.c in plain Python."""

    def __init__(self, page_size: int) -> None:
        self._zero = bytes(page_size)

    def find(self, pages: memoryview) -> bytes:
        """See :class:`ZeroTest`."""
        size = len(self._zero)
        return bytes(pages[at : at + size] == self._zero for at in range(0, len(pages), size))


def make_zero_test(page_size: int) -> ZeroTest:
    """The one that PYDUMPFILE_KERNEL demands."""
    if loops.in_python():
        return ReferenceZeroTest(page_size)
    from pydumpfile.filter.zero_native import NativeZeroTest  # noqa: PLC0415

    return NativeZeroTest(page_size)


class NonzeroFilter:
    """What ``judge`` keeps, less its zero pages.

    A page that cannot be read is not zero: whoever copies it will count it as lost.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.vmcore = judge.vmcore
        self._page_shift = self.vmcore.page_shift
        self._source = self.vmcore.source.another()
        self._test = make_zero_test(1 << self._page_shift)
        self.n_zero = 0
        """Pages left out here so far."""

    def another(self) -> NonzeroFilter:
        """One like this that has judged nothing yet."""
        return NonzeroFilter(self._judge.another())

    def drop_views(self) -> None:
        """Give back the memory that looking at pages takes, until it goes on."""
        self._source.drop_views()

    def window_bounds(self) -> Iterator[Range]:
        """See :meth:`pydumpfile.filter.classify.PageFilter.window_bounds`."""
        return self._judge.window_bounds()

    def windows(self) -> Iterator[Bitmap]:
        """The 2nd bitmap, window by window; counts as it goes, so go once."""
        for window in self._judge.windows():
            self.look_through(window)
            yield window

    def look_through(self, window: Bitmap) -> None:
        """Clear the bits of the zero pages of one window."""
        for start, end in runs(window, window.first_pfn, window.end_pfn):
            for pfn in range(start, end, CHUNK_PAGES):
                self._clear_zero(window, pfn, min(pfn + CHUNK_PAGES, end))

    def _clear_zero(self, window: Bitmap, first_pfn: int, end_pfn: int) -> None:
        paddr, size = first_pfn << self._page_shift, (end_pfn - first_pfn) << self._page_shift
        try:
            found = self._test.find(self._source.view(paddr, size))
        except FaultError:
            found = b"".join(self._look_at(pfn) for pfn in range(first_pfn, end_pfn))
        for run in _ZERO_RUN.finditer(found):
            low, high = run.span()
            self.n_zero += window.clear_range(first_pfn + low, first_pfn + high)

    def _look_at(self, pfn: int) -> bytes:
        """Whether one page is zero, perhaps one that memory or the file has only a part of."""
        try:
            page = self._source.read_page(pfn, self._page_shift)
        except FaultError:
            return b"\0"
        return self._test.find(memoryview(page))
