# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that a format is looked for in: one on the disk, or what a flattened one stands for."""

from __future__ import annotations

import abc
import errno
import os
import stat
from collections.abc import Sequence

from pydumpfile.pfn import Range
from pydumpfile.sources.filebytes import FileBytes, open_bytes


class Image(abc.ABC):
    """Bytes by offset. Errors are plain :class:`OSError`; several threads may read at once."""

    path: str
    size: int
    """Bytes of it; 0 where the file does not say, as some of /proc do not."""
    is_cut_off: bool = False
    """It says itself that it has no end."""
    gaps: Sequence[Range] = ()
    """If so, the bytes of it that have not come though others have, behind them; they read as
    zeros."""

    @abc.abstractmethod
    def read(self, off: int, size: int) -> bytes:
        """A copy of ``size`` bytes at ``off``; fewer only where the file ends."""

    @abc.abstractmethod
    def windows(self, use_mmap: bool) -> FileBytes:
        """A reader of large pieces, for one thread."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the file."""


class FileImage(Image):
    """A file as it is; takes over the open descriptor ``fd``."""

    def __init__(self, fd: int, path: str) -> None:
        self.path = path
        status = os.fstat(fd)
        self.size = status.st_size
        if stat.S_ISBLK(status.st_mode):  # a core on a raw partition, as large as that
            self.size = os.lseek(fd, 0, os.SEEK_END)
        self._fd = fd

    def read(self, off: int, size: int) -> bytes:
        data = os.pread(self._fd, size, off)
        while 0 < len(data) < size:
            more = os.pread(self._fd, size - len(data), off + len(data))
            if not more:
                break
            data += more
        return data

    def windows(self, use_mmap: bool) -> FileBytes:
        return open_bytes(self._fd, use_mmap)

    def close(self) -> None:
        os.close(self._fd)


def open_seekable(path: str) -> int:
    """Open a file that is to be read in any order; its descriptor.

    :raises OSError: it cannot be opened. ESPIPE: it is a pipe, the writer of which nobody waits
        for.
    """
    if stat.S_ISFIFO(os.stat(path).st_mode):
        raise OSError(errno.ESPIPE, "a pipe")
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def advice_on_opening(error: OSError) -> str:
    """What to do about a file that could not be opened; empty if there is nothing to be said."""
    if error.errno == errno.ESPIPE:
        return "a pipe can be read but once; save what comes out of it to a file"
    return ""
