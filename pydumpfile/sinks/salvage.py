# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left to do for a kdump-compressed dump that ends early.

Pages that are in the file are found a descriptor, and of pages that are not the descriptors are
taken away.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress
from struct import Struct

from pydumpfile.errors import FormatError, OutputError
from pydumpfile.formats.diskdump import START_SIZE, Headers, parse_headers
from pydumpfile.formats.kdump import DESCRIPTOR_SIZE, without_lacking
from pydumpfile.pfn import Range
from pydumpfile.sinks.base import Output
from pydumpfile.sinks.gathered import Gathered

_ENOUGH_SIZE = 128 << 10
"""Bytes of data whose place is enough for the descriptors, in whole blocks."""
_PIECE_SIZE = DESCRIPTOR_SIZE << 12


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
        output.write_at(off, _of_pages_within(output.size, descriptors, byte_order))
    except OutputError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return
        with suppress(OutputError):
            output.shorten(max(described_off, output.size - _ENOUGH_SIZE))
            output.write_at(off, _of_pages_within(output.size, descriptors, byte_order))


def _of_pages_within(file_size: int, descriptors: bytes, byte_order: str) -> bytes:
    """``descriptors``, of which those that point past the end are empty."""
    descriptor = Struct(byte_order + "qIIQ")
    return b"".join(
        descriptor.pack(page_off, size, *flags)
        if page_off + size <= file_size else bytes(descriptor.size)
        for page_off, size, *flags in descriptor.iter_unpack(descriptors)
    )  # fmt: skip


def forget_pages(output: Output, gaps: Sequence[Range]) -> None:
    """Empty the descriptors of pages that reach into ``gaps``, and those that do so themselves.

    These bytes of the file were to come and did not, though others did that lie behind them: they
    read as zeros, and must not pass for what was to be there. Whatever else is in the file is
    left alone; so is what is no kdump-compressed dump.

    :raises OutputError: the file cannot be read back or written.
    """
    try:
        headers = parse_headers(output.read_at(0, min(START_SIZE, output.size)), output.path)
    except FormatError:
        return
    table_off = headers.descriptors_off
    n_there = max(0, output.size - table_off) // DESCRIPTOR_SIZE
    table_end = table_off + DESCRIPTOR_SIZE * min(n_there, _count_pages(output, headers))
    gaps = [gap for gap in gaps if gap[1] > table_off]
    for start, end in _in_doubt(gaps, table_off, table_end):
        for off in range(start, end, _PIECE_SIZE):
            table = output.read_at(off, min(_PIECE_SIZE, end - off))
            emptied = without_lacking(table, off, gaps, headers.byte_order)
            if emptied != table:
                output.write_at(off, emptied)


def _in_doubt(gaps: Sequence[Range], table_off: int, table_end: int) -> Iterator[Range]:
    """Where the descriptors are that ``gaps`` may concern; those inside are empty already."""
    if any(end > table_end for _, end in gaps):
        yield table_off, table_end
        return
    for gap in gaps:
        for edge in gap:
            off = edge - (edge - table_off) % DESCRIPTOR_SIZE
            if table_off <= off < table_end:
                yield off, off + DESCRIPTOR_SIZE


def _count_pages(output: Output, headers: Headers) -> int:
    """How many bits of the 2nd bitmap are set."""
    total, start = 0, headers.bitmap2_off
    end = min(start + -(-headers.max_mapnr // 8), headers.descriptors_off, output.size)
    for off in range(start, end, _PIECE_SIZE):
        bits = int.from_bytes(output.read_at(off, min(_PIECE_SIZE, end - off)), "little")
        bits &= (1 << min(8 * _PIECE_SIZE, headers.max_mapnr - 8 * (off - start))) - 1
        total += bin(bits).count("1")
    return total
