# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel described from outside its core, with symbols where the linker put them.

In the notation of VMCOREINFO, as ``makedumpfile -g`` writes it and ``-i`` reads it. What only holds
for one boot of the kernel is no part of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError, InputError, UsageError
from pydumpfile.filekind import CHARACTER_DEVICE, PIPE, other_kind
from pydumpfile.formats import vmcoreinfo
from pydumpfile.memory.x86_64 import START_KERNEL_MAP
from pydumpfile.sinks.base import output_error, refuse_inputs

_MAX_SIZE = 1 << 20
_LARGEST_IMAGE = 1 << 30
"""KERNEL_IMAGE_SIZE with KASLR; behind it are modules."""
_ADVICE = "give a file that makedumpfile -g or pydumpfile -g wrote"

OF_ONE_BOOT = frozenset((
    "CRASHTIME", "KERNELOFFSET", "NUMBER(phys_base)", "NUMBER(pgtable_l5_enabled)",
    "NUMBER(sme_mask)", "NUMBER(MAX_PHYSMEM_BITS)", "NUMBER(VMALLOC_START)", "SYMBOL(vmemmap)",
))  # fmt: skip
"""Keys of VMCOREINFO that say nothing of the same kernel booted again."""

# makedumpfile 1.7.2 takes an array without a length in DWARF, such as node_data, for this long.
_NO_LENGTH = str((1 << 63) - 2)


class Description(NamedTuple):
    """What a file says of a kernel."""

    lines: dict[str, str]
    """By VMCOREINFO's keys."""
    place: str
    """The file, as error messages call it."""
    banner: Optional[bytes] = None
    """What lies at the symbol linux_banner: the kernel's version, compiler, and time of build."""
    path: str = ""
    """Of the file, if there is one."""

    @property
    def release(self) -> str:
        """``uname -r``; empty if the file does not say."""
        return self.lines.get("OSRELEASE", "")

    def moved(self, kernel_offset: int) -> dict[str, str]:
        """The lines with every symbol where KASLR put it."""
        return {
            key: f"{vmcoreinfo.to_number(key, value) + kernel_offset:x}"
            if key.startswith("SYMBOL(") else value
            for key, value in self.lines.items()
        }  # fmt: skip


def in_image(vaddr: int) -> bool:
    """Whether ``vaddr`` is of the kernel image, all of which KASLR moves alike."""
    return START_KERNEL_MAP <= vaddr < START_KERNEL_MAP + _LARGEST_IMAGE


def description_in(vmlinux: str, vmcoreinfo_file: str) -> Description:
    """What is said by one of two files; the other's name is empty.

    :raises UsageError: both are given.
    :raises PydumpfileError: one of its kinds, as the reader of either raises.
    """
    if vmlinux and vmcoreinfo_file:
        raise UsageError(f"{vmlinux} and {vmcoreinfo_file} both describe the kernel; give one")
    if vmcoreinfo_file:
        return read_description(vmcoreinfo_file)
    from pydumpfile.kernel.exports import describe  # noqa: PLC0415  loads pyelftools

    return describe(vmlinux)


def refuse_other_kinds(path: str) -> None:
    """Raise UsageError if ``path`` is there and no regular file: a pipe may have no writer."""
    kind = other_kind(path)
    if kind:
        raise UsageError(f"{path} is {kind}, and only a regular file can describe a kernel")


def read_description(path: str) -> Description:
    """The vmcoreinfo file at ``path``, or the VMCOREINFO of a running kernel copied to a file.

    :raises InputError: it cannot be read.
    :raises UsageError: it is no regular file.
    :raises FormatError: it is not what it should be.
    """
    refuse_other_kinds(path)
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise InputError(path, error.errno, "reading the vmcoreinfo file") from error
    lines = vmcoreinfo.parse(text.replace(b"\r\n", b"\n"))  # of a copy that went through Windows
    for key in ("OSRELEASE", "PAGESIZE"):
        if key not in lines or len(text) > _MAX_SIZE:
            raise FormatError(
                path, 0, f"lines of VMCOREINFO, up to {_MAX_SIZE} bytes, with {key} among them",
                f"{len(lines)} lines KEY=VALUE", _ADVICE,
            )  # fmt: skip
    return Description(_lasting(lines, path), path, path=path)


def write_description(description: Description, path: str, source: str) -> None:
    """Write a vmcoreinfo file to ``path``, in place of what is there: as a whole or not at all.

    :param source: path of what it was made of; never written over.
    :raises OutputError: it cannot be written, or is a pipe that nobody reads.
    :raises UsageError: it is the very input, or a directory or block device.
    """
    refuse_inputs(path, path, source)
    text = vmcoreinfo.render(description.lines)
    kind = other_kind(path)
    if kind not in ("", PIPE, CHARACTER_DEVICE):
        raise UsageError(f"{path} is {kind}; name a file that is to be written")
    try:
        if kind:  # such as /dev/stdout
            with open(_open_now(path), "wb") as file:
                file.write(text)
        else:
            _replace(os.path.realpath(path), text)
    except OSError as error:
        raise output_error(path, error, "writing the vmcoreinfo file") from error


def _open_now(path: str) -> int:
    """Open a pipe or device to be written into, without waiting for who reads it."""
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(fd, True)
    return fd


def _replace(path: str, text: bytes) -> None:
    """Have a file there that is private and, whatever happens meanwhile, never half of one."""
    from tempfile import mkstemp  # noqa: PLC0415  hardly ever needed

    fd, draft = mkstemp(prefix=f"{os.path.basename(path)}.", dir=os.path.dirname(path))
    try:
        with open(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _lasting(lines: Mapping[str, str], path: str) -> dict[str, str]:
    """Without what holds for one boot; the note of a kernel that KASLR had moved is moved back."""
    try:
        kernel_offset = vmcoreinfo.to_number("KERNELOFFSET", lines.get("KERNELOFFSET", "0"))
        lasting = {}
        for key, value in lines.items():
            if key in OF_ONE_BOOT or (key.startswith("LENGTH(") and value == _NO_LENGTH):
                continue
            if key.startswith("SYMBOL("):
                vaddr = vmcoreinfo.to_number(key, value)
                if not in_image(vaddr):
                    continue
                value = f"{vaddr - kernel_offset:x}"
            lasting[key] = value
        if "SYMBOL(mem_section)" not in lasting:  # its length goes with it
            lasting.pop("LENGTH(mem_section)", None)
    except ValueError as error:
        raise FormatError(path, 0, "lines of VMCOREINFO", str(error), _ADVICE) from error
    return lasting
