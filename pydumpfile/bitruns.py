# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of set bits in a window of the bitmap, for formats that store ranges of pages.

A regular expression finds the bytes of a run, since it looks at them in C; only bytes that have
both kinds of bits are taken apart here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydumpfile.bitmap import Bitmap
from pydumpfile.pfn import Range

_ALIKE = re.compile(rb"\xff+|[^\x00\xff]")
"""Bytes that are one run, or one byte that has several."""
_RUNS_IN = tuple(
    tuple(run.span() for run in re.finditer("1+", f"{byte:08b}"[::-1])) for byte in range(256)
)
"""Of each byte, where its runs begin and end."""


def runs(window: Bitmap, first_pfn: int, end_pfn: int) -> Iterator[Range]:
    """The runs inside ``window`` and ``[first_pfn, end_pfn)``, ascending, as pfns."""
    origin = window.first_pfn
    first = max(first_pfn, origin) - origin
    end = min(end_pfn, window.end_pfn) - origin
    start = stop = -1  # of the run that may go on in the next piece
    for piece in _pieces(window.bits, first >> 3, (end + 7) >> 3):
        low, high = max(piece[0], first), min(piece[1], end)
        if low >= high:
            continue
        if low != stop:
            if start < stop:
                yield start + origin, stop + origin
            start = low
        stop = high
    if start < stop:
        yield start + origin, stop + origin


def _pieces(bits: bytearray, first_byte: int, end_byte: int) -> Iterator[Range]:
    """The runs as bits, cut where bytes of another kind follow."""
    for alike in _ALIKE.finditer(bits, first_byte, max(first_byte, end_byte)):
        start, stop = alike.span()
        if bits[start] == 0xFF:
            yield 8 * start, 8 * stop
        else:
            for low, high in _RUNS_IN[bits[start]]:
                yield 8 * start + low, 8 * start + high
