# SPDX-License-Identifier: GPL-2.0-or-later
"""From a flattened stream to the file it stands for.

The stream is read once, front to back, so it may come from a pipe or a raw partition. Until its end
mark has come and all is on the disk, the file does not pass for a whole one, whatever the stream
says: its first block is written with the format's own mark of an incomplete dump, or, where it is
none of the formats known here, as zeros. Of a stream that ends early all that came is in the file,
to the byte; pages that came by half are lost there, as they are to who reads the stream itself.
So it is where the disk is full before the stream ends.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError, InputError, OutputError, TruncatedError, UsageError
from pydumpfile.formats.flattened import (
    HEADER_SIZE,
    RECORD_SIZE,
    Covered,
    check_header,
    unpack_record,
)
from pydumpfile.formats.incomplete import mark_incomplete
from pydumpfile.progress import Progress, Throttled
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.base import Output, check_creatable
from pydumpfile.sinks.salvage import forget_pages

_PIECE_SIZE = 1 << 20
_START_SIZE = 4096
"""Enough of a file for what tells its format, and whether it is complete."""


def rearrange(
    fd: int, target: Target, progress: Optional[Progress] = None, name: str = "standard input"
) -> int:
    """Write the file whose flattened stream is read from ``fd``; its size.

    Nothing is read beyond the stream's end mark. The target is not touched before something has
    come that is of use.

    :param progress: in bytes of the stream; it knows how many only if ``fd`` is a file.
    :param name: what messages call ``fd``.
    :raises FormatError: it is no such stream, or a damaged one (TruncatedError: it ends early).
        What had come is kept, and marked incomplete.
    :raises UnsupportedError: it is of a version that does not exist yet.
    :raises InputError: it cannot be read; what had come is kept likewise.
    :raises OutputError: ``target`` exists, or cannot be written; what was is kept likewise.
    """
    if target.flattened or target.fd is not None:
        raise UsageError(f"{target.path}: a stream can only be rearranged into a file")
    check_creatable(target.path, target.overwrite, fd)
    stream = Stream(fd, name)
    check_header(bytes(stream.read_up_to(HEADER_SIZE)), name)
    file, told = _File(target, fd), Throttled(progress)
    try:
        try:
            for piece in _pieces(stream):
                file.write(piece)
                told("rearranging", stream.off, stream.size)
        except (FormatError, InputError) as error:
            error.message += f"; {file.give_up()}"
            raise
        except (KeyboardInterrupt, OutputError):
            file.give_up()
            raise
        size = file.complete()
    finally:
        file.close()
    told("rearranging", stream.off, stream.off)
    return size


class _Piece(NamedTuple):
    """Bytes of a record, not more than fit the stream's buffer."""

    off: int
    """Where in the file they belong."""
    data: memoryview
    end: int
    """Where their record ends."""

    @property
    def is_cut(self) -> bool:
        """The stream ends here, or cannot be read on."""
        return len(self.data) < min(_PIECE_SIZE, self.end - self.off)


def _pieces(stream: Stream) -> Iterator[_Piece]:
    """What the records have, each piece good until the next; all that came of the last one too."""
    while True:
        at = stream.off
        record = unpack_record(bytes(stream.read(RECORD_SIZE)), at, stream.name)
        if record is None:
            return
        off, end = record.off, record.off + record.size
        while off < end:
            data = stream.read_up_to(min(_PIECE_SIZE, end - off))
            if not data:
                raise stream.ended(stream.off, end - off)
            yield _Piece(off, data, end)
            off += len(data)


class Stream:
    """Bytes from a descriptor, in order."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self.name = name
        self._buffer = memoryview(bytearray(_PIECE_SIZE))
        self.off = 0
        """How many were read."""
        try:
            status = os.fstat(fd)
        except OSError as error:
            raise InputError(name, error.errno, "reading the stream") from error
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        """How many there are; 0 if that is not known."""

    def read(self, size: int) -> memoryview:
        """The next ``size`` bytes, at most 1 MiB; good until more are read."""
        start_off = self.off
        data = self.read_up_to(size)
        if len(data) < size:
            raise self.ended(start_off, size, len(data))
        return data

    def read_up_to(self, size: int) -> memoryview:
        """Likewise, fewer only where the stream ends, or where it cannot be read on."""
        filled = 0
        while filled < size:
            try:
                n = os.readv(self._fd, [self._buffer[filled:size]])
            except BlockingIOError:
                self._wait()
                continue
            except OSError as error:
                if filled:
                    break  # whoever asks for more is told
                doing = f"reading the stream after {self.off} bytes"
                raise InputError(self.name, error.errno, doing) from error
            if n == 0:
                break
            filled += n
            self.off += n
        return self._buffer[:filled]

    def ended(self, off: int, expected: int, found: int = 0) -> TruncatedError:
        """What to raise if at ``off`` there were not as many bytes as expected."""
        return TruncatedError(
            self.name, off, f"{expected} bytes, and at last an end mark", f"{found}",
            "its sender was stopped",
        )  # fmt: skip

    def _wait(self) -> None:
        import select  # noqa: PLC0415  hardly anybody's pipe is like that

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll()


class _File:
    """The file that a stream becomes; its first block is only true when it is complete.

    It is opened for the first record, or for as much of that as begins a dump: before, nobody could
    make use of it, and what another file of that name has may be worth more.
    """

    def __init__(self, target: Target, fd: int) -> None:
        self._target = target
        self._fd = fd
        self._output: Optional[Output] = None
        self._block = bytearray()
        self._covered = Covered()

    def write(self, piece: _Piece) -> None:
        """Write ``piece``; of the first block, a marked version."""
        off, data = piece.off, piece.data
        head = data[: max(0, _START_SIZE - off)]
        if head:
            self._block.extend(bytes(max(0, off + len(head) - len(self._block))))
            self._block[off : off + len(head)] = head
        if self._output is None:
            if piece.is_cut and not self._is_known:
                return
            self._output = open_output(self._target, self._fd)
        if head:
            self._output.write_at(0, mark_incomplete(bytes(self._block)))
        try:
            self._output.write_at(off + len(head), data[len(head) :])
        finally:
            if off < self._output.written_end:
                self._covered.add(off, self._output.written_end)

    def complete(self) -> int:
        """All has come: say so, when it is on the disk; the file's size."""
        if self._output is None:
            self._output = open_output(self._target, self._fd)
        self._output.sync()
        self._output.rewrite_start(self._block)
        self._output.end()
        return self._output.size

    def give_up(self) -> str:
        """Nothing more will come: no page that came by half is to be found; what is to be told."""
        if self._output is None:
            return "nothing that is of use has come, and no file was written"
        with suppress(OutputError):  # there is a more important error to be told
            forget_pages(self._output, self._covered.gaps())
        if not self._is_known:
            return "what came is kept, but without the start of a dump no reader opens it"
        return "what came is kept, marked incomplete"

    def close(self) -> None:
        """Let go of the file."""
        if self._output is not None:
            self._output.close()

    @property
    def _is_known(self) -> bool:
        """Whether the file begins as a dump does, and can be marked."""
        return any(mark_incomplete(bytes(self._block)))
