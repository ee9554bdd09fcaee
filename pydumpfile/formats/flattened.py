# SPDX-License-Identifier: GPL-2.0-or-later
"""The flattened container: a file that is written out of order, as a stream that is not.

    0      signature "makedumpfile", type 1, version 1     (4096 bytes)
    then   record: where, how much, and those bytes        (16 bytes and the data) ...
    last   end mark: -1, -1                                (16 bytes)

All numbers are big-endian, whatever the machine. Records are in the order of writing, so offsets go
backwards as well; a later record replaces what an earlier one said, and what no record covers is
zero. docs/formats.md says more. Source: makedumpfile's IMPLEMENTATION document, and what its -R,
crash (makedumpfile.c) and libkdumpfile (flatmap.c) accept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from struct import Struct
from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError, TruncatedError, UnsupportedError
from pydumpfile.pfn import Range

SIGNATURE = b"makedumpfile".ljust(16, b"\0")
TYPE = 1
VERSION = 1

_HEADER = Struct(">16sqq")
_RECORD = Struct(">qq")
HEADER_SIZE = 4096
RECORD_SIZE = _RECORD.size
assert RECORD_SIZE == 16

END_MARK = _RECORD.pack(-1, -1)
NOTHING = bytes(RECORD_SIZE)
"""What a disk has that nobody wrote on: a stream there has ended. No writer has such a record."""
_MAX_COVERED_RANGES = 1 << 10
"""Far more than any writer's records make, as they ascend in a few places by turns."""
MAX_FILE_SIZE = 1 << 50
"""1 PiB, more than any machine's memory: no record of a sound stream goes beyond."""


class Record(NamedTuple):
    """``struct makedumpfile_data_header``: what its bytes are a part of."""

    off: int
    """In the file that the stream stands for."""
    size: int

    def pack(self) -> bytes:
        """The 16 bytes before the data."""
        return _RECORD.pack(self.off, self.size)


def pack_header() -> bytes:
    """``struct makedumpfile_header``, the 4096 bytes a stream begins with."""
    return _HEADER.pack(SIGNATURE, TYPE, VERSION).ljust(HEADER_SIZE, b"\0")


def check_header(header: bytes, path: str) -> None:
    """Refuse a stream that does not begin with ``header``'s likes.

    :raises FormatError: it is something else (TruncatedError: too short).
    :raises UnsupportedError: it is of a type or version that nobody writes yet.
    """
    if not header.startswith(SIGNATURE):
        got = repr(header[: len(SIGNATURE)]) if header else "nothing"
        raise FormatError(path, 0, "the signature of the flattened format", got)
    if len(header) < HEADER_SIZE:
        got = f"{len(header)} bytes"
        raise TruncatedError(path, 0, f"a flattened header of {HEADER_SIZE} bytes", got)
    _, kind, version = _HEADER.unpack_from(header)
    if (kind, version) != (TYPE, VERSION):
        raise UnsupportedError(f"{path}: type {kind}, version {version} of the flattened format")


def unpack_record(data: bytes, at: int, path: str) -> Optional[Record]:
    """The record whose 16 bytes lie at ``at`` of the stream; None for the end mark.

    :raises FormatError: no writer would write that. TruncatedError: nobody wrote anything.
    """
    if data == END_MARK:
        return None
    if data == NOTHING:
        expected = "a record, or at last an end mark"
        raise TruncatedError(path, at, expected, "zeros", "its sender was stopped")
    record = Record(*_RECORD.unpack(data))
    if record.off < 0 or record.size < 0 or record.off + record.size > MAX_FILE_SIZE:
        expected = f"a record inside a file of at most {MAX_FILE_SIZE:#x} bytes, or the end mark"
        raise FormatError(path, at, expected, f"offset {record.off:#x}, size {record.size:#x}")
    return record


def copies_until_found(n_records: int) -> int:
    """How often a record at offset 0 must be repeated, last of all, for crash to see it.

    crash opens a flattened file without rearranging it. It sorts the records by offset, of equal
    ones the newest first, and bisects until it hits any that covers what it wants: with one newer
    record at offset 0 that is always the older. Of two to four newer ones, depending on how many
    records there are, one is hit before it. Whoever applies records in order does not mind.

    :param n_records: all records so far, of which only the first is at offset 0.
    """
    copies = 1
    while True:
        hit = (n_records + copies) // 2
        while hit > copies:
            hit //= 2
        if hit < copies:
            return copies
        copies += 1


class Covered:
    """Which bytes of the file have come so far."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._is_known = True

    def add(self, start: int, end: int) -> None:
        """Have ``[start, end)`` among them, which is not empty."""
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high], self._ends[low:high] = [start], [end]
        self._is_known = self._is_known and len(self._starts) <= _MAX_COVERED_RANGES
        if not self._is_known:
            self._starts.clear()
            self._ends.clear()

    def gaps(self) -> tuple[Range, ...]:
        """What lies before and between them; nothing of a stream in no order, which is not told."""
        return tuple(gap for gap in zip([0, *self._ends], self._starts) if gap[0] < gap[1])
