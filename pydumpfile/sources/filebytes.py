# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of an open file in large pieces: by mmap windows where the file allows it, else by pread.

Mapping is what makes /proc/vmcore fast: the kernel maps a whole window at once, but copies and
remaps page by page for read(2). For an ordinary file it saves the copy, but a page that cannot be
read then kills the process with SIGBUS. So a mapped ordinary file is populated by
MADV_POPULATE_READ first (Linux 5.14), which reports such a page as an error and is the faster way
to fault pages in; a kernel without it gets pread. Before Linux 6.9 the call tries a page that
cannot be read for ever, so there sendfile(2) to /dev/null, which copies nothing, has to succeed on
the same pages before.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import functools
import mmap
import os
import stat
from collections.abc import Sequence
from typing import Optional

from pydumpfile.pfn import Range, align_down, align_up

WINDOW_SIZE = 8 << 20
"""The most that one view may span, and so the most of a file that is mapped or buffered at once."""
_MADV_POPULATE_READ = 22
_POPULATING_ENDS = (6, 9)
"""The running kernel's release since which MADV_POPULATE_READ gives up on a page that cannot be
read (commit 631426ba1d45). Nothing but this number tells: to try it takes a broken disk."""
_SPARSE = 16
"""Of so many bytes one is wanted: then to map it costs more than to copy it."""
_MOST_TOUCHED = 1 << 20
"""Bytes of a buffer for such views that stay resident."""
_GRANULE = mmap.ALLOCATIONGRANULARITY


class FileBytes(abc.ABC):
    """A file's bytes by offset. Errors are plain :class:`OSError`; past the end it is EFAULT."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @abc.abstractmethod
    def view(self, off: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        """``size`` bytes (at most ``WINDOW_SIZE``) at ``off``, good until the next call.

        Only the ``wanted`` ranges, relative to ``off``, need to be right; all if None.
        """

    @abc.abstractmethod
    def drop_views(self) -> None:
        """Give back the memory that views take, until the next is asked for."""

    def read_into(self, off: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``off`` on, by pread."""
        done = 0
        while done < len(buffer):
            n = os.preadv(self.fd, [buffer[done:]], off + done)
            if n == 0:
                raise OSError(errno.EFAULT, "the file ends here")
            done += n


class ReadFile(FileBytes):
    """By pread into one buffer, which grows to what is asked for: works on every file."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._buffer = memoryview(b"")

    def view(self, off: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        if size > len(self._buffer):
            self._buffer = room_for(size)
        for start, end in wanted if wanted is not None else ((0, size),):
            self.read_into(off + start, self._buffer[start:end])
        return self._buffer[:size]

    def drop_views(self) -> None:
        self._buffer = memoryview(b"")


class _FewBytes(ReadFile):
    """The same for a few bytes here and there, of whose places few stay resident."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._places: Optional[Sequence[Range]] = None
        """What was asked for last: often the next is the same, elsewhere in the file."""
        self._touched: set[int] = set()
        """Pages of the buffer that are resident, by number."""

    def view(self, off: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        ranges = wanted if wanted is not None else ((0, size),)
        if ranges != self._places:
            pages = {
                page
                for start, end in ranges
                for page in range(start // _GRANULE, -(-end // _GRANULE))
            }
            if len(pages | self._touched) > _MOST_TOUCHED // _GRANULE:
                self.drop_views()
            self._touched |= pages
            self._places = ranges
        return super().view(off, size, ranges)

    def drop_views(self) -> None:
        super().drop_views()
        self._places = None
        self._touched = set()


class MappedFile(FileBytes):
    """By sliding mmap windows."""

    def __init__(self, fd: int, populate: bool) -> None:
        super().__init__(fd)
        self._populate = populate
        self._sparse = _FewBytes(fd)
        self._size = os.fstat(fd).st_size
        self._window: Optional[mmap.mmap] = None
        self._window_off = self._window_end = 0

    def view(self, off: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        if off + size > self._size:
            raise OSError(errno.EFAULT, "the file ends here")
        if self._populate and wanted and _SPARSE * sum(end - start for start, end in wanted) < size:
            return self._sparse.view(off, size, wanted)
        if not (self._window_off <= off and off + size <= self._window_end):
            self._slide(off, size)
        assert self._window is not None
        at = off - self._window_off
        if self._populate:
            for start, end in wanted if wanted is not None else ((0, size),):
                page = align_down(at + start, _GRANULE)
                if not _populating_ends():
                    _bring_in(self.fd, off + start, off + end)
                self._window.madvise(_MADV_POPULATE_READ, page, at + end - page)
        return memoryview(self._window)[at : at + size]

    def drop_views(self) -> None:
        self._sparse.drop_views()
        self._window = None
        self._window_off = self._window_end = 0

    def _slide(self, off: int, size: int) -> None:
        """Map a window that starts at ``off``; the old one goes with the last view of it."""
        self.drop_views()
        start = align_down(off, _GRANULE)
        end = min(max(align_up(off + size, _GRANULE), start + WINDOW_SIZE), self._size)
        try:
            self._window = mmap.mmap(
                self.fd, end - start, mmap.MAP_SHARED, mmap.PROT_READ, offset=start
            )
        except ValueError as error:  # the file has become shorter since it was opened
            raise OSError(errno.EFAULT, "the file ends here") from error
        self._window_off = start
        self._window_end = end


def room_for(size: int) -> memoryview:
    """``size`` bytes of zeros, of which only what is touched becomes resident.

    A bytearray is resident from the start, since it is filled; and of large pages, which some
    kernels give to whoever does not refuse them, one byte would take 2 MiB.

    :raises MemoryError: the process may not have so many.
    """
    try:
        room = mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no room for {size} bytes: {error.strerror}") from error
    with contextlib.suppress(OSError):  # a kernel without them
        room.madvise(mmap.MADV_NOHUGEPAGE)
    return memoryview(room)


def open_bytes(fd: int, use_mmap: bool = True) -> FileBytes:
    """The fastest reader that works for the file behind ``fd``."""
    status = os.fstat(fd)
    if not use_mmap or not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return ReadFile(fd)
    try:
        window = mmap.mmap(fd, min(_GRANULE, status.st_size), mmap.MAP_SHARED, mmap.PROT_READ)
    except OSError:  # /proc/vmcore before Linux 3.11, or memory the kernel cannot map
        return ReadFile(fd)
    try:
        window.madvise(_MADV_POPULATE_READ)
        _bring_in(fd, 0, 1)
        return MappedFile(fd, populate=True)
    except OSError:
        # A mapping of page frames, as /proc/vmcore gives, is populated from the start and refuses
        # the call; so does every mapping before Linux 5.14. st_dev tells the two apart.
        if _is_proc(fd):
            return MappedFile(fd, populate=False)
        return ReadFile(fd)
    finally:
        window.close()


def _bring_in(fd: int, off: int, end_off: int) -> None:
    """Have the kernel read ``[off, end_off)`` into the page cache, or say why it cannot."""
    while off < end_off:
        n = os.sendfile(_null_fd(), fd, off, end_off - off)
        if n == 0:
            raise OSError(errno.EFAULT, "the file ends here")
        off += n


@functools.cache
def _populating_ends() -> bool:
    """Whether a page that cannot be read makes MADV_POPULATE_READ fail, on the running kernel."""
    try:
        major, minor = os.uname().release.split("-")[0].split(".")[:2]
        return (int(major), int(minor)) >= _POPULATING_ENDS
    except ValueError:  # a release of somebody's own making
        return False


@functools.cache
def _null_fd() -> int:
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _is_proc(fd: int) -> bool:
    """Whether the file lives in /proc, where no mapped page can be missing."""
    try:
        return os.fstat(fd).st_dev == os.stat("/proc").st_dev
    except OSError:
        return False
