# SPDX-License-Identifier: GPL-2.0-or-later
"""Page-table walks as they are printed."""

from __future__ import annotations

import pytest

from pydumpfile.report.walk import walk
from tests.memory.test_x86_64 import ROOT, VADDR, Bench


def entries(text: str) -> list[tuple[str, int, int]]:
    """Name, address and value of each entry that was printed."""
    rows = (line.split() for line in text.splitlines() if "=>" in line)
    return [(name, int(paddr, 16), int(entry, 16)) for name, _, paddr, _, entry in rows]


def follow(bench: Bench, shown: list[tuple[str, int, int]]) -> None:
    """Each entry is what memory has at its address, and lies in the table the one before names."""
    table = ROOT
    for _, paddr, entry in shown:
        assert paddr & -4096 == table
        assert bench.source.read(paddr, 8) == entry.to_bytes(8, "little")
        table = entry & (1 << 52) - 4096


@pytest.mark.parametrize(
    ("levels", "shift", "names"),
    [
        (4, 12, ["PGD", "PUD", "PMD", "PTE"]),
        (4, 21, ["PGD", "PUD", "PMD"]),
        (5, 12, ["PGD", "P4D", "PUD", "PMD", "PTE"]),
        (5, 30, ["PGD", "P4D", "PUD"]),
    ],
)
def test_a_walk_to_a_page(levels: int, shift: int, names: list[str]) -> None:
    bench = Bench(levels)
    bench.tables.map(VADDR, 0, shift)
    lines = walk(bench.space, VADDR + 0x123).splitlines()
    shown = entries("\n".join(lines))
    assert [name for name, _, _ in shown] == names
    follow(bench, shown)
    assert lines[0] == f"Page tables for virtual address {VADDR + 0x123:x}:"
    assert [line.split() for line in lines[-2:]] == [
        ["VIRTUAL", "PHYSICAL"],
        [f"{VADDR + 0x123:x}", "123"],
    ]


def test_a_walk_that_ends_early() -> None:
    bench = Bench()
    bench.tables.map(VADDR, 0x3000, 12)
    text = walk(bench.space, VADDR + 0x1000)
    shown = entries(text)
    assert [name for name, _, _ in shown] == ["PGD", "PUD", "PMD", "PTE"]
    follow(bench, shown)
    assert shown[-1][2] == 0
    assert text.splitlines()[-1] == (
        f"virtual address {VADDR + 0x1000:#x} is not mapped: the level-1 page-table entry is 0x0"
    )


def test_a_table_that_is_not_in_the_dump() -> None:
    bench = Bench()
    bench.memory.write(ROOT + (VADDR >> 39 & 511) * 8, (1 << 40 | 0x63).to_bytes(8, "little"))
    text = walk(bench.space, VADDR)
    assert [name for name, _, _ in entries(text)] == ["PGD"]
    assert text.splitlines()[-1].endswith("physical address 0x10000000000 is not in the dump")
