# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 2: physical memory in. :func:`open_source` recognises a file and says what it can give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Union

from pydumpfile.errors import (
    FormatError,
    InputError,
    PydumpfileError,
    UnsupportedError,
    UsageError,
)
from pydumpfile.formats import elf as elf_format  # ``elf`` here is the source
from pydumpfile.formats.flattened import SIGNATURE as FLATTENED_SIGNATURE
from pydumpfile.formats.kdump import SIGNATURE as KDUMP_SIGNATURE
from pydumpfile.sources.base import Source
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.image import FileImage, Image, advice_on_opening, open_seekable

__all__ = ["Source", "open_source"]

_MAGIC_SIZE = 16
_VADDR_MASK = (1 << 47) - 1
"""The part of a virtual address that is in a file offset on every architecture."""


def open_source(path: Union[str, Sequence[str]], use_mmap: bool = True) -> Source:
    """Open the memory image at ``path``, whatever format it has.

    :param path: a file; or several, which are all parts of one split dump, in any order.
    :param use_mmap: map the file where it allows that; else always read(2).
    :raises InputError: the file cannot be opened or read.
    :raises UnsupportedError: a known format that pydumpfile does not read.
    :raises FormatError: anything else that is not a memory image; TruncatedError if it ends early.
    :raises UsageError: several files that are not the parts of one dump, or not all of them.
    """
    if isinstance(path, str):
        return _open_file(path, use_mmap)
    if len(path) == 1:
        return _open_file(path[0], use_mmap)
    return _open_parts(path, use_mmap)


def _open_file(path: str, use_mmap: bool) -> Source:
    try:
        fd = open_seekable(path)
    except OSError as error:
        from pydumpfile.sources.kcore import advice  # noqa: PLC0415

        hint = advice(path, error.errno) or advice_on_opening(error)
        raise InputError(path, error.errno, "opening the memory image", hint) from error
    try:
        return _open_image(FileImage(fd, path), use_mmap)
    except BaseException:
        os.close(fd)
        raise


def _open_parts(paths: Sequence[str], use_mmap: bool) -> Source:
    from pydumpfile.sources.partset import PartSet  # noqa: PLC0415
    from pydumpfile.sources.split import SplitSource  # noqa: PLC0415

    if not paths:
        raise UsageError("there is nothing to open: no file was given")
    parts = PartSet(paths)
    try:
        return SplitSource(parts, use_mmap)
    except BaseException:
        parts.close()
        raise


def _open_image(image: Image, use_mmap: bool) -> Source:
    magic = _start(image, _MAGIC_SIZE)
    if magic.startswith(FLATTENED_SIGNATURE) and isinstance(image, FileImage):
        from pydumpfile.sources.flattened import FlattenedImage  # noqa: PLC0415

        return _open_image(FlattenedImage(image), use_mmap)
    if magic.startswith(elf_format.ELFMAG):
        if is_kcore(image):
            from pydumpfile.sources.kcore import KcoreSource  # noqa: PLC0415

            return KcoreSource(image)
        return ElfSource(image, use_mmap)
    if magic.startswith(KDUMP_SIGNATURE):
        from pydumpfile.sources.kdump import KdumpSource  # noqa: PLC0415

        return KdumpSource(image, use_mmap)
    raise _refusal(image, magic)


def is_kcore(image: Image) -> bool:
    """Whether the PT_LOADs lie in the file by their virtual addresses, some of them only there."""
    try:
        header = elf_format.Ehdr._make(
            elf_format.EHDR.unpack(image.read(0, elf_format.EHDR.size).ljust(64, b"\0"))
        )
        if header.e_ident[elf_format.EI_CLASS :][:2] != bytes(
            (elf_format.ELFCLASS64, elf_format.ELFDATA2LSB)
        ):
            return False
        table = image.read(header.e_phoff, header.e_phnum * elf_format.PHDR.size)
    except (OSError, OverflowError):
        return False
    phdrs = elf_format.parse_phdrs(table[: len(table) - len(table) % elf_format.PHDR.size])
    loads = [phdr for phdr in phdrs if phdr.p_type == elf_format.PT_LOAD]
    shifts = {(load.p_offset - load.p_vaddr) & _VADDR_MASK for load in loads}
    return len(shifts) == 1 and any(load.p_paddr == elf_format.NO_PADDR for load in loads)


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
