# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF cores of arbitrary segments, right or wrong, for tests of what reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.builders.elfcore import note

PT_LOAD, PT_NOTE = 1, 4


@dataclass(frozen=True)
class Segment:
    """One program header and the bytes it leads to; None takes what is right."""

    data: bytes
    paddr: int = 0
    memsz: Optional[int] = None
    vaddr: int = 0
    kind: int = PT_LOAD
    offset: Optional[int] = None
    filesz: Optional[int] = None


def raw_elf(
    segments: Sequence[Segment],
    *,
    ident: bytes = b"\x7fELF\x02\x01\x01",
    e_type: int = 4,
    machine: int = 62,
    phoff: int = 64,
    phentsize: int = 56,
    phnum: Optional[int] = None,
    extended: bool = False,
    sh_info: Optional[int] = None,
) -> bytes:
    """The bytes of a core: header, program headers, perhaps a section header, data."""
    n = len(segments)
    shoff = 64 + 56 * n
    data_off = shoff + 64 * extended
    headers = b""
    data = b""
    for s in segments:
        size = len(s.data)
        headers += struct.pack(
            "<IIQQQQQQ", s.kind, 7, data_off + len(data) if s.offset is None else s.offset,
            s.vaddr, s.paddr, size if s.filesz is None else s.filesz,
            size if s.memsz is None else s.memsz, 0,
        )  # fmt: skip
        data += s.data
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident.ljust(16, b"\0"), e_type, machine, 1, 0, phoff,
        shoff if extended else 0, 0, 64, phentsize,
        (0xFFFF if extended else n) if phnum is None else phnum, 64 * extended, extended, 0,
    )  # fmt: skip
    section = struct.pack("<IIQQQQIIQQ", *[0] * 7, n if sh_info is None else sh_info, 0, 0)
    return header + headers + (section if extended else b"") + data


def poke(path: Path, paddr: int, data: bytes) -> None:
    """Overwrite bytes of a core's physical memory, in every segment that has them."""
    with path.open("r+b") as core:
        header = core.read(64)
        (phoff,) = struct.unpack_from("<Q", header, 32)
        (phnum,) = struct.unpack_from("<H", header, 56)
        core.seek(phoff)
        table = core.read(56 * phnum)
        found = False
        for kind, _, offset, _, start, filesz, _, _ in struct.iter_unpack("<IIQQQQQQ", table):
            if kind == PT_LOAD and start <= paddr and paddr + len(data) <= start + filesz:
                core.seek(offset + paddr - start)
                core.write(data)
                found = True
        if not found:
            raise ValueError(f"{path} has no bytes for {paddr:#x}")


def describe(path: Path, keys: Mapping[str, object], n_cpus: int = 2) -> None:
    """Give a core other notes, behind everything else: CPUs, and ``keys`` as its VMCOREINFO."""
    text = "".join(f"{key}={value}\n" for key, value in keys.items()).encode()
    notes = note("CORE", 1, bytes(336)) * n_cpus + note("VMCOREINFO", 0, text)
    with path.open("r+b") as core:
        core.seek(64)
        (kind,) = struct.unpack("<I", core.read(4))
        if kind != PT_NOTE:
            raise ValueError(f"the first program header of {path} is no PT_NOTE")
        core.seek(0, 2)
        off = core.tell()
        core.write(notes)
        core.seek(72)
        core.write(struct.pack("<QQQQQ", off, 0, 0, len(notes), len(notes)))
