# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads ELF cores by docs/formats.md alone; shares no code with the package."""

from __future__ import annotations

import struct
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

PAGE = 4096
PT_NULL, PT_LOAD, PT_NOTE = 0, 1, 4


class Phdr(NamedTuple):
    """Elf64_Phdr."""

    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int


class ElfCore:
    """A core, complete or not. Header fields are attributes of the format's names."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        (
            self.ident, self.type, self.machine, self.version, self.entry, self.phoff, self.shoff,
            self.flags, self.ehsize, self.phentsize, self.phnum, self.shentsize, self.shnum,
            self.shstrndx,
        ) = struct.unpack_from("<16sHHIQQQIHHHHHH", raw)  # fmt: skip
        self.n_phdrs = self.phnum
        if self.phnum == 0xFFFF:
            (self.n_phdrs,) = struct.unpack_from("<I", raw, self.shoff + 44)

    @classmethod
    def open(cls, path: Path) -> ElfCore:
        return cls(path.read_bytes())

    @property
    def incomplete(self) -> bool:
        return bool(self.flags & 1)

    @cached_property
    def phdrs(self) -> list[Phdr]:
        """All of them; those that a cut file does not have are PT_NULL."""
        size = 56 * self.n_phdrs
        table = self.raw[self.phoff : self.phoff + size].ljust(size, b"\0")
        return [Phdr._make(fields) for fields in struct.iter_unpack("<IIQQQQQQ", table)]

    @property
    def loads(self) -> list[Phdr]:
        return [phdr for phdr in self.phdrs if phdr.kind == PT_LOAD]

    @property
    def notes(self) -> bytes:
        (notes,) = (phdr for phdr in self.phdrs if phdr.kind == PT_NOTE)
        return self.raw[notes.offset : notes.offset + notes.filesz]

    def bytes_of(self, load: Phdr) -> bytes:
        """What a reader sees of one PT_LOAD: zeros behind the bytes in the file."""
        assert load.offset + load.filesz <= len(self.raw), "past the end of the file"
        return self.raw[load.offset : load.offset + load.filesz].ljust(load.memsz, b"\0")

    def pages(self) -> dict[int, bytes]:
        """By pfn, what a reader gets of each page: zeros for bytes that no PT_LOAD has."""
        found: dict[int, bytearray] = {}
        for load in self.loads:
            end = load.paddr + load.memsz
            for pfn in range(load.paddr // PAGE, -(-end // PAGE)):
                page = found.setdefault(pfn, bytearray(PAGE))
                low = max(load.paddr, pfn * PAGE)
                high = min(load.paddr + load.filesz, (pfn + 1) * PAGE)
                if low < high:
                    off = load.offset + low - load.paddr
                    at = low - pfn * PAGE
                    page[at : at + high - low] = self.raw[off : off + high - low]
        return {pfn: bytes(page) for pfn, page in found.items()}
