# SPDX-License-Identifier: GPL-2.0-or-later
"""Kdump-compressed files of any version, byte order and word size, right or wrong, byte by byte.

Written from the format's description, once more and independently: the layouts are lists of field
offsets here, where the package has struct formats.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

ZLIB, INCOMPLETE = 0x1, 0x8

# Offset and width of each field of the sub header, in the order of `SUB_FIELDS`.
SUB_FIELDS = (
    "phys_base", "dump_level", "split", "start_pfn", "end_pfn", "offset_vmcoreinfo",
    "size_vmcoreinfo", "offset_note", "size_note", "offset_eraseinfo", "size_eraseinfo",
    "start_pfn_64", "end_pfn_64", "max_mapnr_64",
)  # fmt: skip
_SUB_64 = ((0, 8), (8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8), (56, 8), (64, 8),
           (72, 8), (80, 8), (88, 8), (96, 8))  # fmt: skip
_SUB_I386 = ((0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (20, 8), (28, 4), (32, 8), (40, 4), (44, 8),
             (52, 4), (56, 8), (64, 8), (72, 8))  # fmt: skip
_SUB_ARM = ((0, 4), (4, 4), (8, 4), (12, 4), (16, 4), (24, 8), (32, 4), (40, 8), (48, 4), (56, 8),
            (64, 4), (72, 8), (80, 8), (88, 8))  # fmt: skip
SINCE = (0, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6)
"""The version that brought each field."""


@dataclass(frozen=True)
class Machine:
    """How the dead machine's compiler laid structures out."""

    order: str
    words: int
    sub: tuple[tuple[int, int], ...]
    name: bytes
    page_size: int = 4096


X86_64 = Machine("<", 64, _SUB_64, b"x86_64")
AARCH64 = Machine("<", 64, _SUB_64, b"aarch64", 65536)
S390X = Machine(">", 64, _SUB_64, b"s390x")
I386 = Machine("<", 32, _SUB_I386, b"i686")
ARM = Machine("<", 32, _SUB_ARM, b"armv7l")
MIPS_BE = Machine(">", 32, _SUB_ARM, b"mips")
MACHINES = (X86_64, AARCH64, S390X, I386, ARM, MIPS_BE)


@dataclass(frozen=True)
class Spec:
    """One file.

    :ivar pages: content by pfn; None for a page that was filtered out.
    :ivar max_mapnr: the last pfn and 1, if it is more than the pages say.
    :ivar stored: what is stored for a page, and its flags, if it is not to be zlib's.
    :ivar lost: pfns whose descriptors stay empty.
    :ivar shuffled: write the page data backwards, which is legal.
    :ivar vmcoreinfo: the text; from version 4 on inside ``notes``, before on its own.
    :ivar sub: sub header fields to overwrite.
    """

    pages: Mapping[int, Optional[bytes]]
    machine: Machine = X86_64
    version: int = 6
    level: int = 0
    max_mapnr: int = 0
    status: int = ZLIB
    stored: Mapping[int, tuple[bytes, int]] = field(default_factory=dict)
    lost: Collection[int] = ()
    shuffled: bool = False
    notes: bytes = b""
    vmcoreinfo: bytes = b""
    eraseinfo: bytes = b""
    nr_cpus: int = 0
    tv_sec: int = 0
    utsname: Mapping[int, bytes] = field(default_factory=dict)
    sub: Mapping[str, int] = field(default_factory=dict)
    zero_shared: bool = False


def build_parts(spec: Spec, ends: Sequence[int]) -> list[bytes]:
    """The bytes of the files that it is split to.

    :param ends: one past the last page of each; the first begins with page 0.
    """
    parts = []
    for start, end in zip((0, *ends), ends):
        bounds = {"start_pfn": min(start, 0xFFFFFFFF), "end_pfn": min(end, 0xFFFFFFFF)}
        bounds_64 = {"start_pfn_64": start, "end_pfn_64": end}
        sub = {"split": 1, **bounds, **bounds_64, **spec.sub}
        parts.append(build(replace(spec, sub=sub), range(start, end)))
    return parts


def build(spec: Spec, own: Optional[range] = None) -> bytes:
    """The bytes of the file.

    :param own: the pages it has, if it is a part; then there is room for all others' descriptors.
    """
    size, order = spec.machine.page_size, spec.machine.order
    n_pages = max(spec.max_mapnr, max(spec.pages, default=-1) + 1)
    behind = _behind_sub_header(spec)
    sub_blocks = -(-(104 + len(behind)) // size)
    half_size = -(-n_pages // (8 * size)) * size
    bitmap_off = (1 + sub_blocks) * size
    kept = sorted(pfn for pfn, content in spec.pages.items() if content is not None)
    data_off = bitmap_off + 2 * half_size + 24 * len(kept)
    data = bytearray(bytes(size) if spec.zero_shared else b"")
    descriptors = {}
    mine = [pfn for pfn in kept if own is None or pfn in own]
    for pfn in reversed(mine) if spec.shuffled else mine:
        content = spec.pages[pfn]
        assert content is not None
        if pfn in spec.lost:
            descriptors[pfn] = (0, 0, 0)
        elif spec.zero_shared and not any(content):
            descriptors[pfn] = (data_off, size, 0)
        else:
            stored, flags = spec.stored.get(pfn) or _stored(spec, content)
            descriptors[pfn] = (data_off + len(data), len(stored), flags)
            data += stored
    table = b"".join(struct.pack(order + "qIIQ", *descriptors[pfn], 0) for pfn in mine)
    table = table.ljust(24 * len(kept), b"\0")
    erase_off = data_off + len(data)
    head = _header(spec, n_pages, sub_blocks, 2 * half_size // size).ljust(size, b"\0")
    sub = _sub_header(spec, n_pages, size + 104, erase_off)
    sub_block = (sub.ljust(104, b"\0") + behind).ljust(sub_blocks * size, b"\0")
    bitmaps = _bitmap(spec.pages, half_size) + _bitmap(kept, half_size)
    return head + sub_block + bitmaps + table + bytes(data) + spec.eraseinfo


def _stored(spec: Spec, content: bytes) -> tuple[bytes, int]:
    packed = zlib.compress(content, 1)
    if spec.status & ZLIB and len(packed) < len(content):
        return packed, ZLIB
    return content, 0


def _behind_sub_header(spec: Spec) -> bytes:
    """From version 4 on the notes; before, VMCOREINFO's text, which came with version 3."""
    return spec.notes if spec.version >= 4 else spec.vmcoreinfo


def _header(spec: Spec, n_pages: int, sub_blocks: int, bitmap_blocks: int) -> bytes:
    order, size = spec.machine.order, spec.machine.page_size
    names = {4: spec.machine.name, **spec.utsname}
    utsname = b"".join(names.get(i, b"").ljust(65, b"\0") for i in range(6))
    start = b"KDUMP   " + struct.pack(order + "i", spec.version) + utsname
    wide = spec.machine.words == 64
    time = struct.pack(order + ("qq" if wide else "ii"), spec.tv_sec, 0)
    return start.ljust(408 if wide else 404, b"\0") + time + struct.pack(
        order + "IiiIIIIIIi", spec.status, size, sub_blocks, bitmap_blocks,
        min(n_pages, 0xFFFFFFFF), 0, 0, 0, 0, spec.nr_cpus,
    )  # fmt: skip


def _sub_header(spec: Spec, n_pages: int, notes_off: int, erase_off: int) -> bytes:
    values = dict.fromkeys(SUB_FIELDS, 0)
    values.update(dump_level=spec.level, max_mapnr_64=n_pages)
    if spec.notes and spec.version >= 4:
        values.update(offset_note=notes_off, size_note=len(spec.notes))
    if spec.vmcoreinfo:
        inside = spec.notes.find(spec.vmcoreinfo) if spec.version >= 4 else 0
        values.update(
            offset_vmcoreinfo=notes_off + inside, size_vmcoreinfo=len(spec.vmcoreinfo)
        )  # fmt: skip
    if spec.eraseinfo:
        values.update(offset_eraseinfo=erase_off, size_eraseinfo=len(spec.eraseinfo))
    values.update(spec.sub)
    raw = bytearray(104)
    for name, (off, width), since in zip(SUB_FIELDS, spec.machine.sub, SINCE):
        if since <= spec.version:
            kind = {4: "I", 8: "Q"}[width]
            struct.pack_into(
                spec.machine.order + kind, raw, off, values[name] & (1 << 8 * width) - 1
            )
    return bytes(raw)


def _bitmap(pfns: Collection[int], size: int) -> bytes:
    bitmap = bytearray(size)
    for pfn in pfns:
        bitmap[pfn >> 3] |= 1 << (pfn & 7)
    return bytes(bitmap)
