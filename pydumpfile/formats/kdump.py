# SPDX-License-Identifier: GPL-2.0-or-later
"""The kdump-compressed format ("diskdump" family), version 6: headers, descriptors, file layout.

    block 0                     main header, 464 bytes used
    block 1 ...                 sub header, 104 bytes, then the ELF notes     (sub_hdr_size blocks)
    then                        1st bitmap: the page exists                  (bitmap_blocks / 2)
    then                        2nd bitmap: the page is in the dump          (bitmap_blocks / 2)
    then                        one 24-byte descriptor per set bit of the 2nd bitmap, by pfn
    then                        page data, unaligned

docs/formats.md draws the bytes. Source: makedumpfile's IMPLEMENTATION document, and what crash
(diskdump.c) and libkdumpfile accept. Here for a 64-bit little-endian machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from pydumpfile.pfn import Range, align_up

SIGNATURE = b"KDUMP   "
HEADER_VERSION = 6

DUMP_DH_COMPRESSED_ZLIB = 0x1
DUMP_DH_COMPRESSED_LZO = 0x2
DUMP_DH_COMPRESSED_SNAPPY = 0x4
DUMP_DH_COMPRESSED_INCOMPLETE = 0x8
DUMP_DH_EXCLUDED_VMEMMAP = 0x10
"""Struct pages that describe nothing but pages left out were left out as well."""
DUMP_DH_COMPRESSED_ZSTD = 0x20

UTSNAME_FIELDS = 6
UTSNAME_FIELD_SIZE = 65
UTSNAME_SIZE = UTSNAME_FIELDS * UTSNAME_FIELD_SIZE

_HEADER = Struct("<8si390s6xqqIiiIIIIIIi")
_SUB_HEADER = Struct("<QiiQQQQQQQQQQQ")
_DESCRIPTOR = Struct("<qIIQ")
HEADER_SIZE = _HEADER.size
SUB_HEADER_SIZE = _SUB_HEADER.size
DESCRIPTOR_SIZE = _DESCRIPTOR.size
assert (HEADER_SIZE, SUB_HEADER_SIZE, DESCRIPTOR_SIZE) == (464, 104, 24)
_TELLING_SIZE = 16
"""Of a descriptor: page_flags, behind that, is always 0 and means nothing to anybody."""

_U32_MAX = 0xFFFFFFFF


class Header(NamedTuple):
    """``struct disk_dump_header``; fields this writer leaves 0 are not repeated here."""

    utsname: bytes
    """Six fields of 65 bytes, from the dead kernel; zeros if it could not be read."""
    tv_sec: int
    status: int
    block_size: int
    sub_hdr_size: int
    bitmap_blocks: int
    max_mapnr: int
    nr_cpus: int

    def pack(self) -> bytes:
        """The 464 bytes at offset 0."""
        return _HEADER.pack(
            SIGNATURE, HEADER_VERSION, self.utsname, self.tv_sec, 0, self.status,
            self.block_size, self.sub_hdr_size, self.bitmap_blocks,
            min(self.max_mapnr, _U32_MAX), 0, 0, 0, 0, self.nr_cpus,
        )  # fmt: skip


class SubHeader(NamedTuple):
    """``struct kdump_sub_header``, version 6."""

    phys_base: int
    dump_level: int
    offset_vmcoreinfo: int
    size_vmcoreinfo: int
    offset_note: int
    size_note: int
    max_mapnr_64: int
    split: int = 0
    """1 if the file is a part of a dump: it has the pages [start_pfn_64, end_pfn_64) alone."""
    start_pfn_64: int = 0
    end_pfn_64: int = 0
    offset_eraseinfo: int = 0
    size_eraseinfo: int = 0

    def pack(self) -> bytes:
        """The 104 bytes at offset block_size."""
        return _SUB_HEADER.pack(
            self.phys_base & (1 << 64) - 1, self.dump_level, self.split,
            min(self.start_pfn_64, _U32_MAX), min(self.end_pfn_64, _U32_MAX),
            self.offset_vmcoreinfo, self.size_vmcoreinfo, self.offset_note, self.size_note,
            self.offset_eraseinfo, self.size_eraseinfo,
            self.start_pfn_64, self.end_pfn_64, self.max_mapnr_64,
        )  # fmt: skip


class Layout(NamedTuple):
    """Where the parts of one dump lie; all offsets from the start of the file, in bytes."""

    block_size: int
    sub_hdr_size: int
    bitmap_blocks: int
    """Blocks of both bitmaps together."""
    notes_off: int
    bitmap1_off: int
    bitmap2_off: int
    descriptors_off: int

    @classmethod
    def plan(cls, block_size: int, notes_size: int, max_mapnr: int) -> Layout:
        """The layout for ``notes_size`` bytes of notes and pfns up to ``max_mapnr``."""
        sub_hdr_size = -(-(SUB_HEADER_SIZE + notes_size) // block_size)
        bitmap_size = align_up(-(-max_mapnr // 8), block_size)
        bitmap1_off = (1 + sub_hdr_size) * block_size
        return cls(
            block_size=block_size,
            sub_hdr_size=sub_hdr_size,
            bitmap_blocks=2 * bitmap_size // block_size,
            notes_off=block_size + SUB_HEADER_SIZE,
            bitmap1_off=bitmap1_off,
            bitmap2_off=bitmap1_off + bitmap_size,
            descriptors_off=bitmap1_off + 2 * bitmap_size,
        )

    def data_off(self, n_pages: int) -> int:
        """Where page data starts when the 2nd bitmap has ``n_pages`` bits set."""
        return self.descriptors_off + n_pages * DESCRIPTOR_SIZE


def pack_descriptor(offset: int, size: int, flags: int) -> bytes:
    """One ``struct page_desc``; ``page_flags`` is always 0."""
    return _DESCRIPTOR.pack(offset, size, flags, 0)


LOST = pack_descriptor(0, 0, DUMP_DH_COMPRESSED_ZLIB)
"""The descriptor of a page that the dump should have and lacks: offset 0, and no zlib stream, so
that readers who do not know the former stumble over the latter and show nothing in its place."""


def without_lacking(table: bytes, off: int, gaps: Sequence[Range], byte_order: str = "<") -> bytes:
    """``table``, but empty the descriptors that cannot be trusted in a file that was cut off.

    :param table: whole descriptors, which lie at ``off``.
    :param gaps: bytes of the file that have not come: a descriptor that reaches into them, or that
        leads there, says nothing true of its page.
    """
    kept = bytearray(table)
    for i, (page_off, size, _, _) in enumerate(Struct(byte_order + "qIIQ").iter_unpack(table)):
        at = off + i * DESCRIPTOR_SIZE
        if any(
            (at < end and start < at + _TELLING_SIZE)
            or (page_off < end and start < page_off + size)
            for start, end in gaps
        ):
            kept[i * DESCRIPTOR_SIZE : (i + 1) * DESCRIPTOR_SIZE] = bytes(DESCRIPTOR_SIZE)
    return bytes(kept)
