# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads kdump-compressed dumps by docs/formats.md alone; shares no code with the package."""

from __future__ import annotations

import struct
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Optional

from tests.decompress import LZO, SNAPPY, ZLIB, ZSTD, decompress

INCOMPLETE = 0x8
EMPTY, LOST = (0, 0, 0, 0), (0, 0, ZLIB, 0)


class Descriptor(NamedTuple):
    """struct page_desc."""

    offset: int
    size: int
    flags: int
    page_flags: int


class Dump:
    """A dump, complete or not. Header fields are attributes of the format's names."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw = path.read_bytes()
        head = self.raw[:464]
        self.signature = head[:8]
        (self.header_version,) = struct.unpack_from("<i", head, 8)
        self.utsname = [head[12 + 65 * i : 77 + 65 * i].rstrip(b"\0").decode() for i in range(6)]
        self.tv_sec, self.tv_usec = struct.unpack_from("<qq", head, 408)
        (
            self.status, self.block_size, self.sub_hdr_size, self.bitmap_blocks, self.max_mapnr,
            self.total_ram_blocks, self.device_blocks, self.written_blocks, self.current_cpu,
            self.nr_cpus,
        ) = struct.unpack_from("<IiiIIIIIIi", head, 424)  # fmt: skip
        sub = self.raw[self.block_size : self.block_size + 104]
        (
            self.phys_base, self.dump_level, self.split, self.start_pfn, self.end_pfn,
            self.offset_vmcoreinfo, self.size_vmcoreinfo, self.offset_note, self.size_note,
            self.offset_eraseinfo, self.size_eraseinfo, self.start_pfn_64, self.end_pfn_64,
            self.max_mapnr_64,
        ) = struct.unpack("<qiiQQQQQQQQQQQ", sub)  # fmt: skip

    @property
    def incomplete(self) -> bool:
        return bool(self.status & INCOMPLETE)

    @property
    def notes(self) -> bytes:
        return self.raw[self.offset_note : self.offset_note + self.size_note]

    @property
    def vmcoreinfo(self) -> bytes:
        return self.raw[self.offset_vmcoreinfo : self.offset_vmcoreinfo + self.size_vmcoreinfo]

    def _bitmap(self, which: int) -> bytes:
        half = self.bitmap_blocks // 2 * self.block_size
        start = (1 + self.sub_hdr_size) * self.block_size + which * half
        return self.raw[start : start + half]

    @cached_property
    def bitmap1(self) -> bytes:
        return self._bitmap(0)

    @cached_property
    def bitmap2(self) -> bytes:
        return self._bitmap(1)

    @cached_property
    def pfns(self) -> list[int]:
        """The pages of the 2nd bitmap."""
        return [
            8 * at + bit
            for at, byte in enumerate(self.bitmap2) if byte
            for bit in range(8) if byte >> bit & 1
        ]  # fmt: skip

    @property
    def descriptors_off(self) -> int:
        return (1 + self.sub_hdr_size + self.bitmap_blocks) * self.block_size

    @cached_property
    def descriptors(self) -> dict[int, Descriptor]:
        """By pfn; missing bytes at the end of a cut file read as zeros."""
        start, n = self.descriptors_off, len(self.pfns)
        table = self.raw[start : start + 24 * n].ljust(24 * n, b"\0")
        return dict(zip(self.pfns, map(Descriptor._make, struct.iter_unpack("<qIIQ", table))))

    @property
    def lost(self) -> set[int]:
        """The pages that are said to be lost."""
        return {pfn for pfn, descriptor in self.descriptors.items() if descriptor == LOST}

    def page(self, pfn: int) -> Optional[bytes]:
        """What a reader gets; None for a page that was lost, or was still to come."""
        descriptor = self.descriptors[pfn]
        if descriptor in (EMPTY, LOST):
            return None
        assert descriptor.page_flags == 0
        end = descriptor.offset + descriptor.size
        assert self.descriptors_off + 24 * len(self.pfns) <= descriptor.offset, "into the table"
        assert end <= len(self.raw), "past the end of the file"
        stored = self.raw[descriptor.offset : end]
        if descriptor.flags == 0:
            assert descriptor.size == self.block_size
            return stored
        assert descriptor.size < self.block_size
        assert descriptor.flags == self.status & (ZLIB | LZO | SNAPPY | ZSTD)
        return decompress(descriptor.flags, stored, self.block_size)
