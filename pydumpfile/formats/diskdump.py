# SPDX-License-Identifier: GPL-2.0-or-later
"""The headers of kdump-compressed files as they are met: any version, byte order and word size.

:mod:`pydumpfile.formats.kdump` is what is written, which is one of these. The layout of the
headers follows the C structures of whoever wrote them, so the word size and padding of the dead
machine show; nothing says which they are, and the one that makes sense is taken.

Source: makedumpfile's IMPLEMENTATION document (``disk_dump_header``, ``kdump_sub_header``, which
field came with which version), and how crash (diskdump.c) and libkdumpfile (diskdump.c) read them.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from pydumpfile.errors import FormatError, TruncatedError
from pydumpfile.formats.kdump import SIGNATURE, UTSNAME_FIELD_SIZE
from pydumpfile.pfn import Range

MAX_BLOCK_SIZE = 64 << 10
_MIN_BLOCK_SIZE = 4 << 10
_MAX_VERSION = 64
"""Six so far; readers set no limit, but a number beyond this is none of a version."""
_MAX_SUB_HDR_SIZE = 1 << 16
_MAX_SUB_HEADER_BYTES = 104
START_SIZE = MAX_BLOCK_SIZE + _MAX_SUB_HEADER_BYTES
"""Bytes from the start of a file that hold both headers, whatever the block size."""


class _Encoding(NamedTuple):
    """One way compilers laid the structures out."""

    name: str
    byte_order: str
    header: Struct
    sub_header: Struct


def _encoding(name: str, byte_order: str, header: str, sub_header: str) -> _Encoding:
    return _Encoding(name, byte_order, Struct(byte_order + header), Struct(byte_order + sub_header))


_HEADER_64, _SUB_64 = "8si390s6xqqIii6Ii", "qiiQQQQQQQQQQQ"
_HEADER_32 = "8si390s2xiiIii6Ii"
_SUB_I386 = "IiiIIQIQIQIQQQ"  # 64-bit members at multiples of 4
_SUB_PADDED = "IiiII4xQI4xQI4xQI4xQQQ"  # and at multiples of 8, as arm and mips have them
_ENCODINGS = (
    _encoding("64-bit little-endian", "<", _HEADER_64, _SUB_64),
    _encoding("64-bit big-endian", ">", _HEADER_64, _SUB_64),
    _encoding("32-bit little-endian", "<", _HEADER_32, _SUB_I386),
    _encoding("32-bit little-endian", "<", _HEADER_32, _SUB_PADDED),
    _encoding("32-bit big-endian", ">", _HEADER_32, _SUB_PADDED),
)
assert [e.header.size for e in _ENCODINGS] == [464, 464, 452, 452, 452]
assert [e.sub_header.size for e in _ENCODINGS] == [104, 104, 80, 96, 96]

_FIELDS_BY_VERSION = (1, 2, 5, 7, 9, 11, 14)
"""How many fields of the sub header there were in version 0, 1, 2, ..."""
_SIZES_BY_VERSION_64 = (8, 16, 32, 48, 64, 80, 104)
"""How many bytes that was on 64-bit machines."""


class SubHeader(NamedTuple):
    """``struct kdump_sub_header``; fields that the file's version does not have are 0."""

    phys_base: int
    dump_level: int
    split: int
    start_pfn: int
    end_pfn: int
    offset_vmcoreinfo: int
    size_vmcoreinfo: int
    offset_note: int
    size_note: int
    offset_eraseinfo: int
    size_eraseinfo: int
    start_pfn_64: int
    end_pfn_64: int
    max_mapnr_64: int


class Headers(NamedTuple):
    """Both headers, and what follows from them. Offsets are those of the file, in bytes."""

    encoding: str
    """For people: word size and byte order."""
    byte_order: str
    """Of the whole file, as :mod:`struct` spells it."""
    version: int
    utsname: bytes
    tv_sec: int
    status: int
    block_size: int
    sub_hdr_size: int
    bitmap_blocks: int
    max_mapnr: int
    nr_cpus: int
    sub: SubHeader

    @property
    def is_32_bit(self) -> bool:
        """Whether the dead machine's words are."""
        return not self.encoding.startswith("64-bit")

    @property
    def machine(self) -> str:
        """``utsname.machine``; empty if the writer did not know."""
        field = self.utsname[4 * UTSNAME_FIELD_SIZE : 5 * UTSNAME_FIELD_SIZE]
        return field.split(b"\0")[0].decode("ascii", "replace")

    @property
    def start_pfn(self) -> int:
        """First page of this part of a split dump."""
        return self.sub.start_pfn_64 if self.version >= 6 else self.sub.start_pfn

    @property
    def end_pfn(self) -> int:
        """One past its last page."""
        return self.sub.end_pfn_64 if self.version >= 6 else self.sub.end_pfn

    @property
    def own_pfns(self) -> Range:
        """The pages that it has descriptors of: all, unless it is a part of a split dump."""
        return (self.start_pfn, self.end_pfn) if self.sub.split else (0, self.max_mapnr)

    @property
    def bitmap1_off(self) -> int:
        """Where the bitmap of the pages that exist is."""
        return (1 + self.sub_hdr_size) * self.block_size

    @property
    def bitmap2_off(self) -> int:
        """Where that of the pages in the dump is; the same if there is only one."""
        size = self.bitmap_blocks * self.block_size
        one = -(-self.max_mapnr // (8 * self.block_size))
        return self.bitmap1_off + (size // 2 if self.bitmap_blocks >= 2 * one else 0)

    @property
    def descriptors_off(self) -> int:
        """Where the page descriptors start."""
        return self.bitmap1_off + self.bitmap_blocks * self.block_size


def parse_headers(start: bytes, path: str) -> Headers:
    """The headers of the file at ``path``.

    :param start: its first :data:`START_SIZE` bytes, or all it has.
    :raises FormatError: they make no sense in any encoding; TruncatedError: they are not all there.
    """
    if not start.startswith(SIGNATURE):
        raise FormatError(path, 0, "the signature of a kdump-compressed file", repr(start[:8]))
    if len(start) < _ENCODINGS[0].header.size:
        raise TruncatedError(path, 0, "a header of 464 bytes", f"{len(start)} bytes")
    plausible = [e for e in _ENCODINGS if _fits(e, start)]
    if not plausible:
        raise FormatError(
            path, 0, "a kdump header, with blocks of 4096 to 65536 bytes and a bitmap of its pages",
            "no such numbers in any byte order or word size", "the header is damaged",
        )  # fmt: skip
    parsed = [_parse(e, start, path) for e in plausible]
    return next((headers for headers in parsed if _leads_into_block(headers)), parsed[0])


def _fits(encoding: _Encoding, start: bytes) -> bool:
    """Whether the main header makes sense, read in this way."""
    fields: tuple[int, ...] = encoding.header.unpack_from(start)
    version, (block_size, sub_hdr_size, bitmap_blocks, max_mapnr) = fields[1], fields[6:10]
    return (
        0 <= version <= _MAX_VERSION
        and _MIN_BLOCK_SIZE <= block_size <= MAX_BLOCK_SIZE
        and block_size & (block_size - 1) == 0
        and 0 < sub_hdr_size <= _MAX_SUB_HDR_SIZE
        and bitmap_blocks > 0
        and max_mapnr <= 8 * bitmap_blocks * block_size
    )


def _parse(encoding: _Encoding, start: bytes, path: str) -> Headers:
    (_, version, utsname, tv_sec, _, status, block_size, sub_hdr_size, bitmap_blocks, max_mapnr,
     _, _, _, _, nr_cpus) = encoding.header.unpack_from(start)  # fmt: skip
    sub_bytes = start[block_size : block_size + encoding.sub_header.size]
    if len(sub_bytes) < encoding.sub_header.size:
        got = f"{len(sub_bytes)} bytes"
        raise TruncatedError(path, block_size, "a sub header", got, "the dump was cut short")
    fields: list[int] = list(encoding.sub_header.unpack(sub_bytes))
    known = _FIELDS_BY_VERSION[min(version, len(_FIELDS_BY_VERSION) - 1)]
    sub = SubHeader._make(fields[:known] + [0] * (len(fields) - known))
    return Headers(
        encoding=encoding.name,
        byte_order=encoding.byte_order,
        version=version,
        utsname=utsname,
        tv_sec=tv_sec,
        status=status,
        block_size=block_size,
        sub_hdr_size=sub_hdr_size,
        bitmap_blocks=bitmap_blocks,
        max_mapnr=sub.max_mapnr_64 or max_mapnr,
        nr_cpus=nr_cpus,
        sub=sub,
    )


def _leads_into_block(headers: Headers) -> bool:
    """Whether the notes lie where they always do: behind the sub header, before the bitmaps."""
    sub = headers.sub
    extents = ((sub.offset_vmcoreinfo, sub.size_vmcoreinfo), (sub.offset_note, sub.size_note))
    return all(
        off == size == 0 or headers.block_size <= off <= off + size <= headers.bitmap1_off
        for off, size in extents
    )


def pack_sub_header(headers: Headers, sub: SubHeader) -> bytes:
    """``sub`` as a file with ``headers``, of a 64-bit machine, has it.

    That is no field that is newer than its version.
    """
    encoding = next(e for e in _ENCODINGS if e.name == headers.encoding)
    n_bytes = _SIZES_BY_VERSION_64[min(headers.version, len(_SIZES_BY_VERSION_64) - 1)]
    return encoding.sub_header.pack(*sub)[:n_bytes]
