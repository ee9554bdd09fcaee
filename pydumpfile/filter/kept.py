# SPDX-License-Identifier: GPL-2.0-or-later
"""The 2nd bitmap twice: to be written whole, before any page, and again to copy those pages by.

Where the output can be read back it is there. A stream cannot; then it is remembered up to a bound
that a crash kernel can spare, and past that the pages are judged once more.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator
from typing import Callable, Optional, Protocol

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import InputError
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.pfn import Range

MAX_REMEMBERED_SIZE = 8 << 20
"""Bytes of bitmap kept in memory at most: 256 GiB of the dead machine's."""

ReadBack = Callable[[int, int], Bitmap]
"""A window ``(first_pfn, end_pfn)`` as it was written."""


class Judge(Protocol):
    """What a :class:`pydumpfile.filter.classify.PageFilter` is here."""

    vmcore: Vmcore

    def window_bounds(self) -> Iterator[Range]:
        """The windows that :meth:`windows` will give."""

    def windows(self) -> Iterator[Bitmap]:
        """The 2nd bitmap, to be gone through once."""

    def another(self) -> Judge:
        """One that will judge alike, and has judged nothing yet."""


class KeptPages:
    """What ``page_filter`` keeps: first :meth:`judged`, then :meth:`again`, as often as needed.

    :param read_back: gives what was written, if that can be had.
    """

    def __init__(self, page_filter: Judge, read_back: Optional[ReadBack] = None) -> None:
        self._filter = page_filter
        self._read_back = read_back
        bounds = page_filter.window_bounds()
        size = sum(end_pfn - first_pfn for first_pfn, end_pfn in bounds) // 8
        self._remembers = read_back is None and size <= MAX_REMEMBERED_SIZE
        self._remembered: list[Bitmap] = []
        self._checksums: list[int] = []

    def judged(self) -> Iterator[Bitmap]:
        """The windows, ascending; the filter's tally counts what they leave out."""
        for window in self._filter.windows():
            if self._remembers:
                self._remembered.append(window)
            elif self._read_back is None:
                self._checksums.append(crc32(window.bits))
            yield window

    def again(self) -> Iterator[Bitmap]:
        """The same windows; nothing is counted this time.

        :raises InputError: they are not the same: the image changed meanwhile.
        """
        if self._read_back is not None:
            for bounds in self._filter.window_bounds():
                yield self._read_back(*bounds)
        elif self._remembers:
            yield from self._remembered
        else:
            yield from self._judged_again()

    def _judged_again(self) -> Iterator[Bitmap]:
        """Descriptors go by rank in the bitmap that was written: one bit more spoils them all."""
        source = self._filter.vmcore.source
        windows = self._filter.another().windows()
        for window, checksum in zip(windows, self._checksums):
            if crc32(window.bits) != checksum:
                doing = f"judging pages {window.first_pfn:#x} to {window.end_pfn:#x} once more"
                advice = "another answer than before; give a target that can be read back, a file"
                raise InputError(source.path, None, doing, advice)
            yield window
