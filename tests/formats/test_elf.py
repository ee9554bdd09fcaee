# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF records and notes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.formats import elf
from tests.builders.elfcore import note


def test_program_headers() -> None:
    table = struct.pack("<IIQQQQQQ", 1, 7, 2, 3, 4, 5, 6, 8) + struct.pack("<IIQQQQQQ", 4, *[0] * 7)
    first, second = elf.parse_phdrs(table)
    assert first == elf.Phdr(
        p_type=1, p_flags=7, p_offset=2, p_vaddr=3, p_paddr=4, p_filesz=5, p_memsz=6, p_align=8
    )
    assert second.p_type == elf.PT_NOTE
    assert elf.parse_phdrs(b"") == []


def test_sh_info_is_at_44() -> None:
    assert elf.sh_info(bytes(44) + struct.pack("<I", 65536) + bytes(16)) == 65536


notes = st.lists(
    st.tuples(
        st.text("ABCxyz_", min_size=1, max_size=9), st.integers(0, 9), st.binary(max_size=30)
    ),
    max_size=5,
)


@given(notes, st.integers(0, 64))
def test_notes_are_found_with_their_descriptions(
    expected: list[tuple[str, int, bytes]], padding: int
) -> None:
    blob = b"".join(note(*one) for one in expected) + bytes(padding)
    found = list(elf.iter_notes(blob))
    assert None not in found
    assert [
        (n.name.decode(), n.type, blob[n.desc_off : n.desc_off + n.desc_size]) for n in found if n
    ] == expected


@given(notes.filter(bool), st.data())
def test_a_cut_note_is_reported(
    expected: list[tuple[str, int, bytes]], data: st.DataObject
) -> None:
    blob = b"".join(note(*one) for one in expected)
    start = len(blob) - len(note(*expected[-1]))
    end_of_name = start + 12 + -(-(len(expected[-1][0]) + 1) // 4) * 4
    cut = data.draw(st.integers(start + 12, end_of_name + len(expected[-1][2])))
    found = list(elf.iter_notes(blob[:cut]))
    whole = len(expected) - (cut < end_of_name + len(expected[-1][2]))
    assert len([n for n in found if n]) == whole
    if whole < len(expected):
        assert found[-1] is None


@pytest.mark.parametrize("sizes", [(0xFFFFFFFF, 4), (4, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_absurd_note_sizes(sizes: tuple[int, int]) -> None:
    assert list(elf.iter_notes(struct.pack("<III", *sizes, 0) + bytes(64))) == [None]
