# SPDX-License-Identifier: GPL-2.0-or-later
"""From a flattened stream to the file it stands for.

The stream is read once, front to back, so it may come from a pipe or a raw partition. Until its end
mark has come and all is on the disk, the file does not pass for a whole one, whatever the stream
says: its first block is written with the format's own mark of an incomplete dump, or, where it is
none of the formats known here, as zeros.
"""

from __future__ import annotations

import os
import stat
from typing import Optional

from pydumpfile.errors import InputError, TruncatedError, UsageError
from pydumpfile.formats.flattened import (
    HEADER_SIZE,
    RECORD_SIZE,
    check_header,
    unpack_record,
)
from pydumpfile.formats.incomplete import mark_incomplete
from pydumpfile.progress import Progress, Throttled
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.base import Output

_PIECE_SIZE = 1 << 20
_START_SIZE = 4096
"""Enough of a file for what tells its format, and whether it is complete."""


def rearrange(
    fd: int, target: Target, progress: Optional[Progress] = None, name: str = "standard input"
) -> int:
    """Write the file whose flattened stream is read from ``fd``; its size.

    Nothing is read beyond the stream's end mark.

    :param progress: in bytes of the stream; it knows how many only if ``fd`` is a file.
    :param name: what messages call ``fd``.
    :raises FormatError: it is no such stream, or a damaged one (TruncatedError: it ends early).
        What had come is kept, and marked incomplete.
    :raises UnsupportedError: it is of a version that does not exist yet.
    :raises InputError: it cannot be read.
    :raises OutputError: ``target`` cannot be written, or exists.
    """
    if target.flattened or target.fd is not None:
        raise UsageError(f"{target.path}: a stream can only be rearranged into a file")
    stream = Stream(fd, name)
    check_header(bytes(stream.read_up_to(HEADER_SIZE)), name)  # before the target is touched
    output = open_output(target, fd)
    try:
        _copy(stream, output, Throttled(progress))
    finally:
        output.close()
    return output.size


def _copy(stream: Stream, output: Output, progress: Throttled) -> None:
    start = _Start(output)
    while True:
        at = stream.off
        record = unpack_record(bytes(stream.read(RECORD_SIZE)), at, stream.name)
        if record is None:
            break
        for off in range(record.off, record.off + record.size, _PIECE_SIZE):
            data = stream.read(min(_PIECE_SIZE, record.off + record.size - off))
            start.write_at(off, data)
            progress("rearranging", stream.off, stream.size)
    output.sync()
    start.complete()
    output.end()
    progress("rearranging", stream.off, stream.off)


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
            raise TruncatedError(
                self.name, start_off, f"{size} bytes, and at last an end mark", f"{len(data)}",
                "its sender was stopped; what came is kept, marked incomplete",
            )  # fmt: skip
        return data

    def read_up_to(self, size: int) -> memoryview:
        """Likewise, fewer only where the stream ends."""
        filled = 0
        while filled < size:
            try:
                n = os.readv(self._fd, [self._buffer[filled:size]])
            except BlockingIOError:
                self._wait()
                continue
            except OSError as error:
                doing = f"reading the stream after {self.off} bytes"
                raise InputError(self.name, error.errno, doing) from error
            if n == 0:
                break
            filled += n
            self.off += n
        return self._buffer[:filled]

    def _wait(self) -> None:
        import select  # noqa: PLC0415  hardly anybody's pipe is like that

        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll()


class _Start:
    """The output, but for its first block, which is only true when it is complete."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._block = bytearray()

    def write_at(self, off: int, data: memoryview) -> None:
        """Write ``data``; of the first block, a marked version."""
        head = data[: max(0, _START_SIZE - off)]
        if head:
            self._block.extend(bytes(max(0, off + len(head) - len(self._block))))
            self._block[off : off + len(head)] = head
            self._output.write_at(0, mark_incomplete(bytes(self._block)))
        self._output.write_at(off + len(head), data[len(head) :])

    def complete(self) -> None:
        """All is there, and on the disk."""
        self._output.rewrite_start(self._block)
