# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that a flattened one stands for, read where it lies, without rearranging it first.

Records come in the order of writing, which is almost that of their offsets: headers, descriptors
and data each ascend. So they are kept as a few chains that ascend, 24 bytes for each record, and
nothing is sorted; an offset is found by a bisection in each chain.
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError, InputError, TruncatedError
from pydumpfile.formats.flattened import (
    HEADER_SIZE,
    NOTHING,
    RECORD_SIZE,
    Covered,
    Record,
    check_header,
    unpack_record,
)
from pydumpfile.pfn import Range
from pydumpfile.sources.filebytes import FileBytes, room_for
from pydumpfile.sources.image import FileImage, Image

_MAX_CHAINS = 256
"""Far more than any writer makes; each costs every look-up a bisection."""


class _Chain:
    """Records that ascend and do not overlap: offsets of the file, and places in the stream."""

    def __init__(self) -> None:
        self.starts, self.ends, self.places = array("Q"), array("Q"), array("Q")

    def append(self, record: Record, place: int) -> None:
        """Add one that begins where the last ends, or behind."""
        self.starts.append(record.off)
        self.ends.append(record.off + record.size)
        self.places.append(place)


class _Piece(NamedTuple):
    """Bytes ``[start, end)`` of the file."""

    start: int
    end: int
    place: Optional[int]
    """Where in the stream they are; None: nowhere, they are zeros."""


class FlattenedImage(Image):
    """What the flattened file ``stream`` stands for; takes it over.

    :raises FormatError: it is damaged, or in no order at all; TruncatedError: it ends before its
        first record does. Where it ends later, without an end mark, it :attr:`is_cut_off`, and what
        has come is the file.
    :raises UnsupportedError: it is of a version that does not exist yet.
    """

    def __init__(self, stream: FileImage) -> None:
        self.path = stream.path
        self.size = 0
        self._stream = stream
        self._chains: list[_Chain] = []
        try:
            self._index()
        except OSError as error:
            raise InputError(self.path, error.errno, "reading the stream's records") from error

    def read(self, off: int, size: int) -> bytes:
        data = bytearray(max(0, min(size, self.size - off)))
        for piece in self.pieces(off, off + len(data)):
            if piece.place is not None:
                length = piece.end - piece.start
                data[piece.start - off : piece.end - off] = self._stream.read(piece.place, length)
        return bytes(data)

    def windows(self, use_mmap: bool) -> FileBytes:
        return _FlattenedBytes(self, self._stream.windows(use_mmap))

    def close(self) -> None:
        self._stream.close()

    def pieces(self, off: int, end: int) -> Iterator[_Piece]:
        """Where the bytes ``[off, end)`` are, ascending."""
        while off < end:
            place: Optional[int] = None
            stop = end
            for chain in self._chains:
                at = bisect_right(chain.ends, off)
                if at == len(chain.ends):
                    continue
                start = chain.starts[at]
                stop = min(stop, start if off < start else chain.ends[at])
                here = chain.places[at] + off - start
                if start <= off and (place is None or place < here):
                    place = here  # the newest counts
            yield _Piece(off, stop, place)
            off = stop

    def _index(self) -> None:
        """Go from record to record, up to the end mark."""
        check_header(self._stream.read(0, HEADER_SIZE), self.path)
        covered = Covered()
        at = HEADER_SIZE
        while True:
            head = self._stream.read(at, RECORD_SIZE)
            if len(head) < RECORD_SIZE or head == NOTHING:
                break
            record = unpack_record(head, at, self.path)
            if record is None:
                return
            at += RECORD_SIZE
            there = record._replace(size=min(record.size, max(0, self._stream.size - at)))
            if there.size:
                self._chain_for(there.off, at).append(there, at)
                covered.add(there.off, there.off + there.size)
                self.size = max(self.size, there.off + there.size)
            if there != record:
                break
            at += record.size
        if not self._chains:
            raise TruncatedError(
                self.path, at, "records, and at last an end mark", "the end of the file",
                "its sender was stopped, or the copy was, before anything had come",
            )  # fmt: skip
        self.is_cut_off = True
        self.gaps = covered.gaps()

    def _chain_for(self, off: int, at: int) -> _Chain:
        """The chain that ends nearest before ``off``."""
        best: Optional[_Chain] = None
        for chain in self._chains:
            if chain.ends[-1] <= off and (best is None or best.ends[-1] < chain.ends[-1]):
                best = chain
        if best is None:
            if len(self._chains) == _MAX_CHAINS:
                raise FormatError(
                    self.path, at, "records whose offsets ascend, but for some",
                    f"one that goes back to {off:#x} after {_MAX_CHAINS} others have",
                    "-R can make a file of it",
                )  # fmt: skip
            best = _Chain()
            self._chains.append(best)
        return best


class _FlattenedBytes(FileBytes):
    """Large pieces of it: views of the stream where one record has them all, else copies."""

    def __init__(self, image: FlattenedImage, stream: FileBytes) -> None:
        super().__init__(stream.fd)
        self._image = image
        self._stream = stream
        self._buffer = memoryview(b"")

    def view(self, off: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        first = next(self._image.pieces(off, off + size))
        if first.end == off + size and first.place is not None:
            return self._stream.view(first.place, size, wanted)
        if size > len(self._buffer):
            self._buffer = room_for(size)
        for start, end in wanted if wanted is not None else ((0, size),):
            self.read_into(off + start, self._buffer[start:end])
        return self._buffer[:size]

    def drop_views(self) -> None:
        self._stream.drop_views()
        self._buffer = memoryview(b"")

    def read_into(self, off: int, buffer: memoryview) -> None:
        if off + len(buffer) > self._image.size:
            raise OSError(errno.EFAULT, "the file ends here")
        for piece in self._image.pieces(off, off + len(buffer)):
            part = buffer[piece.start - off : piece.end - off]
            if piece.place is None:
                part[:] = bytes(len(part))
            else:
                self._stream.read_into(piece.place, part)
