# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads flattened streams by docs/formats.md alone; shares no code with the package."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

HEADER = (b"makedumpfile" + bytes(4) + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
END_MARK = b"\xff" * 16


def stream_of(records: Iterable[tuple[int, bytes]]) -> bytes:
    """A whole stream of ``(offset, data)`` records."""
    parts = [struct.pack(">qq", off, len(data)) + data for off, data in records]
    return HEADER + b"".join(parts) + END_MARK


def records_of(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """The records up to the end mark, which has to be there, and last."""
    assert stream[:4096] == HEADER
    at = 4096
    while stream[at : at + 16] != END_MARK:
        off, size = struct.unpack_from(">qq", stream, at)
        assert off >= 0
        assert size > 0, "readers refuse empty records"
        assert at + 16 + size <= len(stream), "no end mark"
        yield off, stream[at + 16 : at + 16 + size]
        at += 16 + size
    assert at + 16 == len(stream)


def file_of(records: Iterable[tuple[int, bytes]]) -> bytes:
    """What the records make when they are applied in order."""
    file = bytearray()
    for off, data in records:
        if not data:
            continue  # writing nothing somewhere makes no file longer
        file.extend(bytes(max(0, off + len(data) - len(file))))
        file[off : off + len(data)] = data
    return bytes(file)


def come(records: Iterable[tuple[int, bytes]], size: int) -> Iterator[tuple[int, bytes]]:
    """What the first ``size`` bytes of a stream of ``records`` have of them."""
    at = len(HEADER)
    for off, data in records:
        at += 16
        if data[: max(0, size - at)]:
            yield off, data[: max(0, size - at)]
        at += len(data)


class CrashView:
    """The file as crash reads it from an ordered list of records: by bisection, holes are zeros."""

    def __init__(self, records: Iterable[tuple[int, bytes]]) -> None:
        self._sorted: list[tuple[int, bytes]] = []
        for record in records:  # of equal offsets the newest comes first
            at = len(self._sorted)
            while at and self._sorted[at - 1][0] >= record[0]:
                at -= 1
            self._sorted.insert(at, record)

    def read(self, off: int, size: int) -> bytes:
        """``size`` bytes at ``off``."""
        result = b""
        while size:
            start, end = 0, len(self._sorted)
            while True:
                index = (start + end) // 2
                first, data = self._sorted[index]
                if first <= off < first + len(data):
                    piece = data[off - first : off - first + size]
                    break
                if index == start and start + 1 == end:
                    assert end < len(self._sorted), "crash would read beyond its array"
                    piece = bytes(min(size, self._sorted[end][0] - off))
                    break
                start, end = (start, index) if off < first else (index, end)
            result += piece
            off += len(piece)
            size -= len(piece)
        return result
