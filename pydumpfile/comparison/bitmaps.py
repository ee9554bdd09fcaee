# SPDX-License-Identifier: GPL-2.0-or-later
"""2nd bitmaps to be compared: out of windows, and out of the flattened stream of any dumper.

32 MiB of bitmap for each TiB of memory is what a crash kernel does not have, so that they are
hashed as they come. Only small ones are kept, to count differences in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import FormatError
from pydumpfile.formats.diskdump import START_SIZE, Headers, parse_headers
from pydumpfile.formats.flattened import HEADER_SIZE, RECORD_SIZE, check_header, unpack_record
from pydumpfile.rearrange import Stream

MAX_KEPT_SIZE = 16 << 20
"""Bytes of a bitmap that differences are counted in: 512 GiB of memory."""
_PIECE_SIZE = 1 << 20
_BITS_IN = bytes(bin(byte).count("1") for byte in range(256))

Piece = tuple[int, bytes]
"""Where in the bitmap some bytes of it are, and those."""


class Kept:
    """A bitmap, known by its hash, and whole if it is small."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._digest = hashlib.sha256()
        self._size = 0
        self.bits: Optional[bytearray] = bytearray()
        """None if it has more than MAX_KEPT_SIZE bytes."""
        for off, piece in pieces:
            self._add(off, piece)
        self.sha256 = self._digest.hexdigest()
        """Of all up to the last byte that is not 0; what nobody wrote is 0."""

    def _add(self, off: int, piece: bytes) -> None:
        piece = piece.rstrip(b"\0")
        if not piece:
            return
        if off < self._size:
            raise FormatError("bitmap", off, f"pieces in order, from {self._size} on", "earlier")
        for start in range(self._size, off, _PIECE_SIZE):
            self._digest.update(bytes(min(_PIECE_SIZE, off - start)))
        self._digest.update(piece)
        self._size = off + len(piece)
        if self._size > MAX_KEPT_SIZE:
            self.bits = None
        if self.bits is not None:
            self.bits.extend(bytes(off - len(self.bits)))
            self.bits.extend(piece)

    def differing(self, other: Kept) -> Optional[int]:
        """How many pages only one of both has; None if they are too large to tell."""
        if self.sha256 == other.sha256:
            return 0
        if self.bits is None or other.bits is None:
            return None
        size = max(len(self.bits), len(other.bits))
        both = int.from_bytes(self.bits, "little") ^ int.from_bytes(other.bits, "little")
        return sum(both.to_bytes(size, "little").translate(_BITS_IN))


def of_windows(windows: Iterable[Bitmap]) -> Iterator[Piece]:
    """Windows as pieces."""
    return ((window.first_pfn // 8, bytes(window.bits)) for window in windows)


def of_stream(fd: int, name: str) -> Iterator[Piece]:
    """The 2nd bitmap of the dump whose flattened stream ``fd`` gives; all of that is read.

    :raises FormatError: it is no such stream, or has its bitmap before its headers.
    """
    stream = Stream(fd, name)
    check_header(bytes(stream.read_up_to(HEADER_SIZE)), name)
    start = bytearray()
    headers: Optional[Headers] = None
    while True:
        record = unpack_record(bytes(stream.read(RECORD_SIZE)), stream.off, name)
        if record is None:
            break
        end = record.off + record.size
        for off in range(record.off, end, _PIECE_SIZE):
            data = stream.read(min(_PIECE_SIZE, end - off))
            if headers is None and off < START_SIZE:
                start.extend(bytes(max(0, off + len(data) - len(start))))
                start[off : off + len(data)] = data
                headers = _headers(start, name)
                if headers is not None:
                    yield from _part_of_bitmap2(headers, 0, memoryview(start))
            elif headers is not None:
                yield from _part_of_bitmap2(headers, off, data)
    if headers is None:
        raise FormatError(name, 0, "a dump that says where its bitmaps are", "none")


def _headers(start: bytearray, name: str) -> Optional[Headers]:
    """Both headers, when they are there: the second one begins behind the first block."""
    try:
        headers = parse_headers(bytes(start), name)
    except FormatError:
        return None
    return headers if headers.sub.offset_vmcoreinfo or headers.sub.offset_note else None


def _part_of_bitmap2(headers: Headers, off: int, data: memoryview) -> Iterator[Piece]:
    first = max(off, headers.bitmap2_off)
    end = min(off + len(data), headers.descriptors_off)
    if first < end:
        yield first - headers.bitmap2_off, bytes(data[first - off : end - off])
