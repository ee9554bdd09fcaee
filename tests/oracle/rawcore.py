# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/vmcore as the lab copied it: which page frames it has, and their bytes."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

from . import pfnset

PAGE_SIZE = 4096
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1


class Load(NamedTuple):
    """One PT_LOAD: bytes `[paddr, paddr + size)` of physical memory at file offset `off`."""

    paddr: int
    size: int
    off: int


class RawCore:
    """A little-endian ELF64 core whose segments have all their bytes in the file."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        fields = _HEADER.unpack_from(self._bytes)
        if not fields[0].startswith(b"\x7fELF\x02\x01"):
            raise ValueError(f"{path} is no little-endian ELF64 file")
        self.loads: list[Load] = []
        for i in range(fields[10]):
            kind, _, off, _, paddr, file_size, size, _ = _PROGRAM_HEADER.unpack_from(
                self._bytes, fields[5] + i * _PROGRAM_HEADER.size
            )
            if kind == _PT_LOAD:
                if file_size != size:
                    raise ValueError(f"{path}: a PT_LOAD without all its bytes")
                self.loads.append(Load(paddr, size, off))

    def __enter__(self) -> RawCore:
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    @property
    def pfns(self) -> int:
        """Set of the page frames of which the core has at least a byte."""
        return pfnset.from_runs(
            (load.paddr // PAGE_SIZE, -(-(load.paddr + load.size) // PAGE_SIZE))
            for load in self.loads
        )

    @property
    def fractional_pfns(self) -> int:
        """Those that memory starts or ends in: low memory of a PC ends at 0x9fc00."""
        edges = (edge for load in self.loads for edge in (load.paddr, load.paddr + load.size))
        return pfnset.from_pfns(edge // PAGE_SIZE for edge in edges if edge % PAGE_SIZE)

    def page(self, pfn: int) -> bytes:
        """The bytes of a page frame; zeros where the core has only a part of it."""
        start = pfn * PAGE_SIZE
        for load in self.loads:
            if load.paddr <= start < load.paddr + load.size:
                off = load.off + start - load.paddr
                end = min(off + PAGE_SIZE, load.off + load.size)
                return self._bytes[off:end].ljust(PAGE_SIZE, b"\0")
        raise ValueError(f"the core has no page {pfn:#x}")
