# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that a core was cut before, left out of the 2nd bitmap where they are not to be read.

A kdump file has descriptors that say that a page is lost. An ELF core can only leave it out, or
have zeros in its place, and of a core that was copied by half those would be the other half.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.bitmap import Bitmap
from pydumpfile.filter.kept import Judge
from pydumpfile.pfn import PageSet, Range


class PresentFilter:
    """What ``judge`` keeps, less the pages ``missing``, of which the file lacks at least a byte."""

    def __init__(self, judge: Judge, missing: PageSet) -> None:
        self._judge = judge
        self._missing = missing
        self.vmcore = judge.vmcore
        self.n_missing = 0
        """Pages left out here so far."""

    def another(self) -> PresentFilter:
        """One like this that has judged nothing yet."""
        return PresentFilter(self._judge.another(), self._missing)

    def window_bounds(self) -> Iterator[Range]:
        """See :meth:`pydumpfile.filter.classify.PageFilter.window_bounds`."""
        return self._judge.window_bounds()

    def windows(self) -> Iterator[Bitmap]:
        """The 2nd bitmap, window by window; counts as it goes, so go once."""
        for window in self._judge.windows():
            for pages in self._missing.within(window.first_pfn, window.end_pfn):
                self.n_missing += window.clear_range(*pages)
            yield window
