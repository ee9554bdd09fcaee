# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds one synthetic vmcore and the expected answer of every dump level."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Callable, Union

from . import bits
from .elfcore import Load, write_core
from .freelists import FreeLists
from .garbage import GarbageMaker
from .loads import first_bitmaps, make_loads
from .machine import Machine
from .memmap import MemMap, SectionTable
from .pages import GIGANTIC_ORDER, HOLE, KERNEL, USABLE, PageMaker, populate
from .physmem import PAGE_SHIFT, PAGE_SIZE, ZERO_PAGE, PhysicalMemory, round_up
from .spec import CoreSpec
from .structpage import Encoder, StructPage
from .verdict import MemMapPages, Verdict

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class BuiltCore:
    """A core file and everything a test may want to know about it.

    :ivar exists: the first bitmap, least significant bit first, one bit a pfn below `max_mapnr`.
    :ivar keys: VMCOREINFO as a mapping, also when the note itself was left out.
    :ivar loads: the PT_LOADs in file order.
    :ivar page_vaddr: address of the struct page of a pfn.
    """

    path: Path
    spec: CoreSpec
    max_mapnr: int
    page_size: int
    phys_base: int
    page_offset: int
    vmcoreinfo: str
    keys: Mapping[str, Union[int, str]]
    exists: bytes
    loads: Sequence[Load]
    mem_map: Sequence[MemMapPages]
    page_vaddr: Callable[[int], int]
    _verdict: Verdict
    _old_verdict: Verdict
    _memory: PhysicalMemory

    def verdict(self, level: int) -> bytes:
        """The second bitmap expected at `level`; zero pages keep their bit."""
        return self._verdict.bitmap(level)

    def counts(self, level: int) -> dict[str, int]:
        """Bits cleared at `level`: free, cache, cache_private, user, hwpoison, offline."""
        return self._verdict.counts(level)

    def old_verdict(self, level: int) -> bytes:
        """As `verdict`, but by the rules of makedumpfile before 1.7.3: the witness' opinion."""
        return self._old_verdict.bitmap(level)

    def struct_page(self, pfn: int) -> StructPage:
        """The record of one page."""
        for mem_map in self.mem_map:
            if 0 <= pfn - mem_map.start_pfn < len(mem_map.pages):
                return mem_map.pages[pfn - mem_map.start_pfn]
        raise ValueError(f"pfn {pfn:#x} has no struct page")

    @cached_property
    def _data_ranges(self) -> list[tuple[int, int]]:
        """Merged [start, end) physical addresses with bytes in the file, ascending."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted((load.paddr, load.paddr + load.filesz) for load in self.loads):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged

    def page(self, pfn: int) -> bytes:
        """4096 bytes of the page, zero where the file has none."""
        start = pfn * PAGE_SIZE
        end = start + PAGE_SIZE
        ranges = self._data_ranges
        at = max(0, bisect_right(ranges, (start, 1 << 64)) - 1)
        content = self._memory.page(pfn)
        page = bytearray(ZERO_PAGE)
        for first, last in ranges[at : at + 3]:
            if first < end and start < last:
                low, high = max(first, start) - start, min(last, end) - start
                page[low:high] = content[low:high]
        return bytes(page)

    @cached_property
    def zero_pfns(self) -> frozenset[int]:
        """The existing pfns whose content is all zero."""
        written = {pfn for pfn, _ in self._memory.written(0, self.max_mapnr)}
        full = {pfn for pfn in written if self.page(pfn) != ZERO_PAGE}
        return frozenset(pfn for pfn in bits.ones(self.exists) if pfn not in full)


_ORDINARY = CoreSpec()


def build_core(path: PathLike, spec: CoreSpec = _ORDINARY) -> BuiltCore:
    """Write the core that `spec` describes to `path`.

    :raises ValueError: the knobs contradict each other, or memory is too small for kernel data.
    """
    machine = Machine(spec)
    memmap = MemMap(
        spec,
        machine.layout,
        machine.memory,
        machine.allocator,
        page_offset=machine.page_offset,
        vmemmap=machine.vmemmap,
    )
    machine.map_ram(memmap.absent, memmap.unmapped)
    for vaddr, paddr, shift in memmap.mappings:
        machine.tables.map(vaddr, paddr, shift)
    section_keys: Mapping[str, Union[int, str]] = {}
    if spec.model == "flatmem":
        machine.set_mem_map_pointer(memmap.base_vaddr(0))
    else:
        table = SectionTable(
            spec,
            machine.layout,
            machine.memory,
            memmap,
            allocator=machine.allocator,
            page_offset=machine.page_offset,
            static_array=machine.static_array,
            max_physmem_bits=machine.max_physmem_bits,
        )
        section_keys = table.keys()
        if spec.model == "extreme":
            machine.set_mem_section_pointer(table.symbol_vaddr)

    kinds = {start: _kinds(machine, start, end) for start, end in memmap.ranges}
    ranges, freelists = _populate(machine, memmap, kinds)
    encoder = Encoder(machine.layout)
    for mem_map in ranges:
        memmap.store(mem_map.start_pfn, encoder.encode(mem_map.pages))
    freelists.store(machine.memory, machine.pgdat_paddr, _end_pfn(spec))
    _fill_pages(spec, machine.memory, kinds)

    keys = machine.keys(section_keys, freelists.keys())
    text = machine.vmcoreinfo(keys)
    loads = make_loads(spec, machine.page_offset, machine.image_load, Random(f"{spec.seed} loads"))
    notes = machine.notes(text if spec.note else None)
    write_core(path, machine.memory, loads, notes, spec.unaligned)

    max_mapnr = _end_pfn(spec)
    if spec.note and spec.model != "flatmem":
        # Memory behind the last section with a mem_map was hidden from the kernel by mem=.
        max_mapnr = min(max_mapnr, memmap.ranges[-1][1])
    bitmaps = first_bitmaps(loads, max_mapnr)
    unreadable = [(first, first + count) for first, count, _ in spec.unreadable]

    def verdict(slab_may_be_anon: bool) -> Verdict:
        return Verdict(
            keys if spec.note else None,
            ranges,
            max_mapnr=max_mapnr,
            start=bitmaps.start,
            data=bitmaps.data,
            unreadable=unreadable,
            free_blocks=freelists.reachable,
            slab_may_be_anon=slab_may_be_anon,
        )

    return BuiltCore(
        path=Path(path),
        spec=spec,
        max_mapnr=max_mapnr,
        page_size=PAGE_SIZE,
        phys_base=machine.phys_base,
        page_offset=machine.page_offset,
        vmcoreinfo=text,
        keys=keys,
        exists=bitmaps.exists,
        loads=loads,
        mem_map=ranges,
        page_vaddr=memmap.page_vaddr,
        _verdict=verdict(False),
        _old_verdict=verdict(True),
        _memory=machine.memory,
    )


def _end_pfn(spec: CoreSpec) -> int:
    return max(-(-(paddr + size) // PAGE_SIZE) for paddr, size in spec.ram())


def _kinds(machine: Machine, start_pfn: int, end_pfn: int) -> bytes:
    """What each pfn of the range is to the population: USABLE, KERNEL or HOLE."""
    kinds = bytearray([HOLE]) * (end_pfn - start_pfn)

    def mark(first_pfn: int, last_pfn: int, kind: int) -> None:
        first = max(first_pfn, start_pfn) - start_pfn
        last = min(last_pfn, end_pfn) - start_pfn
        if first < last:
            kinds[first:last] = bytes([kind]) * (last - first)

    for paddr, size in machine.spec.ram():
        first_pfn = paddr >> PAGE_SHIFT
        mark(first_pfn, round_up(paddr + size, PAGE_SIZE) >> PAGE_SHIFT, USABLE)
        if paddr % PAGE_SIZE:
            # Whether a page that begins outside of RAM is looked at is nobody's rule: make sure
            # that there is nothing to decide.
            mark(first_pfn, first_pfn + 1, KERNEL)
    mark(*machine.kernel_pfns, KERNEL)
    return bytes(kinds)


def _populate(
    machine: Machine, memmap: MemMap, kinds: Mapping[int, bytes]
) -> tuple[list[MemMapPages], FreeLists]:
    """Struct pages of every range, and the free lists that run through them."""
    spec, layout = machine.spec, machine.layout
    rng = Random(f"{spec.seed} pages")
    pages_of: dict[int, list[StructPage]] = {}
    blocks: list[tuple[int, int]] = []
    if spec.garbage:
        garbage = GarbageMaker(layout, rng)
        plain = StructPage()
        for start, range_kinds in kinds.items():
            pages_of[start] = [plain if kind == KERNEL else garbage.page() for kind in range_kinds]
    else:
        maker = PageMaker(
            layout,
            rng,
            memmap.page_vaddr,
            hwpoison=spec.hwpoison,
            hvo=spec.hvo,
            bad_orders=spec.bad_orders,
        )
        gigantic = _gigantic_places(kinds) if spec.gigantic else frozenset()
        for start, range_kinds in kinds.items():
            pages_of[start] = populate(maker, start, range_kinds, gigantic)
        blocks = maker.buddy_blocks

    def index(pfn: int) -> tuple[int, int]:
        start = max(start for start in pages_of if start <= pfn)
        return start, pfn - start

    def page_of(pfn: int) -> StructPage:
        start, at = index(pfn)
        return pages_of[start][at]

    freelists = FreeLists(
        layout,
        rng,
        blocks=blocks,
        pgdat_vaddr=machine.pgdat_vaddr,
        page_vaddr=memmap.page_vaddr,
        broken=spec.broken_list,
    )
    for pfn, page in freelists.link(page_of).items():
        start, at = index(pfn)
        pages_of[start][at] = page
    return [MemMapPages(start, pages) for start, pages in pages_of.items()], freelists


def _gigantic_places(kinds: Mapping[int, bytes]) -> frozenset[int]:
    """First pfns of the aligned GiBs that are usable throughout."""
    usable: dict[int, int] = {}
    for start, range_kinds in kinds.items():
        for at in range(0, len(range_kinds), 512):
            count = range_kinds.count(USABLE, at, at + 512)
            giga = (start + at) >> GIGANTIC_ORDER
            usable[giga] = usable.get(giga, 0) + count
    return frozenset(
        giga << GIGANTIC_ORDER for giga, count in usable.items() if count == 1 << GIGANTIC_ORDER
    )


def _fill_pages(spec: CoreSpec, memory: PhysicalMemory, kinds: Mapping[int, bytes]) -> None:
    """Give some pages content: noise, text, or one byte at either end."""
    rng = Random(f"{spec.seed} content")
    for start, range_kinds in kinds.items():
        for at, kind in enumerate(range_kinds):
            if kind != USABLE or rng.random() >= spec.filled:
                continue
            paddr = (start + at) * PAGE_SIZE
            choice = rng.randrange(8)
            if choice < 3:
                memory.write(paddr, rng.randbytes(PAGE_SIZE))
            elif choice < 6:
                line = f"pfn {start + at:#x} of seed {spec.seed}\n".encode()
                memory.write(paddr, (line * (PAGE_SIZE // len(line) + 1))[:PAGE_SIZE])
            else:
                memory.write(paddr + (0 if choice == 6 else PAGE_SIZE - 1), b"\x01")
