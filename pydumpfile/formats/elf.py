# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF core headers and notes: the little of ELF that a vmcore uses.

Source: elf(5), and ``include/uapi/linux/elf.h`` of the kernel. Little-endian ELF64 only; the caller
looks at ``e_ident`` first and names what else it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple, Optional

EI_CLASS, EI_DATA, EI_NIDENT = 4, 5, 16
ELFMAG = b"\x7fELF"
ELFCLASS64, ELFDATA2LSB = 2, 1
ET_CORE = 4
PN_XNUM = 0xFFFF
PT_LOAD, PT_NOTE = 1, 4
NT_PRSTATUS = 1
EF_INCOMPLETE = 1
"""In ``e_flags``, which has no meaning of its own in a core; makedumpfile's and crash's custom."""
MACHINES = {3: "i386", 8: "mips", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64",
            183: "aarch64", 243: "riscv64", 258: "loongarch64"}  # fmt: skip
NO_PADDR = (1 << 64) - 1
"""``p_paddr`` of a segment that has no physical address, as /proc/kcore writes it."""


class Ehdr(NamedTuple):
    """``Elf64_Ehdr``."""

    e_ident: bytes
    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int


class Phdr(NamedTuple):
    """``Elf64_Phdr``."""

    p_type: int
    p_flags: int
    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_align: int


class Note(NamedTuple):
    """One note; ``desc_off`` is where its description starts in the blob it was read from."""

    name: bytes
    type: int
    desc_off: int
    desc_size: int


EHDR = Struct("<16sHHIQQQIHHHHHH")
PHDR = Struct("<IIQQQQQQ")
SHDR_SIZE = 64
_SHDR = Struct("<IIQQQQIIQQ")
_SH_INFO = Struct("<I")
_SH_INFO_OFF = 44
_NHDR = Struct("<III")
assert EHDR.size == 64 and PHDR.size == 56 and _SHDR.size == SHDR_SIZE


def parse_phdrs(table: bytes) -> list[Phdr]:
    """All program headers of ``table``, which is a whole number of them."""
    return [Phdr._make(fields) for fields in PHDR.iter_unpack(table)]


class Section(NamedTuple):
    """Where in the file a section is, of its ``Elf64_Shdr``."""

    sh_offset: int
    sh_size: int


def section(section_header: bytes) -> Section:
    """What a section header says of its place."""
    fields = _SHDR.unpack(section_header)
    return Section(fields[4], fields[5])


def sh_info(section_header: bytes) -> int:
    """``sh_info`` of an ``Elf64_Shdr``: section 0 keeps the real e_phnum there under PN_XNUM."""
    (value,) = _SH_INFO.unpack_from(section_header, _SH_INFO_OFF)
    return int(value)


def pack_section_zero(n_phdrs: int) -> bytes:
    """Section header 0 of a file with that many program headers, PN_XNUM or more."""
    return _SHDR.pack(0, 0, 0, 0, 0, 1, 0, n_phdrs, 0, 0)


def iter_notes(blob: bytes) -> Iterator[Optional[Note]]:
    """The notes of a PT_NOTE segment, in order; ``None`` last if the blob ends inside a note.

    The kernel pads PT_NOTE segments to whole pages with zeros (``fs/proc/vmcore.c``), so an empty
    header ends the list.
    """
    off = 0
    while off + _NHDR.size <= len(blob):
        namesz, descsz, note_type = _NHDR.unpack_from(blob, off)
        if namesz == 0 and descsz == 0:
            return
        name_off = off + _NHDR.size
        desc_off = name_off + _pad4(namesz)
        if desc_off + descsz > len(blob):
            yield None
            return
        yield Note(blob[name_off : name_off + namesz].rstrip(b"\0"), note_type, desc_off, descsz)
        off = desc_off + _pad4(descsz)


def _pad4(size: int) -> int:
    return (size + 3) & ~3
