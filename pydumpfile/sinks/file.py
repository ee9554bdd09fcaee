# SPDX-License-Identifier: GPL-2.0-or-later
"""The usual output: a regular file."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from pydumpfile.errors import OutputError
from pydumpfile.formats.incomplete import MARKED_SIZE, mark_incomplete
from pydumpfile.sinks.base import Bytes, Input, Output, create

_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system says that cannot do it, where the C library does not help out."""


class OutputFile(Output):
    """A regular file, open to be written and read back.

    See :func:`pydumpfile.sinks.base.create` for how it comes to be.
    """

    reads_back = True

    def __init__(self, path: str, overwrite: bool, *inputs: Input) -> None:
        super().__init__(path)
        self._fd = create(path, overwrite, *inputs)

    def write_at(self, off: int, data: Bytes) -> None:
        end_off = off + len(data)
        rest = self._fitting(off, data)
        self.written_end = off
        while rest:
            try:
                n = os.pwrite(self._fd, rest, off)
            except OSError as error:
                raise self._failed(error, f"writing the dump at {off:#x}") from error
            rest = rest[n:]
            off += n
            self.written_end = off
            self.size = max(self.size, off)
        self._check_limit(end_off)

    def extend(self, size: int) -> None:
        if size <= self.size:
            return
        self._check_limit(size)
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._failed(error, f"extending the dump to {size:#x}") from error
        self.size = size

    def reserve(self, size: int) -> None:
        self._check_limit(size)
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise self._failed(error, f"making room for {size:#x} bytes") from error
        self.extend(size)

    def rewrite_start(self, data: Bytes) -> None:
        self.write_at(0, data)

    def read_at(self, off: int, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, off)
        except OSError as error:
            raise self._failed(error, f"reading back the dump at {off:#x}") from error
        if len(data) != size:
            raise OutputError(self.path, errno.EIO, f"reading back {size} bytes at {off:#x}")
        return data

    def shorten(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._failed(error, f"cutting the dump to {size:#x}") from error
        self.size = size

    def sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error, "writing the dump to disk") from error

    def end(self) -> None:
        try:
            self.sync()
        except OutputError:
            # Nobody knows what of it the disk has: it is not to pass for whole, though it may be.
            with suppress(OutputError):
                start = self.read_at(0, min(self.size, MARKED_SIZE))
                self.write_at(0, mark_incomplete(start))
            raise

    def close(self) -> None:
        os.close(self._fd)

    def _failed(self, error: OSError, doing: str) -> OutputError:
        failed = super()._failed(error, doing)
        failed.message += "; what was written is kept and marked incomplete"
        return failed
