# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kernel layout at every level: C, Python and the builders' own verdict agree on each bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pydumpfile
from pydumpfile.filter import classify, scan
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.filter.tally import Tally
from pydumpfile.kernel.vmcore import Vmcore
from tests.builders import LAYOUTS, ODD_LAYOUTS, BuiltCore, CoreSpec
from tests.conftest import MIB, CoreMaker

ALL_LEVELS = range(32)
BASE = CoreSpec(memory_size=56 * MIB, filled=0.01)
EVERY_LAYOUT = [*LAYOUTS, *ODD_LAYOUTS]
SPREAD = (0, 2, 4, 8, 16, 31)
"""Each kind alone, nothing, and all: for the slow loop."""

VARIANTS = {
    "classic": replace(
        BASE, model="classic", memory=((MIB, 40 * MIB), (120 * MIB, 30 * MIB))
    ),
    "flatmem": replace(BASE, model="flatmem", vmemmap=False),
    "flatmem, 6.1": replace(BASE, model="flatmem", vmemmap=False, layout="6.1"),
    "direct map": replace(BASE, vmemmap=False, mem_section_size=32),
    "5 levels": replace(BASE, levels=5, randomize_memory=True, kaslr_offset=0x2C000000),
    "5 levels, classic": replace(BASE, levels=5, model="classic", vmemmap=False),
    "4K vmemmap, straddling pages": replace(BASE, layout="6.12-odd", vmemmap_page_size=4096),
    "odd 6.1, direct map": replace(BASE, layout="6.1-odd", vmemmap=False),
    "SME": replace(BASE, sme_mask=1 << 47, image_paddr=32 * MIB),
    "hole in mem_map": replace(
        BASE, memory=((MIB, 40 * MIB), (120 * MIB, 30 * MIB), (256 * MIB, 12 * MIB)),
        missing_sections=(1,),
    ),
    "mem=": replace(
        BASE, memory=((MIB, 40 * MIB), (250 * MIB, 20 * MIB)), missing_sections=(2,)
    ),
    "holes in memory": replace(
        BASE, memory=((0x1000, 0x9EC00), (MIB, 60 * MIB), (6 << 30, 10 * MIB))
    ),
    "already filtered": replace(BASE, no_data=((30 * MIB, 2 * MIB), (48 * MIB, 8 * MIB))),
    "many segments": replace(BASE, split_loads=700, shuffle_loads=True, split_inside_pages=True),
    "odd ends": replace(BASE, memory=((0x1800, 0x9E000), (MIB + 0x400, 60 * MIB + 0x300))),
    "no poison": replace(BASE, hwpoison=False),
    "no poison, 6.1": replace(BASE, hwpoison=False, layout="6.1"),
    "1 GiB pages": replace(BASE, memory=((MIB, 60 * MIB), (1 << 30, 1 << 30)), gigantic=True),
    "no HVO": replace(BASE, hvo=False),
    "garbage": replace(BASE, garbage=True),
    "garbage, 5.15": replace(BASE, garbage=True, layout="5.15"),
    "garbage, 6.4": replace(BASE, garbage=True, layout="6.4"),
    "garbage, 6.6": replace(BASE, garbage=True, layout="6.6"),
    "garbage, 6.9": replace(BASE, garbage=True, layout="6.9"),
    "garbage, 7.1": replace(BASE, garbage=True, layout="7.1"),
    "garbage, odd": replace(BASE, garbage=True, layout="6.12-odd", vmemmap_page_size=4096),
    "free lists": replace(BASE, freelists=True),
    "free lists, 6.1": replace(BASE, freelists=True, layout="6.1"),
    "free lists, flatmem": replace(BASE, freelists=True, model="flatmem", vmemmap=False),
    "broken list": replace(BASE, freelists=True, broken_list=True),
    "unreadable struct pages": replace(
        BASE, vmemmap_page_size=4096,
        unreadable=((0x1E00, 512, "unmapped"), (0x2800, 1024, "no_pt_load")),
    ),
    "unreadable struct pages, direct map": replace(
        BASE, vmemmap=False, unreadable=((0x1E00, 512, "unmapped"),)
    ),
    "no compound_head": replace(BASE, drop_keys=("OFFSET(page.compound_head)",)),
    "no page type": replace(
        BASE, layout="5.15", drop_keys=("OFFSET(page._mapcount)",), freelists=True
    ),
    "no numbers of flags": replace(
        BASE, layout="6.1",
        drop_keys=tuple(f"NUMBER(PG_{name})" for name in
                        ("lru", "private", "swapcache", "swapbacked", "hwpoison")),
    ),
    "no dtor": replace(BASE, layout="6.1", drop_keys=("OFFSET(page.compound_dtor)",)),
    "no folio order": replace(BASE, layout="6.4", drop_keys=("OFFSET(folio._folio_order)",)),
}  # fmt: skip


def judge(vmcore: Vmcore, level: int) -> tuple[PageFilter, bytes]:
    """The filter after its work, and the whole 2nd bitmap."""
    page_filter = PageFilter(vmcore, Level.of(level))
    bits = bytearray(-(-page_filter.max_pfn // 8))
    for window in page_filter.windows():
        bits[window.first_pfn // 8 : window.end_pfn // 8] = window.bits
    return page_filter, bytes(bits)


def check(vmcore: Vmcore, built: BuiltCore, level: int) -> Tally:
    page_filter, bits = judge(vmcore, level)
    expected = built.verdict(level)
    if bits != expected:
        pytest.fail(f"level {level}: {_differences(built, bits, expected)}")
    counts = dict(zip(("free", "cache", "cache_private", "user", "hwpoison", "offline"),
                      page_filter.tally.left_out))  # fmt: skip
    assert counts == built.counts(level)
    assert page_filter.max_pfn == built.max_mapnr
    return page_filter.tally


def _differences(built: BuiltCore, bits: bytes, expected: bytes) -> str:
    assert len(bits) == len(expected)
    wrong = [
        pfn for pfn in range(8 * len(bits))
        if (bits[pfn >> 3] ^ expected[pfn >> 3]) >> (pfn & 7) & 1
    ]  # fmt: skip
    pfn = wrong[0]
    kept = bool(bits[pfn >> 3] >> (pfn & 7) & 1)
    try:
        page: object = built.struct_page(pfn)
    except ValueError:
        page = "no struct page"
    return f"{len(wrong)} bits differ, the first is pfn {pfn:#x}, kept: {kept}, {page}"


@pytest.mark.parametrize("loops", ["c", "python"])
@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_every_layout_at_every_level(
    core_of: CoreMaker, layout: str, loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYDUMPFILE_KERNEL", loops)
    built = core_of(replace(BASE, layout=layout))
    with pydumpfile.open(built.path) as vmcore:
        for level in ALL_LEVELS:
            check(vmcore, built, level)


@pytest.mark.parametrize("name", VARIANTS)
def test_other_machines(core_of: CoreMaker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = core_of(VARIANTS[name])
    with pydumpfile.open(built.path) as vmcore:
        monkeypatch.setenv("PYDUMPFILE_KERNEL", "c")
        tallies = [vars(check(vmcore, built, level)) for level in ALL_LEVELS]
        monkeypatch.setenv("PYDUMPFILE_KERNEL", "python")
        assert vars(check(vmcore, built, 31)) == tallies[31]
        assert vars(check(vmcore, built, 10)) == tallies[10]


@pytest.mark.parametrize("garbage", [False, True], ids=["plausible", "garbage"])
def test_many_seeds(core_of: CoreMaker, garbage: bool) -> None:
    layouts = sorted(EVERY_LAYOUT)
    for seed in range(2, 10):
        spec = CoreSpec(
            memory_size=24 * MIB, seed=seed, garbage=garbage, layout=layouts[seed % len(layouts)]
        )
        built = core_of(spec)
        with pydumpfile.open(built.path) as vmcore:
            for level in SPREAD:
                check(vmcore, built, level)


@pytest.mark.parametrize(
    ("kernel", "window_pfns"),
    [("c", 512), ("c", 8192), ("c", 65536), ("python", 8192)],
)
@pytest.mark.parametrize("name", ["1 GiB pages", "garbage", "free lists", "holes in memory"])
def test_windows_change_nothing(
    core_of: CoreMaker, name: str, kernel: str, window_pfns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that go past the end of a window go in the next ones."""
    monkeypatch.setenv("PYDUMPFILE_KERNEL", kernel)
    monkeypatch.setattr(classify, "WINDOW_PFNS", window_pfns)
    built = core_of(VARIANTS[name])
    with pydumpfile.open(built.path) as vmcore:
        for level in (31, 8, 0) if kernel == "c" else (31,):
            check(vmcore, built, level)


@pytest.mark.parametrize("block_pfns", [512, 1024, 4096])
@pytest.mark.parametrize("name", ["garbage", "unreadable struct pages", "odd 6.1, direct map"])
def test_blocks_change_nothing(
    core_of: CoreMaker, name: str, block_pfns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_BLOCK_PFNS", block_pfns)
    built = core_of(VARIANTS[name])
    with pydumpfile.open(built.path) as vmcore:
        for level in SPREAD:
            check(vmcore, built, level)


def test_unreadable_struct_pages_are_counted(core_of: CoreMaker) -> None:
    built = core_of(VARIANTS["unreadable struct pages"])
    with pydumpfile.open(built.path) as vmcore:
        assert check(vmcore, built, 31).unreadable == 512 + 1024
        assert check(vmcore, built, 0).unreadable == 512 + 1024  # poisoned pages matter always


def test_broken_lists_are_counted(core_of: CoreMaker) -> None:
    for name, broken in (("free lists", 0), ("broken list", 1)):
        built = core_of(VARIANTS[name])
        with pydumpfile.open(built.path) as vmcore:
            assert check(vmcore, built, 31).broken_lists == broken
            assert check(vmcore, built, 15).broken_lists == 0


def test_levels_without_a_description(core_of: CoreMaker) -> None:
    built = core_of(replace(BASE, note=False))
    with pydumpfile.open(built.path) as vmcore:
        for level in (0, 1):
            check(vmcore, built, level)
