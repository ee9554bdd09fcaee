# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of the kdump format, field by field at the offsets of docs/formats.md."""

from __future__ import annotations

import struct

import pytest

from pydumpfile.formats import kdump


def fields(raw: bytes, *layout: tuple[int, str]) -> list[object]:
    return [struct.unpack_from("<" + code, raw, off)[0] for off, code in layout]


def test_main_header() -> None:
    header = kdump.Header(
        utsname=bytes(range(195)) * 2, tv_sec=1 << 40, status=0x28, block_size=4096,
        sub_hdr_size=3, bitmap_blocks=6, max_mapnr=0x14000, nr_cpus=5,
    )  # fmt: skip
    raw = header.pack()
    assert len(raw) == 464
    assert raw[:8] == b"KDUMP   "
    assert fields(raw, (8, "i")) == [6]
    assert raw[12:402] == bytes(range(195)) * 2
    assert raw[402:408] == bytes(6)
    assert fields(raw, (408, "q"), (416, "q"), (424, "I")) == [1 << 40, 0, 0x28]
    assert fields(raw, *((off, "I") for off in range(428, 464, 4))) == [
        4096, 3, 6, 0x14000, 0, 0, 0, 0, 5]  # fmt: skip


def test_max_mapnr_saturates_in_the_main_header_only() -> None:
    header = kdump.Header(bytes(390), 0, 0, 4096, 1, 2, 1 << 33, 0)
    assert fields(header.pack(), (440, "I")) == [0xFFFFFFFF]
    sub = kdump.SubHeader(0, 0, 0, 0, 0, 0, 1 << 33)
    assert fields(sub.pack(), (96, "Q")) == [1 << 33]


def test_sub_header() -> None:
    sub = kdump.SubHeader(
        phys_base=-0x1000000, dump_level=31, offset_vmcoreinfo=4936, size_vmcoreinfo=1123,
        offset_note=4200, size_note=1860, max_mapnr_64=0x14000,
    )  # fmt: skip
    raw = sub.pack()
    assert len(raw) == 104
    assert fields(raw, (0, "q"), (8, "i"), (12, "i")) == [-0x1000000, 31, 0]
    assert fields(raw, *((off, "Q") for off in range(16, 104, 8))) == [
        0, 0, 4936, 1123, 4200, 1860, 0, 0, 0, 0, 0x14000]  # fmt: skip


def test_descriptor() -> None:
    raw = kdump.pack_descriptor(1 << 40, 1234, 0x20)
    assert len(raw) == 24
    assert fields(raw, (0, "q"), (8, "I"), (12, "I"), (16, "Q")) == [1 << 40, 1234, 0x20, 0]


def test_layout_of_the_worked_example() -> None:
    """docs/formats.md: a file that makedumpfile wrote."""
    layout = kdump.Layout.plan(4096, 1860, 0x14000)
    assert (layout.sub_hdr_size, layout.bitmap_blocks, layout.notes_off) == (1, 6, 4200)
    assert (layout.bitmap1_off, layout.bitmap2_off) == (8192, 20480)
    assert layout.descriptors_off == 32768
    assert layout.data_off(15655) == 408488


@pytest.mark.parametrize(
    ("notes_size", "max_mapnr", "sub_hdr_size", "half_blocks"),
    [
        (0, 1, 1, 1),
        (4096 - 104, 8 * 4096, 1, 1),
        (4096 - 103, 8 * 4096 + 1, 2, 2),
        (1 << 20, 1 << 33, 257, 1 << 18),
    ],
)
def test_layout(notes_size: int, max_mapnr: int, sub_hdr_size: int, half_blocks: int) -> None:
    layout = kdump.Layout.plan(4096, notes_size, max_mapnr)
    assert layout.sub_hdr_size == sub_hdr_size
    assert layout.bitmap_blocks == 2 * half_blocks
    assert layout.bitmap1_off == 4096 * (1 + sub_hdr_size)
    assert layout.bitmap2_off == layout.bitmap1_off + 4096 * half_blocks
    assert layout.descriptors_off == layout.bitmap2_off + 4096 * half_blocks
    assert layout.notes_off + notes_size <= layout.bitmap1_off
