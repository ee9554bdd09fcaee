# SPDX-License-Identifier: GPL-2.0-or-later
"""A kdump-compressed file by the letter of its format, read once more and independently.

Written from the format's description alone, for 64-bit little-endian dumps of header version 6; it
is stricter than any debugger and raises DumpError where they are patient.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.decompress import LZO, SNAPPY, ZLIB, ZSTD, DecompressError, decompress

from . import pfnset

HEADER_SIZE = 464
SUB_HEADER_SIZE = 104
INCOMPLETE = 8
_DESCRIPTOR = struct.Struct("<qIIQ")


class DumpError(Exception):
    """The file breaks the format."""


class Layout(NamedTuple):
    """What the two headers say of where things are."""

    block_size: int
    bitmap_off: int
    half_size: int
    max_mapnr: int

    @property
    def bitmaps_end(self) -> int:
        """File offset behind both bitmaps, where the descriptors start."""
        return self.bitmap_off + 2 * self.half_size


class Descriptor(NamedTuple):
    """Where one page's bytes are, and in which encoding."""

    off: int
    size: int
    flags: int


def read_layout(header: bytes, sub_header: bytes) -> Layout:
    """Interpret the main header (464 bytes) and the sub header (104 bytes)."""
    if header[:8] != b"KDUMP   ":
        raise DumpError(f"signature {header[:8]!r}")
    (version,) = struct.unpack_from("<i", header, 8)
    block_size, sub_blocks, bitmap_blocks, max_mapnr_32 = struct.unpack_from("<iiII", header, 428)
    (max_mapnr,) = struct.unpack_from("<Q", sub_header, 96)
    if version != 6 or block_size != 4096 or bitmap_blocks % 2:
        raise DumpError(f"version {version}, blocks of {block_size}, {bitmap_blocks} for bitmaps")
    if max_mapnr_32 != min(max_mapnr, 0xFFFFFFFF):
        raise DumpError(f"max_mapnr {max_mapnr_32} and max_mapnr_64 {max_mapnr}")
    half_size = bitmap_blocks // 2 * block_size
    if half_size != -(-max_mapnr // (8 * block_size)) * block_size:
        raise DumpError(f"{bitmap_blocks} bitmap blocks for {max_mapnr} pages")
    return Layout(block_size, (1 + sub_blocks) * block_size, half_size, max_mapnr)


class DumpReader:
    """One dump, opened; both bitmaps and all descriptors are read at once."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        header = self._bytes[:HEADER_SIZE]
        self.layout = layout = read_layout(header, self._bytes[4096 : 4096 + SUB_HEADER_SIZE])
        self.release = header[12 + 130 : 12 + 195].split(b"\0")[0].decode()
        (self.status,) = struct.unpack_from("<I", header, 424)
        (self.level,) = struct.unpack_from("<i", self._bytes, 4096 + 8)
        second_off = layout.bitmap_off + layout.half_size
        self.exists = pfnset.from_bitmap(self._bytes[layout.bitmap_off : second_off])
        self.kept = pfnset.from_bitmap(self._bytes[second_off : layout.bitmaps_end])
        if (self.exists | self.kept) >> layout.max_mapnr:
            raise DumpError("a bitmap has bits past max_mapnr")
        if self.kept & ~self.exists:
            raise DumpError(f"kept but not existing: {pfnset.show(self.kept & ~self.exists)}")
        self.descriptors = self._read_descriptors()

    def __enter__(self) -> DumpReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    @property
    def data_off(self) -> int:
        """File offset behind the last descriptor, where the first page is."""
        return self.layout.bitmaps_end + len(self.descriptors) * _DESCRIPTOR.size

    def _read_descriptors(self) -> dict[int, Descriptor]:
        """pfn -> descriptor, ascending; of an incomplete dump those pages that did not get lost."""
        n = pfnset.count(self.kept)
        start = self.layout.bitmaps_end
        table = self._bytes[start : start + n * _DESCRIPTOR.size]
        if len(table) != n * _DESCRIPTOR.size:
            raise DumpError(f"the file ends inside its {n} descriptors")
        found = {}
        for pfn, (off, size, flags, page_flags) in zip(
            pfnset.each(self.kept), _DESCRIPTOR.iter_unpack(table)
        ):
            if page_flags or flags not in (0, ZLIB, LZO, SNAPPY, ZSTD):
                raise DumpError(f"page {pfn:#x}: flags {flags:#x}, page_flags {page_flags:#x}")
            if off == size == 0 and self.status & INCOMPLETE:
                continue
            if off < start + len(table) or off + size > len(self._bytes):
                raise DumpError(f"page {pfn:#x}: {size} bytes at {off:#x} are outside the data")
            if not 0 < size <= self.layout.block_size:
                raise DumpError(f"page {pfn:#x}: {size} bytes stored")
            if (size == self.layout.block_size) != (flags == 0):
                raise DumpError(f"page {pfn:#x}: {size} bytes with flags {flags:#x}")
            found[pfn] = Descriptor(off, size, flags)
        return found

    def page(self, pfn: int) -> bytes:
        """The bytes of a kept page; KeyError for others."""
        off, size, flags = self.descriptors[pfn]
        stored = self._bytes[off : off + size]
        if flags == 0:
            return stored
        try:
            return decompress(flags, stored, self.layout.block_size)
        except DecompressError as error:
            raise DumpError(f"page {pfn:#x}: {error}") from error

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Every kept page in pfn order."""
        for pfn in self.descriptors:
            yield pfn, self.page(pfn)
