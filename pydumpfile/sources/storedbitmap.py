# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of pages as a bitmap that lies in a file, of which only a piece at a time is in memory.

A filtered dump of a large machine may have millions of ranges of pages; as a bitmap they are 32 MiB
for each TiB, and stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.bitruns import runs
from pydumpfile.errors import InputError
from pydumpfile.pfn import Range, Window, align_down, align_up
from pydumpfile.sources.image import Image

_PIECE_PFNS = 1 << 20
"""Pfns looked at at once: 128 KiB of bitmap."""
_NOTHING = bytes(_PIECE_PFNS // 8)


class StoredBitmap:
    """The pfns whose bits are set in the bitmap at ``off`` of ``image``, inside ``[first, end)``.

    :param within: what it is a part of, though the bits of a damaged file may say otherwise.

    Every method raises InputError where the file cannot be read; what it lacks at its end is clear.
    """

    def __init__(
        self, image: Image, off: int, first_pfn: int, end_pfn: int,
        within: Optional[StoredBitmap] = None,
    ) -> None:  # fmt: skip
        self._image = image
        self._off = off
        self._first_pfn = first_pfn
        self._end_pfn = end_pfn
        self._within = within

    def bitmap(self, first_pfn: int, end_pfn: int) -> Bitmap:
        """The set inside ``[first_pfn, end_pfn)``, both multiples of 8."""
        bitmap = Bitmap(first_pfn, end_pfn)
        off = self._off + first_pfn // 8
        try:
            bits = self._image.read(off, len(bitmap.bits))
        except OSError as error:
            doing = f"reading the bitmap at {off:#x}"
            raise InputError(self._image.path, error.errno, doing) from error
        if not _NOTHING.startswith(bits):
            bitmap.bits[: len(bits)] = bits
            bitmap.clear_range(first_pfn, self._first_pfn)
            bitmap.clear_range(self._end_pfn, end_pfn)
            if self._within is not None:
                whole = int.from_bytes(self._within.bitmap(first_pfn, end_pfn).bits, "little")
                both = whole & int.from_bytes(bitmap.bits, "little")
                bitmap.bits[:] = both.to_bytes(len(bitmap.bits), "little")
        return bitmap

    @cached_property
    def end(self) -> int:
        """One past the last page; 0 when empty."""
        end_pfn = align_up(self._end_pfn, 8)
        while end_pfn > self._first_pfn:
            first_pfn = max(align_down(end_pfn - 1, _PIECE_PFNS), align_down(self._first_pfn, 8))
            last = self.bitmap(first_pfn, end_pfn).bits.rstrip(b"\0")
            if last:
                return first_pfn + 8 * (len(last) - 1) + last[-1].bit_length()
            end_pfn = first_pfn
        return 0

    @cached_property
    def total(self) -> int:
        """How many pages there are."""
        pieces = self._pieces(self._first_pfn, self._end_pfn)
        return sum(self.bitmap(*bounds).count() for bounds in pieces)

    def __iter__(self) -> Iterator[Range]:
        return self.within(self._first_pfn, self._end_pfn)

    def __contains__(self, pfn: int) -> bool:
        return any(True for _ in self.within(pfn, pfn + 1))

    def within(self, start_pfn: int, end_pfn: int) -> Iterator[Range]:
        """The ranges inside ``[start_pfn, end_pfn)``, ascending."""
        low = high = -1  # of the range that may go on in the next piece
        for first, end in self._pieces(start_pfn, end_pfn):
            for run in runs(self.bitmap(first, end), start_pfn, end_pfn):
                if run[0] != high:
                    if low < high:
                        yield low, high
                    low = run[0]
                high = run[1]
        if low < high:
            yield low, high

    def clipped(self, start_pfn: int, end_pfn: int) -> StoredBitmap:
        """Those inside ``[start_pfn, end_pfn)``, as a set."""
        first, end = max(self._first_pfn, start_pfn), min(self._end_pfn, end_pfn)
        return StoredBitmap(self._image, self._off, first, max(first, end), self._within)

    def mark(self, window: Window) -> None:
        """Set the bits of those pages that lie in ``window``."""
        for first, end in self._pieces(window.first_pfn, window.end_pfn):
            at = (first - window.first_pfn) >> 3
            here = slice(at, at + ((end - first) >> 3))
            bits = self.bitmap(first, end).bits
            merged = int.from_bytes(bits, "little") | int.from_bytes(window.bits[here], "little")
            window.bits[here] = merged.to_bytes(len(bits), "little")

    def _pieces(self, start_pfn: int, end_pfn: int) -> Iterator[Range]:
        """Whole bytes that cover those of ``[start_pfn, end_pfn)`` that can be in the set."""
        at = align_down(max(start_pfn, self._first_pfn), 8)
        end_pfn = align_up(min(end_pfn, self._end_pfn), 8)
        while at < end_pfn:
            stop = min(align_down(at, _PIECE_PFNS) + _PIECE_PFNS, end_pfn)
            yield at, stop
            at = stop


class PageAddresses:
    """The physical addresses of a set of pages."""

    def __init__(self, pfns: StoredBitmap, page_shift: int) -> None:
        self._pfns = pfns
        self._shift = page_shift

    @property
    def end(self) -> int:
        """One past the last address; 0 when empty."""
        return self._pfns.end << self._shift

    @property
    def total(self) -> int:
        """How many bytes there are."""
        return self._pfns.total << self._shift

    def __iter__(self) -> Iterator[Range]:
        for start, end in self._pfns:
            yield start << self._shift, end << self._shift

    def __contains__(self, paddr: int) -> bool:
        return paddr >> self._shift in self._pfns

    def within(self, start: int, end: int) -> Iterator[Range]:
        """The parts inside ``[start, end)``, in ascending order."""
        beyond = -(-end >> self._shift)
        for low, high in self._pfns.within(start >> self._shift, beyond):
            yield max(start, low << self._shift), min(end, high << self._shift)

    def pages(self, page_shift: int) -> StoredBitmap:
        """The pfns; ``page_shift`` has to be the dump's own."""
        if page_shift != self._shift:
            raise ValueError(f"a dump of pages of {1 << self._shift} bytes has no others")
        return self._pfns
