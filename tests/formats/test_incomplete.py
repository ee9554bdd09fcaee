# SPDX-License-Identifier: GPL-2.0-or-later
"""The mark of an incomplete dump, in every format that has one."""

from __future__ import annotations

import struct

import pytest

from pydumpfile.formats.incomplete import mark_incomplete


def changed(before: bytes, after: bytes) -> dict[int, int]:
    assert len(before) == len(after)
    return {at: new for at, (old, new) in enumerate(zip(before, after)) if old != new}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("block_size", [4096, 16384, 65536])
@pytest.mark.parametrize("status", [0, 0x1, 0x20, 0x8, 0x29])
def test_kdump(order: str, block_size: int, status: int) -> None:
    start = bytearray(4096)
    start[:8] = b"KDUMP   "
    struct.pack_into(f"{order}II", start, 424, status, block_size)
    marked = mark_incomplete(bytes(start))
    assert struct.unpack_from(f"{order}I", marked, 424) == (status | 8,)
    assert set(changed(bytes(start), marked)) <= {424, 427}
    assert mark_incomplete(bytes(start[:464])) == marked[:464]


@pytest.mark.parametrize(("order", "byte"), [(1, 48), (2, 51)])
def test_elf(order: int, byte: int) -> None:
    start = b"\x7fELF" + bytes((2, order)) + bytes(200)
    assert changed(start, mark_incomplete(start)) == {byte: 1}


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"KDUMP   ",
        b"KDUMP   " + bytes(423),
        b"KDUMP   " + b"\xff" * 4000,
        b"\x7fELF\x02\x01" + b"\xff" * 40,
        b"\x7fELF\x02\x03" + b"\xff" * 400,
        b"\x7fELF\x01\x01" + b"\xff" * 400,
        b"something else",
    ],
)
def test_what_cannot_be_marked_is_withheld(start: bytes) -> None:
    assert mark_incomplete(start) == bytes(len(start))
