# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes ELF64 core files: program headers, notes, and sparse segment data."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from .physmem import PAGE_SIZE, PhysicalMemory, round_up

# System V ABI, elf.h.
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_NHDR = struct.Struct("<III")
_ET_CORE, _EM_X86_64, _PT_LOAD, _PT_NOTE, _PN_XNUM = 4, 62, 1, 4, 0xFFFF
NT_PRSTATUS = 1
_PRSTATUS_SIZE, _PRSTATUS_PID_OFF, _PRSTATUS_REGS_OFF = 336, 32, 112


@dataclass(frozen=True)
class Load:
    """One PT_LOAD: [paddr, paddr + memsz) exists, its first `filesz` bytes are in the file."""

    vaddr: int
    paddr: int
    memsz: int
    filesz: int


def note(name: str, kind: int, desc: bytes) -> bytes:
    """One ELF note with 4-byte padding."""
    raw_name = name.encode() + b"\0"
    header = _NHDR.pack(len(raw_name), len(desc), kind)
    return header + raw_name + bytes(-len(raw_name) % 4) + desc + bytes(-len(desc) % 4)


def prstatus(pid: int, registers: Sequence[int]) -> bytes:
    """NT_PRSTATUS descriptor of x86_64 with up to 27 registers."""
    desc = bytearray(_PRSTATUS_SIZE)
    struct.pack_into("<i", desc, _PRSTATUS_PID_OFF, pid)
    struct.pack_into(f"<{len(registers)}Q", desc, _PRSTATUS_REGS_OFF, *registers)
    return bytes(desc)


def write_core(
    path: Union[str, os.PathLike[str]],
    memory: PhysicalMemory,
    loads: Sequence[Load],
    notes: bytes,
    unaligned: bool = False,
) -> None:
    """Write an ET_CORE file: headers, PT_NOTE, then the segments' data in the order given.

    0xffff program headers or more are counted in section header 0 (PN_XNUM).

    :param unaligned: start segments at odd file offsets, as filtered ELF dumps do.
    """
    count = 1 + len(loads)
    extended = count >= _PN_XNUM
    headers_end = _EHDR.size + count * _PHDR.size
    notes_off = round_up(headers_end + (_SHDR.size if extended else 0), PAGE_SIZE)
    offset = notes_off + len(notes)
    offsets = []
    for load in loads:
        if unaligned:
            offset += 8 - offset % 4
        else:
            # Congruent modulo the page size, as in /proc/vmcore, so that pages can be mapped.
            offset = round_up(offset, PAGE_SIZE) + load.paddr % PAGE_SIZE
        offsets.append(offset)
        offset += load.filesz

    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = _EHDR.pack(
        ident, _ET_CORE, _EM_X86_64, 1, 0, _EHDR.size, headers_end if extended else 0, 0,
        _EHDR.size, _PHDR.size, _PN_XNUM if extended else count,
        _SHDR.size if extended else 0, 1 if extended else 0, 0,
    )  # fmt: skip
    with open(path, "wb") as core:
        core.write(header)
        core.write(_PHDR.pack(_PT_NOTE, 0, notes_off, 0, 0, len(notes), len(notes), 0))
        for load, off in zip(loads, offsets):
            core.write(
                _PHDR.pack(_PT_LOAD, 7, off, load.vaddr, load.paddr, load.filesz, load.memsz, 0)
            )
        if extended:
            core.write(_SHDR.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0))
        core.seek(notes_off)
        core.write(notes)
        for load, off in zip(loads, offsets):
            end_paddr = load.paddr + load.filesz
            pages = memory.written(load.paddr // PAGE_SIZE, round_up(end_paddr, PAGE_SIZE) >> 12)
            for pfn, content in pages:
                start = max(load.paddr, pfn * PAGE_SIZE)
                end = min(end_paddr, (pfn + 1) * PAGE_SIZE)
                core.seek(off + start - load.paddr)
                core.write(memoryview(content)[start % PAGE_SIZE : end - pfn * PAGE_SIZE])
        core.truncate(offset)
