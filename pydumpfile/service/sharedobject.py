# SPDX-License-Identifier: GPL-2.0-or-later
"""What an ELF program or library says of itself: its machine, its loader, the name it goes by.

Source: elf(5). Both word sizes and byte orders, because a tree for another machine has to be
recognised as one.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import NamedTuple, Optional

from pydumpfile.formats import elf

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_STRTAB, _DT_SONAME = 5, 14
_DYN = Struct("<qQ")
_EI_DATA_BIG = 2
_E_MACHINE_OFF = 18
_E_MACHINE_LITTLE, _E_MACHINE_BIG = Struct("<H"), Struct(">H")


class SharedObject(NamedTuple):
    """One ELF file."""

    machine: str
    """As :data:`pydumpfile.formats.elf.MACHINES` calls it, else its number."""
    interpreter: Optional[str]
    """Path of the loader of a dynamically linked program."""
    soname: Optional[str]
    """The name under which a library is asked for."""


def examine(content: bytes) -> Optional[SharedObject]:
    """What the file ``content`` says; None if it is no ELF file, or a damaged one.

    Of 32-bit or big-endian files only the machine is told.
    """
    if content[:4] != elf.ELFMAG or len(content) < elf.EHDR.size:
        return None
    e_machine = _E_MACHINE_BIG if content[elf.EI_DATA] == _EI_DATA_BIG else _E_MACHINE_LITTLE
    (number,) = e_machine.unpack_from(content, _E_MACHINE_OFF)
    machine = elf.MACHINES.get(number, f"machine {number}")
    if content[elf.EI_CLASS] != elf.ELFCLASS64 or content[elf.EI_DATA] != elf.ELFDATA2LSB:
        return SharedObject(machine, None, None)
    try:
        return _read(content, machine)
    except struct.error:
        return None


def _read(content: bytes, machine: str) -> SharedObject:
    header = elf.Ehdr._make(elf.EHDR.unpack_from(content))
    table_end = header.e_phoff + header.e_phnum * elf.PHDR.size
    segments = elf.parse_phdrs(content[header.e_phoff : table_end])
    interpreter = soname = None
    for segment in segments:
        data = content[segment.p_offset : segment.p_offset + segment.p_filesz]
        if segment.p_type == _PT_INTERP:
            interpreter = data.rstrip(b"\0").decode("utf-8", "replace")
        elif segment.p_type == _PT_DYNAMIC:
            usable = data[: len(data) - len(data) % _DYN.size]
            tags = dict(_DYN.iter_unpack(usable))
            if _DT_SONAME in tags and _DT_STRTAB in tags:
                soname = _string(content, segments, tags[_DT_STRTAB] + tags[_DT_SONAME])
    return SharedObject(machine, interpreter, soname)


def _string(content: bytes, segments: list[elf.Phdr], vaddr: int) -> Optional[str]:
    """The string at virtual address ``vaddr``, where the file's segments put it."""
    for segment in segments:
        if segment.p_type == _PT_LOAD and 0 <= vaddr - segment.p_vaddr < segment.p_filesz:
            start = segment.p_offset + vaddr - segment.p_vaddr
            return content[start : content.find(b"\0", start)].decode("utf-8", "replace")
    return None
