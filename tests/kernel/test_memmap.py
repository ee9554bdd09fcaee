# SPDX-License-Identifier: GPL-2.0-or-later
"""Where mem_map is found, in every memory model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Union

import pytest

import pydumpfile
from pydumpfile.errors import FaultError, FormatError, MissingFactError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.kernel.memmap import MemMap
from tests.builders import BuiltCore, CoreSpec, build_core
from tests.conftest import MIB, CoreMaker, Describer, copy_sparse
from tests.sources.rawelf import poke

SECTION_PFNS = 1 << 15
# A bit of each of three sections.
BASE = CoreSpec(memory=((MIB, 40 * MIB), (130 * MIB, 4 * MIB), (260 * MIB, 4 * MIB)), filled=0.01)
MODELS = {
    "extreme": BASE,
    "extreme, direct map": replace(BASE, vmemmap=False),
    "extreme, long mem_section": replace(BASE, mem_section_size=32),
    "extreme, 5 levels": replace(BASE, levels=5, randomize_memory=True),
    "classic": replace(BASE, model="classic"),
    "flatmem": replace(BASE, model="flatmem", vmemmap=False),
    "all flag bits": replace(BASE, section_flags=0x3F),
    "only the present bit": replace(BASE, section_flags=0x01),
    "a hole": replace(BASE, missing_sections=(1,)),
    "mem=": replace(BASE, missing_sections=(2,)),
    "high": CoreSpec(memory=((MIB, 40 * MIB), (6 << 30, 8 * MIB)), filled=0.01),
}


def check(mem_map: MemMap, built: BuiltCore) -> None:
    """Every pfn that has a struct page is found there, and no other is."""
    pieces = list(mem_map)
    n_described = 0
    for piece in pieces:
        for pfn in {piece.first_pfn, piece.end_pfn - 1} & set(range(built.max_mapnr)):
            assert piece.vaddr + (pfn - piece.first_pfn) * mem_map.struct_page_size == (
                built.page_vaddr(pfn)
            )
        n_described += piece.end_pfn - piece.first_pfn
        assert piece.online
    if built.spec.model == "flatmem":
        assert [(p.first_pfn, p.end_pfn) for p in pieces] == [(0, built.max_mapnr)]
    else:
        assert [(p.first_pfn, p.end_pfn) for p in pieces] == [
            (m.start_pfn, m.start_pfn + len(m.pages)) for m in built.mem_map
        ]
    assert mem_map.struct_page_size == built.keys["SIZE(page)"]
    assert mem_map.bad_sections == 0


@pytest.mark.parametrize("name", MODELS)
def test_models(core_of: CoreMaker, name: str) -> None:
    built = core_of(MODELS[name])
    with pydumpfile.open(built.path) as vmcore:
        check(vmcore.mem_map, built)
        expected = {
            "extreme": "SPARSEMEM_EXTREME", "classic": "SPARSEMEM", "flatmem": "FLATMEM",
        }[built.spec.model]  # fmt: skip
        assert vmcore.mem_map.model == expected


def test_within_gives_whole_pieces_that_touch(core_of: CoreMaker) -> None:
    with pydumpfile.open(core_of(BASE).path) as vmcore:
        n = SECTION_PFNS
        for first, end, sections in [
            (0, 1, [0]), (0, n, [0]), (n - 1, n + 1, [0, 1]), (n, 2 * n, [1]),
            (0, 1 << 40, [0, 1, 2]), (3 * n, 9 * n, []),
        ]:  # fmt: skip
            assert [piece.first_pfn // n for piece in vmcore.mem_map.within(first, end)] == sections


def test_symbol_of_a_pointer_to_the_array(small: BuiltCore, described: Describer) -> None:
    """As descriptions made from debug information have it: looked at only if the other fails."""
    built = small
    root_vaddr = int(str(built.keys["SYMBOL(mem_section)"]), 16)
    # A place of the image that nothing uses: behind the list of nodes.
    pointer_vaddr = int(str(built.keys["SYMBOL(_stext)"]), 16) + 0x3900
    path = described({"SYMBOL(mem_section)": f"{pointer_vaddr:x}"})
    poke(path, 0x1003900, root_vaddr.to_bytes(8, "little"))
    with pydumpfile.open(path) as vmcore:
        assert vmcore.memory.read_u64(pointer_vaddr) == root_vaddr
        check(vmcore.mem_map, built)


def test_a_section_whose_mem_map_is_no_kernel_address(tmp_path: Path) -> None:
    built = _with_section_word(tmp_path, 1, 0x1000 | 0x0F)
    with pydumpfile.open(built.path) as vmcore:
        assert [piece.first_pfn // SECTION_PFNS for piece in vmcore.mem_map] == [0, 2]
        assert vmcore.mem_map.bad_sections == 1


@pytest.mark.parametrize(
    ("flags", "online"), [(0x03, False), (0x0B, False), (0x0F, True), (0x1B, True)]
)
def test_sections_given_up_by_the_kernel(tmp_path: Path, flags: int, online: bool) -> None:
    """Present but not online; not where device memory has a part of the section (0x10)."""
    built = _with_section_word(tmp_path, 1, None, flags)
    with pydumpfile.open(built.path) as vmcore:
        assert [piece.online for piece in vmcore.mem_map] == [True, online, True]


@pytest.mark.parametrize(("flags", "online"), [(0x03, True), (0x0B, False)])
def test_memory_of_devices_is_not_taken_for_given_up(
    tmp_path: Path, flags: int, online: bool
) -> None:
    """QEMU dumps that too, and it is not online either; only what is there since boot (0x08) is."""
    built = _with_section_word(tmp_path, 1, None, flags)
    with pydumpfile.open(built.path) as vmcore:
        vmcore.source.only_system_ram = False
        assert [piece.online for piece in vmcore.mem_map] == [True, online, True]


@pytest.mark.parametrize("section", [1, 2])
def test_pages_of_a_section_without_mem_map_are_kept(tmp_path: Path, section: int) -> None:
    """Wherever it is: the last section must not shorten the machine."""
    built = _with_section_word(tmp_path, section, 0x1000 | 0x0F)
    statistics = pydumpfile.dump(built.path, tmp_path / "dump", 31)
    whole = pydumpfile.dump(build_core(tmp_path / "whole", BASE).path, tmp_path / "other", 0)
    assert statistics.existing == whole.existing
    assert any("1 sections of memory kept whole" in warning for warning in statistics.warnings)
    with pydumpfile.open(built.path) as vmcore:
        windows = list(PageFilter(vmcore, Level(31)).windows())
    first_pfn, end_pfn = section * SECTION_PFNS, (section + 1) * SECTION_PFNS
    existing = [
        pfn
        for pfn in range(first_pfn, min(end_pfn, built.max_mapnr))
        if built.exists[pfn >> 3] >> (pfn & 7) & 1
    ]
    assert existing
    assert all(any(pfn in window for window in windows) for pfn in existing)


def test_a_root_that_leads_nowhere_costs_its_sections_only(tmp_path: Path) -> None:
    spec = CoreSpec(memory=((MIB, 40 * MIB), (40 << 30, 4 * MIB)), filled=0.01)
    built = build_core(tmp_path / "core", spec)
    root = int(str(built.keys["SYMBOL(mem_section)"]), 16) - built.page_offset
    n_in_root = 4096 // int(built.keys["SIZE(mem_section)"])
    last_root = (40 << 30) // (SECTION_PFNS * 4096) // n_in_root
    assert last_root > 0
    poke(built.path, root + 8 * last_root, (0xFFFF999900000000).to_bytes(8, "little"))
    with pydumpfile.open(built.path) as vmcore:
        assert [piece.first_pfn for piece in vmcore.mem_map] == [0]
        assert vmcore.mem_map.bad_sections > 0
        assert vmcore.mem_map.end_pfn >= built.max_mapnr


def _with_section_word(
    tmp_path: Path, section: int, word: Union[int, None], flags: int = 0
) -> BuiltCore:
    """The base core with another section_mem_map; None keeps the address and takes ``flags``."""
    built = build_core(tmp_path / "core", BASE)
    record_size = int(built.keys["SIZE(mem_section)"])
    with pydumpfile.open(built.path) as vmcore:
        root = vmcore.memory.read_u64(int(str(built.keys["SYMBOL(mem_section)"]), 16))
        vaddr = (
            root + section * record_size + int(built.keys["OFFSET(mem_section.section_mem_map)"])
        )
        if word is None:
            word = vmcore.memory.read_u64(vaddr) & ~0x3F | flags
    poke(built.path, vaddr - built.page_offset, word.to_bytes(8, "little"))
    return built


def test_no_mem_map_at_all(small: BuiltCore, scratch_core: Path) -> None:
    root = int(str(small.keys["SYMBOL(mem_section)"]), 16) - small.page_offset
    poke(scratch_core, root, bytes(8))
    with pydumpfile.open(scratch_core) as vmcore, pytest.raises(FaultError, match="mem_section"):
        _ = vmcore.mem_map


@pytest.mark.parametrize(
    "key",
    ["SIZE(page)", "SIZE(mem_section)", "OFFSET(mem_section.section_mem_map)",
     "SYMBOL(init_top_pgt)"],
)  # fmt: skip
def test_missing_keys(described: Describer, key: str) -> None:
    path = described({key: None})
    with pydumpfile.open(path) as vmcore, pytest.raises(MissingFactError) as caught:
        _ = vmcore.mem_map
    assert caught.value.name == key
    assert str(path) in caught.value.looked_in


def test_no_memory_model(described: Describer) -> None:
    path = described({"SYMBOL(mem_section)": None})
    with pydumpfile.open(path) as vmcore, pytest.raises(MissingFactError) as caught:
        _ = vmcore.mem_map
    assert "SYMBOL(mem_section)" in caught.value.name and "SYMBOL(mem_map)" in caught.value.name


def test_sizes_of_sections_have_defaults(core_of: CoreMaker) -> None:
    """Not exported before Linux 5.9 and 5.13."""
    keys = ("NUMBER(SECTION_SIZE_BITS)", "NUMBER(MAX_PHYSMEM_BITS)")
    for levels in (4, 5):
        built = core_of(replace(BASE, levels=levels, drop_keys=keys))
        with pydumpfile.open(built.path) as vmcore:
            check(vmcore.mem_map, built)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("NUMBER(SECTION_SIZE_BITS)", (-1, 5, 64, 1 << 40)),
        ("NUMBER(MAX_PHYSMEM_BITS)", (-1, 5, 1 << 40)),
        ("SIZE(mem_section)", (-16, 0, 4, 8192, 1 << 40)),
        ("OFFSET(mem_section.section_mem_map)", (-8, 12, 16, 4096, 1 << 40)),
    ],
)
def test_sizes_that_cannot_be(described: Describer, key: str, values: tuple[int, ...]) -> None:
    for value in values:
        path = described({key: value})
        with (
            pydumpfile.open(path) as vmcore,
            pytest.raises(FormatError, match="VMCOREINFO"),
        ):
            _ = vmcore.mem_map


def test_copies_keep_holes(small: BuiltCore, tmp_path: Path) -> None:
    """The tests' own tool: a copy has the same bytes and takes no more room."""
    copy_sparse(small.path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == small.path.read_bytes()
