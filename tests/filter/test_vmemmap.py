# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of mem_map that describe only pages left out: all of them, and no other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

import pydumpfile
from pydumpfile.bitmap import Bitmap
from pydumpfile.filter import classify
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Kind, Level
from pydumpfile.filter.vmemmap import UnusedMemMap
from pydumpfile.kernel.vmcore import Vmcore
from tests.builders import LAYOUTS, BuiltCore, CoreSpec, bits
from tests.conftest import MIB, CoreMaker

PAGE = 4096
BASE = CoreSpec(memory_size=160 * MIB, filled=0.0)
MACHINES = {
    "ordinary": BASE,
    "5 levels": replace(BASE, levels=5, randomize_memory=True, kaslr_offset=0x2C000000),
    "classic": replace(BASE, model="classic"),
    "direct map": replace(BASE, vmemmap=False),
    "flatmem": replace(BASE, model="flatmem", vmemmap=False),
    "SME": replace(BASE, sme_mask=1 << 47),
    "holes": replace(BASE, memory=((0x1000, 0x9EC00), (MIB, 150 * MIB), (6 << 30, 10 * MIB))),
    "already filtered": replace(BASE, no_data=((96 * MIB, 8 * MIB),)),
    "free lists": replace(BASE, freelists=True),
    **{f"Linux {name}": replace(BASE, layout=name) for name in ("5.15", "6.6", "7.1")},
}


@contextmanager
def opened(built: BuiltCore) -> Iterator[Vmcore]:
    with pydumpfile.open(built.path) as vmcore:
        yield vmcore


def expected(built: BuiltCore, vmcore: Vmcore, level: int) -> set[int]:
    """Pfns of the pages of mem_map that go, from what is said of every single page.

    By way of the page tables, whose reader has its own tests.
    """
    exists, kept = set(bits.ones(built.exists)), set(bits.ones(built.verdict(level)))
    needed: dict[int, bool] = defaultdict(bool)
    size = vmcore.mem_map.struct_page_size
    for piece in built.mem_map:
        for pfn in range(piece.start_pfn, piece.start_pfn + len(piece.pages)):
            vaddr = built.page_vaddr(pfn)
            for where in {vaddr & -PAGE, (vaddr + size - 1) & -PAGE}:
                leaf = vmcore.memory.mapping(where)
                page = (leaf.paddr + where - leaf.vaddr) // PAGE
                needed[page] |= leaf.size == PAGE or pfn not in exists or pfn in kept
    return {page for page, is_needed in needed.items() if not is_needed} & kept


def kept_by_filter(vmcore: Vmcore, level: int) -> tuple[set[int], PageFilter]:
    page_filter = PageFilter(vmcore, Level.of(level), without_unused_mem_map=True)
    kept = {
        window.first_pfn + bit
        for window in page_filter.windows()
        for bit in bits.ones(bytes(window.bits))
    }
    return kept, page_filter


@pytest.mark.parametrize("name", MACHINES)
def test_what_describes_nothing_that_is_kept_goes(core_of: CoreMaker, name: str) -> None:
    built = core_of(MACHINES[name])
    with opened(built) as vmcore:
        unused = expected(built, vmcore, 31)
        assert len(unused) > 10
        kept, page_filter = kept_by_filter(vmcore, 31)
        assert kept == set(bits.ones(built.verdict(31))) - unused
        assert page_filter.tally.left_out[Kind.UNUSED_MEM_MAP] == len(unused)
        others = sum(page_filter.tally.left_out[: Kind.UNUSED_MEM_MAP])
        assert others == sum(built.counts(31).values())


@pytest.mark.parametrize("level", [0, 2, 8, 16, 30])
def test_other_levels(core_of: CoreMaker, level: int) -> None:
    built = core_of(BASE)
    with opened(built) as vmcore:
        unused = expected(built, vmcore, level)
        kept, _ = kept_by_filter(vmcore, level)
        assert kept == set(bits.ones(built.verdict(level))) - unused


@pytest.mark.parametrize("window_pfns", [512, 1 << 12, 1 << 15])
def test_windows_change_nothing(
    core_of: CoreMaker, monkeypatch: pytest.MonkeyPatch, window_pfns: int
) -> None:
    built = core_of(MACHINES["holes"])
    with opened(built) as vmcore:
        unused = expected(built, vmcore, 31)
        monkeypatch.setattr(classify, "WINDOW_PFNS", window_pfns)
        kept, page_filter = kept_by_filter(vmcore, 31)
        assert kept == set(bits.ones(built.verdict(31))) - unused
        assert len(list(page_filter.window_bounds())) > 2


@pytest.mark.parametrize(
    "spec",
    [replace(BASE, vmemmap_page_size=4096), replace(BASE, layout="6.12-odd", vmemmap=False)],
    ids=["small pages, which may be shared", "struct pages across the ends of pages"],
)
def test_where_nothing_can_go(core_of: CoreMaker, spec: CoreSpec) -> None:
    built = core_of(spec)
    with opened(built) as vmcore:
        kept, page_filter = kept_by_filter(vmcore, 31)
        assert kept == set(bits.ones(built.verdict(31)))
        assert page_filter.tally.left_out[Kind.UNUSED_MEM_MAP] == 0


def far_tail(built: BuiltCore) -> tuple[int, int]:
    """A tail and its head, whose struct pages are not in the same page nor in adjacent ones."""
    for mem_map in built.mem_map:
        for index, page in enumerate(mem_map.pages):
            pfn = mem_map.start_pfn + index
            head = pfn & -512
            links = (built.page_vaddr(head), -(512 * 64) & (1 << 64) - 1)  # pointer, mask
            if pfn % 64 == 7 and pfn - head >= 192 and page.lru_next - 1 in links:
                return pfn, head
    raise AssertionError("the machine has no large compound page")


@pytest.mark.parametrize("layout", ["6.12", "7.1"])
def test_a_tail_that_is_kept_keeps_what_describes_its_head(core_of: CoreMaker, layout: str) -> None:
    """Though the head itself goes, which only happens where memory is damaged."""
    built = core_of(replace(BASE, layout=layout, hvo=False))
    with opened(built) as vmcore:
        tail, head = far_tail(built)
        window = Bitmap(0, len(built.exists) * 8)
        window.set_ranges([(tail, tail + 1)])
        exists = vmcore.source.exists.pages(12)
        unused = UnusedMemMap(vmcore, exists)
        unused.see(window)

        def is_left(pfn: int) -> bool:
            vaddr = built.page_vaddr(pfn)
            leaf = vmcore.memory.mapping(vaddr)
            page = (leaf.paddr + vaddr - leaf.vaddr) // PAGE
            everything = Bitmap(0, len(built.exists) * 8)
            everything.set_ranges([(page, page + 1)])
            unused.clear(everything)
            return page in everything

        assert [is_left(pfn) for pfn in (tail, head)] == [True, True]
        assert [is_left(pfn) for pfn in (head + 64, tail + 64)] == [False, False]


def test_every_layout_has_struct_pages_that_fit(core_of: CoreMaker) -> None:
    for layout in LAYOUTS:
        with opened(core_of(CoreSpec(memory_size=40 * MIB, filled=0.3, layout=layout))) as vmcore:
            assert UnusedMemMap(vmcore, vmcore.source.exists.pages(12)).can_tell
