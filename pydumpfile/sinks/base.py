# SPDX-License-Identifier: GPL-2.0-or-later
"""The file a dump is written to: created with care, its errors named."""

from __future__ import annotations

import errno
import os
import stat
from typing import Union

from pydumpfile.errors import OutputError, UsageError

_ADVICE = {
    errno.EEXIST: "give -f to overwrite it",
    errno.ENOSPC: "what was written is kept and marked incomplete; leave out more pages with a "
    "higher -d, compress with -z, or give another target",
    errno.EDQUOT: "what was written is kept and marked incomplete",
}

Bytes = Union[bytes, bytearray, memoryview]


class OutputFile:
    """A regular file, open to be written and read back.

    :param overwrite: replace what is there; else an existing file is refused.
    :raises OutputError: it cannot be created, or exists.
    :raises UsageError: it is no regular file, or the very input.
    """

    def __init__(self, path: str, overwrite: bool, source_path: str) -> None:
        self.path = path
        _refuse_the_input(path, source_path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if overwrite else os.O_EXCL)
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._failed(error, "creating the dump") from error
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise UsageError(f"{path}: a dump can only be written to a regular file")
            os.ftruncate(self._fd, 0)
            os.fchmod(self._fd, 0o600)  # all of a machine's secrets are in there
        except BaseException:
            os.close(self._fd)
            raise

    def write_at(self, off: int, data: Bytes) -> None:
        """Write all of ``data`` at ``off``."""
        rest = memoryview(data)
        while rest:
            try:
                n = os.pwrite(self._fd, rest, off)
            except OSError as error:
                raise self._failed(error, f"writing the dump at {off:#x}") from error
            rest = rest[n:]
            off += n

    def extend(self, size: int) -> None:
        """Make the file ``size`` bytes long; what was not written reads as zeros."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._failed(error, f"extending the dump to {size:#x}") from error

    def read_at(self, off: int, size: int) -> bytes:
        """``size`` bytes at ``off``, of what was written before."""
        try:
            data = os.pread(self._fd, size, off)
        except OSError as error:
            raise self._failed(error, f"reading back the dump at {off:#x}") from error
        if len(data) != size:
            raise OutputError(self.path, errno.EIO, f"reading back {size} bytes at {off:#x}")
        return data

    def sync(self) -> None:
        """Return when all is on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error, "writing the dump to disk") from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def _failed(self, error: OSError, doing: str) -> OutputError:
        number = error.errno or errno.EIO
        return OutputError(self.path, number, doing, _ADVICE.get(number, ""))


def _refuse_the_input(path: str, source_path: str) -> None:
    try:
        same = os.path.samefile(path, source_path)
    except OSError:
        return  # one of them does not exist: not the same
    if same:
        raise UsageError(f"{path} is the memory image itself; the dump needs another name")
