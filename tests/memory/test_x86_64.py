# SPDX-License-Identifier: GPL-2.0-or-later
"""Page-table walks, over tables that the builders wrote and over tables written here."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Optional

import pytest

import pydumpfile
from pydumpfile.errors import FaultError, NotInDumpError, PageTableError
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.memory.space import AddressSpace
from pydumpfile.memory.x86_64 import PageTables
from pydumpfile.pfn import Range, Ranges
from pydumpfile.sources.base import Source
from tests.builders import BuiltCore, CoreSpec
from tests.builders.pagetables import PageTables as Tables
from tests.builders.physmem import PhysicalMemory
from tests.conftest import MIB, CoreMaker

ROOT = 0x10000
VADDR = 0xFFFF888000000000
SPECS = {
    "4 levels": CoreSpec(memory_size=40 * MIB),
    "5 levels": CoreSpec(memory_size=40 * MIB, levels=5, randomize_memory=True),
    "KASLR": CoreSpec(memory_size=40 * MIB, kaslr_offset=0x2C000000, randomize_memory=True),
    "SME": CoreSpec(memory_size=40 * MIB, sme_mask=1 << 47),
    "SME, 5 levels": CoreSpec(memory_size=40 * MIB, sme_mask=1 << 51, levels=5),
    "4K vmemmap": CoreSpec(memory_size=40 * MIB, vmemmap_page_size=4096),
    "image elsewhere": CoreSpec(memory_size=80 * MIB, image_paddr=48 * MIB),
}


class MemorySource(Source):
    """Physical memory that a test wrote; addresses from ``end`` on are not in the dump."""

    path = "memory"
    machine = "x86_64"

    def __init__(self, memory: PhysicalMemory, end: int) -> None:
        self._memory = memory
        self._end = end
        self.exists = self.data = Ranges([(0, end)])
        self.views: list[Range] = []

    def view(self, paddr: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        del wanted
        self.views.append((paddr, size))
        if paddr + size > self._end:
            raise NotInDumpError(max(paddr, self._end))
        first, last = paddr >> 12, (paddr + size - 1) >> 12
        whole = b"".join(self._memory.page(pfn) for pfn in range(first, last + 1))
        return memoryview(whole)[paddr % 4096 : paddr % 4096 + size]

    def stretch_end(self, paddr: int) -> int:
        return max(paddr, self._end)

    def another(self) -> Source:
        return self

    def drop_views(self) -> None:
        pass

    def iter_notes(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        pass


class Bench:
    """Page tables under construction, and their reader."""

    def __init__(self, levels: int = 4, sme_mask: int = 0) -> None:
        self.memory = PhysicalMemory()
        self.next_table = ROOT + 0x1000
        self.tables = Tables(self.memory, levels, ROOT, self._new_table, sme_mask)
        self.source = MemorySource(self.memory, 64 * MIB)
        self.reader = PageTables(self.source, ROOT | sme_mask, levels, sme_mask)
        self.space = AddressSpace(self.source, self.reader)

    def _new_table(self) -> int:
        self.next_table += 0x1000
        return self.next_table - 0x1000


@pytest.mark.parametrize("name", SPECS)
def test_struct_pages_by_virtual_address(core_of: CoreMaker, name: str) -> None:
    built = core_of(SPECS[name])
    with pydumpfile.open(built.path) as vmcore:
        assert vmcore.phys_base == built.phys_base
        assert vmcore.levels == built.spec.levels
        _check_direct_map(vmcore, built)
        size = int(built.keys["SIZE(page)"])
        for pfn in (0x100, 0x1234, 0x2000):
            flags_off = int(built.keys["OFFSET(page.flags)"])
            flags = vmcore.memory.read_u64(built.page_vaddr(pfn) + flags_off)
            assert flags == built.struct_page(pfn).flags
            assert len(vmcore.memory.read(built.page_vaddr(pfn), 8 * size)) == 8 * size


def _check_direct_map(vmcore: Vmcore, built: BuiltCore) -> None:
    for pfn in (1, 0x100, 0x1234, 0x27FF):
        vaddr = built.page_offset + (pfn << 12)
        assert vmcore.memory.read(vaddr, 4096) == built.page(pfn)
        assert vmcore.memory.read(vaddr + 123, 100) == built.page(pfn)[123:223]
    end = (built.page_offset + 0x1234000) & -(2 * MIB)
    across = b"".join(built.page(((end - built.page_offset) >> 12) + i) for i in range(-2, 2))
    assert vmcore.memory.read(end - 0x2000, 0x4000) == across


@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("shift", [12, 21, 30])
@pytest.mark.parametrize("sme_mask", [0, 1 << 47])
def test_pages_of_every_size(levels: int, shift: int, sme_mask: int) -> None:
    bench = Bench(levels, sme_mask)
    vaddr = 0xFF11000000000000 if levels == 5 else VADDR
    bench.tables.map(vaddr, 3 << shift, shift)  # odd: sets the PAT bit of large pages
    for off in (0, 5, (1 << shift) - 1):
        leaf = bench.reader.lookup(vaddr + off)
        assert leaf == (vaddr, 3 << shift, 1 << shift)
    with pytest.raises(PageTableError):
        bench.reader.lookup(vaddr + (1 << shift))


@pytest.mark.parametrize("levels", [4, 5])
def test_what_is_not_mapped_says_where_the_walk_ended(levels: int) -> None:
    bench = Bench(levels)
    vaddr = 0xFF11000000000000 if levels == 5 else VADDR
    bench.tables.map(vaddr, 0x5000, 12)
    for level in range(1, levels + 1):
        shift = 12 + 9 * (level - 1)
        with pytest.raises(PageTableError) as caught:
            bench.reader.lookup(vaddr + (1 << shift))
        error = caught.value
        assert (error.level, error.entry, error.space) == (level, 0, "virtual")
        assert error.address == vaddr + (1 << shift)
        assert f"{error.address:#x}" in str(error)


def test_an_entry_that_is_not_present_is_told() -> None:
    bench = Bench()
    bench.tables.map(VADDR, 0x5000, 12)
    table = bench.next_table - 0x1000
    bench.memory.write_word(table + 8, 0x8000000000006062)  # everything but the present bit
    with pytest.raises(PageTableError) as caught:
        bench.reader.lookup(VADDR + 0x1000)
    assert (caught.value.level, caught.value.entry) == (1, 0x8000000000006062)


def test_a_table_outside_of_the_dump() -> None:
    bench = Bench()
    bench.tables.map(VADDR, 0x5000, 12)
    index = VADDR >> 39 & 511
    bench.memory.write_word(ROOT + 8 * index, (1 << 45) | 0x63)
    with pytest.raises(NotInDumpError, match="page table for virtual address 0xffff888") as caught:
        bench.reader.lookup(VADDR)
    assert caught.value.space == "physical"


def test_bit_7_of_the_top_levels_means_nothing() -> None:
    """Only 1 GiB and 2 MiB pages exist."""
    bench = Bench()
    bench.tables.map(VADDR, 0x5000, 12)
    slot = ROOT + 8 * (VADDR >> 39 & 511)
    (entry,) = struct.unpack_from("<Q", bench.memory.page(ROOT >> 12), slot % 4096)
    bench.memory.write_word(slot, entry | 0x80)
    assert bench.reader.lookup(VADDR).paddr == 0x5000


def test_translation_joins_what_lies_together() -> None:
    bench = Bench()
    for i, paddr in enumerate([0x5000, 0x6000, 0x7000, 0x9000, 0x8000]):
        bench.tables.map(VADDR + i * 0x1000, paddr, 12)
    pieces = list(bench.reader.translate(VADDR + 0x10, 0x4FF0))
    assert pieces == [(0x5010, 0x2FF0), (0x9000, 0x1000), (0x8000, 0x1000)]
    assert list(bench.reader.translate(VADDR, 0)) == []
    walk = bench.reader.translate(VADDR + 0x2000, 0x4000)
    assert [next(walk), next(walk), next(walk)] == [
        (0x7000, 0x1000), (0x9000, 0x1000), (0x8000, 0x1000)]  # fmt: skip
    with pytest.raises(PageTableError) as caught:
        next(walk)
    assert caught.value.address == VADDR + 0x5000


def test_large_pages_and_small_ones_join() -> None:
    bench = Bench()
    bench.tables.map(VADDR, 4 * MIB, 21)
    for i in range(4):
        bench.tables.map(VADDR + 2 * MIB + i * 0x1000, 6 * MIB + i * 0x1000, 12)
    assert list(bench.reader.translate(VADDR + MIB, MIB + 0x4000)) == [(5 * MIB, MIB + 0x4000)]


def test_tables_are_read_once() -> None:
    bench = Bench()
    for i in range(512):
        bench.tables.map(VADDR + i * 0x1000, 0x200000 + i * 0x1000, 12)
    list(bench.reader.translate(VADDR, 512 * 0x1000))
    assert len(bench.source.views) == 4


class TestSpace:
    """Reads through the tables."""

    def test_scattered_pages_come_together(self) -> None:
        bench = Bench()
        for i, paddr in enumerate([0x100000, 0x104000, 0x102000]):
            bench.tables.map(VADDR + i * 0x1000, paddr, 12)
            bench.memory.write(paddr, bytes([i + 1]) * 4096)
        assert bench.space.read(VADDR + 0xFFF, 0x1002) == b"\1" + b"\2" * 4096 + b"\3"
        bench.memory.write_word(0x104008, 0x1122334455667788)
        assert bench.space.read_u64(VADDR + 0x1008) == 0x1122334455667788

    def test_a_view_of_one_piece_is_no_copy(self) -> None:
        bench = Bench()
        bench.tables.map(VADDR, 2 * MIB, 21)
        bench.space.view(VADDR, 2 * MIB)
        assert bench.source.views[-1] == (2 * MIB, 2 * MIB)

    def test_salvage(self) -> None:
        bench = Bench()
        for i in range(16):
            if i not in (3, 4, 11):
                paddr = 0x100000 + i * 0x1000 if i != 14 else 1 << 40  # mapped, not in the dump
                bench.tables.map(VADDR + i * 0x1000, paddr, 12)
            bench.memory.write(0x100000 + i * 0x1000, bytes([i + 1]) * 4096)
        unit = 56  # some records straddle pages
        n = 16 * 4096 // unit
        records, lost = bench.space.salvage(VADDR, n * unit, unit)
        bad = {3, 4, 11, 14}
        for i in range(n):
            start, last = i * unit, i * unit + unit - 1
            whole = not {start >> 12, last >> 12} & bad
            assert (i not in lost) == whole
            expected = (
                bytes((at >> 12) + 1 for at in range(start, last + 1)) if whole else bytes(56)
            )
            assert records[start : last + 1] == expected
        with pytest.raises(FaultError):
            bench.space.view(VADDR, n * unit)

    @pytest.mark.parametrize(
        ("levels", "vaddr", "kernel"),
        [(4, VADDR, True), (4, 0xFFFF800000000000, True), (4, 0xFFFF7FFFFFFFFFFF, False),
         (5, 0xFF11000000000000, True), (5, 0xFEFFFFFFFFFFFFFF, False), (4, 0, False),
         (4, 1 << 64, False), (4, (1 << 64) - 1, True)],
    )  # fmt: skip
    def test_is_kernel(self, levels: int, vaddr: int, kernel: bool) -> None:
        assert Bench(levels).space.is_kernel(vaddr) == kernel
