# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left to do for a kdump-compressed dump that ends early.

Pages that are in the file are found a descriptor, and of pages that are not the descriptors are
taken away.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress

from pydumpfile.errors import FormatError, OutputError
from pydumpfile.formats.diskdump import START_SIZE, Headers, parse_headers
from pydumpfile.formats.kdump import DESCRIPTOR_SIZE, without_lacking
from pydumpfile.pfn import Range
from pydumpfile.sinks.base import Output
from pydumpfile.sinks.gathered import Gathered

_ENOUGH_SIZE = 128 << 10
"""Bytes of data whose place is enough for the descriptors, in whole blocks."""
_PIECE_SIZE = DESCRIPTOR_SIZE << 12
_END = 1 << 64
"""Behind every byte of every file."""


def salvage_pages(
    output: Output, data: Gathered, table: Gathered, described_off: int, byte_order: str = "<"
) -> None:
    """Write the descriptors in ``table`` of all pages that are in the file; no others.

    On a full disk there is no place for them, because so far the table was a hole; then the last
    of the pages are given up. What cannot be written even so is left: there is a more important
    error to be told. A stream without an end mark is refused as a whole, so nothing is done to one.

    :param data: data of the last of these pages.
    :param described_off: where the data of the first of them lies.
    """
    descriptors = table.take()
    off = table.end_off
    if not descriptors or not output.reads_back:
        return
    with suppress(OutputError):
        data.flush()
    try:
        output.write_at(off, _of_pages_in(output, descriptors, off, byte_order))
    except OutputError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return
        with suppress(OutputError):
            output.shorten(max(described_off, output.size - _ENOUGH_SIZE))
            output.write_at(off, _of_pages_in(output, descriptors, off, byte_order))


def _of_pages_in(output: Output, descriptors: bytes, off: int, byte_order: str) -> bytes:
    """``descriptors``, to lie at ``off``, of which those that lead past the end are empty."""
    return without_lacking(descriptors, off, [(output.size, _END)], byte_order)


def forget_pages(output: Output, gaps: Sequence[Range]) -> None:
    """Empty the descriptors of pages that are not all there, and those that are not themselves.

    Bytes of ``gaps`` were to come and did not, though others did that lie behind them: they read as
    zeros, and must not pass for what was to be there. Behind the file's end are pages of writers
    that have descriptors before the data. Whatever else is in the file is left alone; so is what is
    no kdump-compressed dump.

    :raises OutputError: the file cannot be read back or written.
    """
    try:
        headers = parse_headers(output.read_at(0, min(START_SIZE, output.size)), output.path)
    except FormatError:
        return
    start = headers.descriptors_off
    end = start + DESCRIPTOR_SIZE * _count_pages(output, headers)
    gaps = [*(gap for gap in gaps if gap[1] > start), (output.size, _END)]
    for off in range(start, min(end, output.size), _PIECE_SIZE):
        size = min(_PIECE_SIZE, end - off)
        table = output.read_at(off, min(size, output.size - off))
        used = len(table.rstrip(b"\0"))
        if used:
            emptied = without_lacking(table.ljust(size, b"\0"), off, gaps, headers.byte_order)
            if emptied[:used] != table[:used]:
                output.write_at(off, emptied[:used])  # no zeros more: there may be no space


def _count_pages(output: Output, headers: Headers) -> int:
    """How many bits of the 2nd bitmap are set."""
    total, start = 0, headers.bitmap2_off
    end = min(start + -(-headers.max_mapnr // 8), headers.descriptors_off, output.size)
    for off in range(start, end, _PIECE_SIZE):
        bits = int.from_bytes(output.read_at(off, min(_PIECE_SIZE, end - off)), "little")
        bits &= (1 << min(8 * _PIECE_SIZE, headers.max_mapnr - 8 * (off - start))) - 1
        total += bin(bits).count("1")
    return total
