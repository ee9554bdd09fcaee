# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 2: physical memory in. :func:`open_source` recognises a file and says what it can give."""

from __future__ import annotations

import os

from pydumpfile.errors import FormatError, InputError, PydumpfileError, UnsupportedError
from pydumpfile.formats.elf import ELFMAG
from pydumpfile.formats.flattened import SIGNATURE as FLATTENED_SIGNATURE
from pydumpfile.formats.kdump import SIGNATURE as KDUMP_SIGNATURE
from pydumpfile.sources.base import Source
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.image import FileImage, Image
from pydumpfile.sources.kcore import KcoreSource, advice, is_kcore

__all__ = ["Source", "open_source"]

_MAGIC_SIZE = 16


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
        hint = advice(path, error.errno)
        raise InputError(path, error.errno, "opening the memory image", hint) from error
    try:
        return _open_image(FileImage(fd, path), use_mmap)
    except BaseException:
        os.close(fd)
        raise


def _open_image(image: Image, use_mmap: bool) -> Source:
    magic = _start(image, _MAGIC_SIZE)
    if magic.startswith(FLATTENED_SIGNATURE) and isinstance(image, FileImage):
        from pydumpfile.sources.flattened import FlattenedImage  # noqa: PLC0415

        return _open_image(FlattenedImage(image), use_mmap)
    if magic.startswith(ELFMAG):
        return KcoreSource(image) if is_kcore(image) else ElfSource(image, use_mmap)
    if magic.startswith(KDUMP_SIGNATURE):
        from pydumpfile.sources.kdump import KdumpSource  # noqa: PLC0415

        return KdumpSource(image, use_mmap)
    raise _refusal(image, magic)


def _refusal(image: Image, magic: bytes) -> PydumpfileError:
    """Of a file that is nothing pydumpfile reads: by its name, if it has one."""
    from pydumpfile.sources.recognise import LONGEST, recognise  # noqa: PLC0415

    known = recognise(_start(image, LONGEST))
    if known is not None:
        name, advice = known
        return UnsupportedError(f"{image.path}: {name} as input", advice)
    return FormatError(
        image.path, 0, "an ELF vmcore or a kdump-compressed dump",
        f"the bytes {magic[:8].hex(' ') or '(none: empty file)'}",
        "give /proc/vmcore, a copy of it, QEMU's dump-guest-memory output, or a dump",
    )  # fmt: skip


def _start(image: Image, size: int) -> bytes:
    try:
        return image.read(0, size)
    except OSError as error:
        raise InputError(image.path, error.errno, "reading the memory image") from error
