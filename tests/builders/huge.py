# SPDX-License-Identifier: GPL-2.0-or-later
"""Cores of hundreds of GiB, built in seconds: most sections share the bytes of two mem_maps.

A struct page of a section depends on its place in the section only (but for addresses in links,
which no rule follows), so that the vmemmap area of many sections can be the same few pages of
physical memory.  With `share_mem_map=False` each section gets its own copy, as in a real dump.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import NamedTuple, Union

from . import bits
from .elfcore import write_core
from .freelists import FreeLists
from .loads import make_loads
from .machine import Machine
from .memmap import PAGES_PER_SECTION, SectionTable
from .pages import KERNEL, USABLE, PageMaker, populate
from .physmem import PAGE_SIZE
from .spec import CoreSpec
from .structpage import Encoder, StructPage
from .verdict import KINDS, MemMapPages, Verdict

_BITMAP_SIZE = PAGES_PER_SECTION // 8
_STRUCT_PAGE_SIZE = 64
_CHUNK_SHIFT = 21  # struct pages of a section fill one 2 MiB page of vmemmap
_CHUNK_SIZE = 1 << _CHUNK_SHIFT
_SHARED_CHUNKS = 8


@dataclass(frozen=True)
class HugeCore:
    """A huge core; bitmaps are made of per-section answers, and available as runs too.

    :ivar template_of: section number -> number of the template it repeats.
    """

    path: Path
    spec: CoreSpec
    max_mapnr: int
    page_size: int
    phys_base: int
    page_offset: int
    vmcoreinfo: str
    keys: Mapping[str, Union[int, str]]
    template_of: Sequence[int]
    _templates: Sequence[Verdict]

    @property
    def exists(self) -> bytes:
        """The first bitmap: all ones."""
        return b"\xff" * (self.max_mapnr // 8)

    @cached_property
    def _copies(self) -> list[int]:
        return [self.template_of.count(at) for at in range(len(self._templates))]

    def verdict(self, level: int) -> bytes:
        """The second bitmap expected at `level`; 8 MiB for 256 GiB of memory."""
        pieces = [template.bitmap(level) for template in self._templates]
        return b"".join([pieces[at] for at in self.template_of])

    def counts(self, level: int) -> dict[str, int]:
        """Bits cleared at `level`, by kind."""
        totals = dict.fromkeys(KINDS, 0)
        for template, copies in zip(self._templates, self._copies):
            for kind, count in template.counts(level).items():
                totals[kind] += count * copies
        return totals

    def runs(self, level: int) -> Iterator[tuple[int, int]]:
        """Half-open pfn ranges kept at `level`, ascending; none crosses a section's end."""
        runs = [list(bits.runs(template.bitmap(level))) for template in self._templates]
        for number, at in enumerate(self.template_of):
            first_pfn = number * PAGES_PER_SECTION
            for first, end in runs[at]:
                yield first_pfn + first, first_pfn + end


def build_huge_core(
    path: Union[str, os.PathLike[str]],
    memory_size: int = 256 << 30,
    *,
    layout: str = "6.12",
    levels: int = 4,
    seed: int = 1,
    share_mem_map: bool = True,
    split_loads: int = 1,
    busy_every: int = 16,
) -> HugeCore:
    """Write a sparse core of `memory_size` bytes of RAM, from physical address 0, mostly free.

    :param memory_size: a multiple of 128 MiB.
    :param share_mem_map: sections of a kind share their struct pages in physical memory. False
        writes memory_size / 64 bytes of mem_map to the file.
    :param busy_every: every so many sections one has a random population instead of free memory.
    """
    if memory_size % (PAGES_PER_SECTION * PAGE_SIZE):
        raise ValueError(f"memory_size {memory_size:#x} is not a multiple of 128 MiB")
    spec = CoreSpec(
        layout=layout,
        levels=levels,
        seed=seed,
        memory=((0, memory_size),),
        split_loads=split_loads,
        filled=0.0,
    )
    machine = Machine(spec)
    if machine.layout.size * PAGES_PER_SECTION != _CHUNK_SIZE:
        raise ValueError(f"SIZE(page) of layout {layout!r} is not 64")
    n_sections = memory_size // (PAGES_PER_SECTION * PAGE_SIZE)
    area = _VmemmapArea(machine.vmemmap, n_sections)
    machine.map_ram((), ())
    table = SectionTable(
        spec,
        machine.layout,
        machine.memory,
        area,
        allocator=machine.allocator,
        page_offset=machine.page_offset,
        static_array=machine.static_array,
        max_physmem_bits=machine.max_physmem_bits,
    )
    n_chunks = _SHARED_CHUNKS if share_mem_map else n_sections
    chunks = [machine.allocator.allocate(_CHUNK_SIZE, _CHUNK_SIZE) for _ in range(n_chunks)]
    for number in range(n_sections):  # now all tables exist, and the kernel's range is final
        machine.tables.map(area.chunk_vaddr(number), chunks[0], _CHUNK_SHIFT)

    templates = [_Template(kernel, busy) for kernel, busy in _plan(machine, n_sections, busy_every)]
    unique = list(dict.fromkeys(templates))
    if share_mem_map and len(unique) > n_chunks:
        raise ValueError(f"{len(unique)} kinds of section, {n_chunks} shared mem_maps")
    populations = [_population(machine, template) for template in unique]
    template_of = [unique.index(template) for template in templates]
    _store(
        machine,
        area,
        chunks=chunks,
        populations=populations,
        template_of=template_of,
        share_mem_map=share_mem_map,
    )

    freelists = FreeLists(
        machine.layout,
        Random(seed),
        blocks=[],
        pgdat_vaddr=machine.pgdat_vaddr,
        page_vaddr=area.page_vaddr,
        broken=False,
    )
    freelists.store(machine.memory, machine.pgdat_paddr, n_sections * PAGES_PER_SECTION)
    keys = machine.keys(table.keys(), freelists.keys())
    text = machine.vmcoreinfo(keys)
    loads = make_loads(spec, machine.page_offset, machine.image_load, Random(seed))
    write_core(path, machine.memory, loads, machine.notes(text))

    full = b"\xff" * _BITMAP_SIZE
    return HugeCore(
        path=Path(path),
        spec=spec,
        max_mapnr=n_sections * PAGES_PER_SECTION,
        page_size=PAGE_SIZE,
        phys_base=machine.phys_base,
        page_offset=machine.page_offset,
        vmcoreinfo=text,
        keys=keys,
        template_of=template_of,
        _templates=[
            Verdict(
                keys, [MemMapPages(0, pages)], max_mapnr=PAGES_PER_SECTION, start=full, data=full
            )
            for pages in populations
        ],
    )


class _VmemmapArea:
    """Where struct pages of each section are in virtual memory."""

    def __init__(self, vmemmap: int, n_sections: int) -> None:
        self._vmemmap = vmemmap
        self.ranges = [
            (number * PAGES_PER_SECTION, (number + 1) * PAGES_PER_SECTION)
            for number in range(n_sections)
        ]

    def base_vaddr(self, start_pfn: int) -> int:
        return self._vmemmap + start_pfn * _STRUCT_PAGE_SIZE

    def page_vaddr(self, pfn: int) -> int:
        return self._vmemmap + pfn * _STRUCT_PAGE_SIZE

    def chunk_vaddr(self, number: int) -> int:
        return self.base_vaddr(number * PAGES_PER_SECTION)


class _Template(NamedTuple):
    """What decides the struct pages of a section."""

    kernel: tuple[int, int]  # pfns of kernel data, counted from the section's first; may be empty
    busy: bool


def _plan(
    machine: Machine, n_sections: int, busy_every: int
) -> Iterator[tuple[tuple[int, int], bool]]:
    """(kernel pfns, is busy) of each section."""
    first_pfn, end_pfn = machine.kernel_pfns
    for number in range(n_sections):
        base = number * PAGES_PER_SECTION
        first = min(max(first_pfn - base, 0), PAGES_PER_SECTION)
        end = min(max(end_pfn - base, 0), PAGES_PER_SECTION)
        kernel = (first, end) if first < end else (0, 0)
        yield kernel, number % busy_every == busy_every - 1


def _population(machine: Machine, template: _Template) -> list[StructPage]:
    """Struct pages of a section at pfn 0, which has the same alignment as any other."""
    maker = PageMaker(
        machine.layout,
        Random(f"{machine.spec.seed} {template}"),
        lambda pfn: machine.vmemmap + pfn * _STRUCT_PAGE_SIZE,
        hwpoison=machine.spec.hwpoison,
        hvo=machine.spec.hvo,
        all_free=not template.busy,
    )
    kinds = bytearray([USABLE]) * PAGES_PER_SECTION
    first, end = template.kernel
    kinds[first:end] = bytes([KERNEL]) * (end - first)
    return populate(maker, 0, bytes(kinds), frozenset())


def _store(
    machine: Machine,
    area: _VmemmapArea,
    *,
    chunks: Sequence[int],
    populations: Sequence[Sequence[StructPage]],
    template_of: Sequence[int],
    share_mem_map: bool,
) -> None:
    """Write the mem_maps and point the vmemmap area at them."""
    encoder = Encoder(machine.layout)
    mem_maps = [encoder.encode(pages) for pages in populations]
    first_place: dict[int, int] = {}
    for number, template in enumerate(template_of):
        paddr = chunks[template] if share_mem_map else chunks[number]
        if template not in first_place:
            machine.memory.write(paddr, mem_maps[template])
            first_place[template] = paddr
        elif not share_mem_map:
            machine.memory.repeat(first_place[template], paddr, _CHUNK_SIZE)
        machine.tables.map(area.chunk_vaddr(number), paddr, _CHUNK_SHIFT)
