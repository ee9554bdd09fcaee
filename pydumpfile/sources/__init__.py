# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 2: physical memory in. :func:`open_source` recognises a file and says what it can give."""

from __future__ import annotations

import os

from pydumpfile.errors import FormatError, InputError, UnsupportedError
from pydumpfile.formats.elf import ELFMAG
from pydumpfile.sources.base import Source
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.image import FileImage

__all__ = ["Source", "open_source"]

_OTHERS = (
    (b"KDUMP   ", "a kdump-compressed dump as input"),
    (b"DISKDUMP", "a diskdump as input"),
    (b"makedumpfile\0", "a flattened dump as input"),
    (b"sadump\0\0", "a Fujitsu sadump as input"),
    (b"\x01\xef\x00\xfe", "an LKCD dump as input"),
)


def open_source(path: str, use_mmap: bool = True) -> Source:
    """Open the memory image at ``path``, whatever format it has.

    :param use_mmap: map the file where it allows that; else always read(2).
    :raises InputError: the file cannot be opened or read.
    :raises UnsupportedError: a known format that pydumpfile does not read.
    :raises FormatError: anything else that is not a memory image; TruncatedError if it ends early.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(path, error.errno, "opening the memory image") from error
    try:
        magic = _magic(fd, path)
        if magic.startswith(ELFMAG):
            return ElfSource(FileImage(fd, path), use_mmap)
        for start, what in _OTHERS:
            if magic.startswith(start):
                raise UnsupportedError(f"{path}: {what}")
        raise FormatError(
            path, 0, "an ELF vmcore", f"the bytes {magic[:8].hex(' ') or '(none: empty file)'}",
            "give /proc/vmcore, a copy of it, or QEMU's dump-guest-memory output",
        )  # fmt: skip
    except BaseException:
        os.close(fd)
        raise


def _magic(fd: int, path: str) -> bytes:
    try:
        return os.pread(fd, 16, 0)
    except OSError as error:
        raise InputError(path, error.errno, "reading the memory image") from error
