# SPDX-License-Identifier: GPL-2.0-or-later
"""What all outputs have in common: what is asked of them, how they come to be, how they fail."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from typing import Optional, Union

from pydumpfile.errors import OutputError, SizeLimitError, UsageError
from pydumpfile.filekind import DIRECTORY, other_kind

_ADVICE = {
    errno.EEXIST: "give -f to overwrite it",
    errno.ENOSPC: "make room, or give another target",
    errno.EDQUOT: "make room, or give another target",
    errno.EPIPE: "whoever was to read it has gone",
    errno.EROFS: "mount it to be written (mount -o remount,rw), or give another target",
    errno.ENXIO: "nobody is there to read it",
}

Bytes = Union[bytes, bytearray, memoryview]
Input = Union[str, int]
"""A file that is read: its path or descriptor."""


class Output(ABC):
    """Bytes at offsets of a file, be there a file or not. Every method raises OutputError."""

    reads_back = False
    """Whether :meth:`read_at` can be asked."""

    def __init__(self, path: str) -> None:
        self.path = path
        """What it is called."""
        self.size = 0
        """Bytes of what there is in the end: a file's size, a stream's length."""
        self.size_limit: Optional[int] = None
        """How many there may be; then it is as if there were no more space."""
        self.written_end = 0
        """Up to where the latest :meth:`write_at` came, be it one that failed; of those outputs
        that ``reads_back``."""

    @abstractmethod
    def write_at(self, off: int, data: Bytes) -> None:
        """Write all of ``data`` at ``off``, where nothing was written before."""

    @abstractmethod
    def extend(self, size: int) -> None:
        """Make the file at least ``size`` bytes long; what was not written reads as zeros."""

    def reserve(self, size: int) -> None:
        """As :meth:`extend`; fails here if there is no space for so much, where that can be known.

        A hole that is to be filled last would be found to have no place then.
        """
        self.extend(size)

    @abstractmethod
    def rewrite_start(self, data: Bytes) -> None:
        """Replace the first bytes of the file, of which ``data`` is a newer version.

        Only :meth:`end` may follow.
        """

    @abstractmethod
    def sync(self) -> None:
        """Return when all that was written is on the disk, where there is one."""

    @abstractmethod
    def end(self) -> None:
        """All was written: say so, if the format of a stream wants it said, and :meth:`sync`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it. Without :meth:`end` a stream is a truncated one."""

    def read_at(self, off: int, size: int) -> bytes:
        """``size`` bytes at ``off``, of what was written before; only if it ``reads_back``."""
        raise NotImplementedError(f"{self.path} cannot be read back: {size} bytes at {off:#x}")

    def shorten(self, size: int) -> None:
        """Give up all behind the first ``size`` bytes; only if it ``reads_back``."""
        raise NotImplementedError(f"{self.path} cannot be cut to {size} bytes")

    def _fitting(self, off: int, data: Bytes) -> memoryview:
        """As much of ``data``, which is to come at ``off``, as the limit allows."""
        view = memoryview(data)
        return view if self.size_limit is None else view[: max(0, self.size_limit - off)]

    def _check_limit(self, size: int) -> None:
        """Raise SizeLimitError if ``size`` bytes are more than there may be."""
        if self.size_limit is not None and size > self.size_limit:
            raise SizeLimitError(self.path, self.size_limit)

    def _failed(self, error: OSError, doing: str) -> OutputError:
        return output_error(self.path, error, doing)


def wait_until_writable(fd: int) -> None:
    """Whoever gave us the descriptor does not want to be kept waiting; we do not mind."""
    import select  # noqa: PLC0415  hardly anybody's pipe is like that

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


def output_error(path: str, error: OSError, doing: str) -> OutputError:
    """What to raise from ``error``."""
    number = error.errno or errno.EIO
    return OutputError(path, number, doing, _ADVICE.get(number, ""))


def create(path: str, overwrite: bool, *inputs: Input) -> int:
    """A new, empty, private regular file; its descriptor, for reading and writing.

    :param overwrite: replace what is there; else an existing file is refused.
    :param inputs: what is read.
    :raises OutputError: it cannot be created, or exists.
    :raises UsageError: it is no regular file, one of the inputs, or where messages go.
    """
    refuse_inputs(path, path, *inputs)
    _refuse_streams(path)
    _refuse_other_kinds(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (0 if overwrite else os.O_EXCL)
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise output_error(path, error, "creating the dump") from error
    try:
        _refuse_other_kinds(path, fd)  # it may be another one by now
        os.ftruncate(fd, 0)
        os.fchmod(fd, 0o600)  # all of a machine's secrets are in there
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_creatable(path: str, overwrite: bool, *inputs: Input) -> None:
    """Raise what :func:`create` would, as far as that is known without touching anything."""
    refuse_inputs(path, path, *inputs)
    _refuse_streams(path)
    _refuse_other_kinds(path)
    try:
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(errno.EEXIST, "exists")
        if not os.path.exists(path):  # a link that points nowhere is created where it points
            directory = os.path.dirname(os.path.realpath(path))
            os.stat(os.path.join(directory, ""))  # that it is one
            if os.statvfs(directory).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, "read only")
            if not os.access(directory, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "not writable")
        else:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise output_error(path, error, "creating the dump") from error


def _refuse_streams(path: str) -> None:
    """Raise UsageError if standard output or error is ``path``: messages would end up in there."""
    for fd, stream in ((1, "standard output"), (2, "standard error")):
        if _is_same(path, fd):
            raise UsageError(f"{path} is where {stream} goes; the output needs another name")


def _refuse_other_kinds(path: str, fd: Optional[int] = None) -> None:
    """Raise UsageError if ``path`` is there and no regular file.

    :param fd: ``path``, opened.
    """
    kind = other_kind(path if fd is None else fd)
    if kind == DIRECTORY:
        raise UsageError(f"{path} is a directory; name the file in it that is to be written")
    if kind:
        raise UsageError(
            f"{path} is {kind}, and only a regular file can be written; a device or pipe "
            "takes a stream, of -F"
        )


def refuse_inputs(target: Input, name: str, *inputs: Input) -> None:
    """Raise UsageError if ``target``, which messages call ``name``, is a file that is read.

    By whatever other name: a link is no way round.
    """
    for given in inputs:
        if _is_same(target, given):
            raise UsageError(f"{name} is the input itself; the output needs another name")


def _is_same(one: Input, other: Input) -> bool:
    """Whether both exist, and are the same file."""
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False
