# SPDX-License-Identifier: GPL-2.0-or-later
"""The output for pipes: a file's writes as records of the flattened format, one by one."""

from __future__ import annotations

import os
import stat

from pydumpfile.errors import UsageError
from pydumpfile.formats.flattened import END_MARK, Record, copies_until_found, pack_header
from pydumpfile.sinks.base import (
    Bytes,
    Input,
    Output,
    create,
    refuse_inputs,
    wait_until_writable,
)


class FlattenedStream(Output):
    """A stream into a pipe, socket, device or file, from where its position is.

    :param fd: open for writing; it stays open.
    :param path: what messages call it.
    :param inputs: what is read; never written over.
    :raises UsageError: it is a terminal, or one of the inputs.
    """

    def __init__(self, fd: int, path: str, *inputs: Input) -> None:
        super().__init__(path)
        check_stream(fd, path, *inputs)
        self._fd = fd
        self._is_ours = False
        try:
            mode = os.fstat(fd).st_mode
        except OSError as error:
            raise self._failed(error, "writing the dump") from error
        self._has_disk = stat.S_ISREG(mode) or stat.S_ISBLK(mode)
        self._n_records = 0
        self._written_end = 0
        """How far records reach in the file that the stream stands for."""
        self._extended_end = 0
        """How far it is to reach."""
        self._write(pack_header())

    @classmethod
    def create(cls, path: str, overwrite: bool, *inputs: Input) -> FlattenedStream:
        """A stream kept in a new file; see :func:`pydumpfile.sinks.base.create`."""
        fd = create(path, overwrite, *inputs)
        try:
            stream = cls(fd, path)
        except BaseException:
            os.close(fd)
            raise
        stream._is_ours = True
        return stream

    @classmethod
    def nowhere(cls, path: str) -> FlattenedStream:
        """A stream that is only counted, of a dry run."""
        stream = cls(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), path)
        stream._is_ours = True
        return stream

    def write_at(self, off: int, data: Bytes) -> None:
        if not data:
            return  # readers refuse empty records
        self._write(Record(off, len(data)).pack(), data)
        self._n_records += 1
        self._written_end = max(self._written_end, off + len(data))

    def extend(self, size: int) -> None:
        self._extended_end = max(self._extended_end, size)

    def rewrite_start(self, data: Bytes) -> None:
        self._fill_up()
        for _ in range(copies_until_found(self._n_records)):
            self.write_at(0, data)

    def sync(self) -> None:
        if not self._has_disk:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error, "writing the dump to disk") from error

    def end(self) -> None:
        self._fill_up()
        self._write(END_MARK)
        self.sync()

    def close(self) -> None:
        if self._is_ours:
            os.close(self._fd)

    def _fill_up(self) -> None:
        """Where the file was only extended, its last byte says how long it is."""
        if self._written_end < self._extended_end:
            self.write_at(self._extended_end - 1, b"\0")

    def _write(self, *pieces: Bytes) -> None:
        """All of ``pieces``, in as few calls as it takes."""
        rest, end_off = [], self.size
        for piece in pieces:
            rest.append(self._fitting(end_off, piece))
            end_off += len(piece)
        while rest:
            try:
                n = os.writev(self._fd, rest)
            except BlockingIOError:
                wait_until_writable(self._fd)
                continue
            except OSError as error:
                raise self._failed(error, f"writing the dump after {self.size} bytes") from error
            self.size += n
            while rest and n >= len(rest[0]):
                n -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][n:]
        self._check_limit(end_off)


def check_stream(fd: int, path: str, *inputs: Input) -> None:
    """Raise UsageError if ``fd``, which messages call ``path``, cannot take a stream."""
    if os.isatty(fd):
        raise UsageError(f"{path} is a terminal; send the dump to a file or through a pipe")
    refuse_inputs(fd, path, *inputs)
