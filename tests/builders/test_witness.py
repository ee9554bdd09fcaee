# SPDX-License-Identifier: GPL-2.0-or-later
"""The expected verdicts against an installed makedumpfile, for the kernels that 1.7.2 knows.

Where 1.7.2 is known to differ, and why:
- a page that RAM ends in is dropped, or does not even exist; such pages are left out here;
- slab memory with an odd number in `mapping` (6.2) is user data to it: `old_verdict` agrees;
- five bits are masked off section_mem_map, so section_flags=0x3f is refused;
- compound_info, folio fields, hugetlb and slab page types (6.4 and later) are unknown to it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import BuiltCore, CoreSpec, bits, build_core
from tests.builders.makedumpfile_witness import dump_bitmaps, find_makedumpfile

MIB = 1 << 20
MAKEDUMPFILE = find_makedumpfile()
pytestmark = pytest.mark.skipif(MAKEDUMPFILE is None, reason="makedumpfile is not installed")


def differing_pfns(built: BuiltCore, level: int, output: Path) -> list[int]:
    """Pfns on which makedumpfile and the builder disagree, in either bitmap."""
    assert MAKEDUMPFILE is not None
    witness = dump_bitmaps(MAKEDUMPFILE, built.path, level, output)
    assert witness.max_mapnr == built.max_mapnr
    partial = {
        (load.paddr + load.memsz) // 4096
        for load in built.loads
        if (load.paddr + load.memsz) % 4096
    }
    pfns: set[int] = set()
    for theirs, ours in (
        (witness.exists, built.exists),
        (witness.dumpable, built.old_verdict(level)),
    ):
        assert len(theirs) == len(ours)
        pfns.update(bits.ones(bytes(a ^ b for a, b in zip(theirs, ours))))
    return sorted(pfns - partial)


@pytest.mark.parametrize("garbage", [False, True])
@pytest.mark.parametrize("layout", ["5.15", "6.1", "6.1-odd"])
def test_all_levels(tmp_path: Path, layout: str, garbage: bool) -> None:
    built = build_core(tmp_path / "core", CoreSpec(layout=layout, garbage=garbage, seed=11))
    for level in range(32):
        assert differing_pfns(built, level, tmp_path / "dump") == [], f"level {level}"
        if not garbage:
            assert built.old_verdict(level) == built.verdict(level)


KNOBS = {
    "5-level": CoreSpec(layout="6.1", levels=5, randomize_memory=True, kaslr_offset=0x2C000000),
    "classic": CoreSpec(layout="6.1", model="classic", image_paddr=48 * MIB),
    "flatmem": CoreSpec(layout="6.1", model="flatmem"),
    "direct map": CoreSpec(layout="6.1", vmemmap=False),
    "4K vmemmap": CoreSpec(layout="6.1", vmemmap_page_size=4096),
    "holes": CoreSpec(
        layout="6.1",
        memory=((0x1000, 0x9EC00), (MIB, 100 * MIB), (200 * MIB, 100 * MIB), (1 << 30, 64 * MIB)),
    ),
    "high": CoreSpec(layout="6.1", memory=((64 << 30, 200 * MIB),)),
    "split": CoreSpec(layout="6.1", split_loads=512, shuffle_loads=True),
    "QEMU": CoreSpec(layout="6.1", zero_vaddr=True, overlap_image=False, unaligned=True),
    "no data": CoreSpec(layout="6.1", no_data=((150 * MIB, 10 * MIB), (200 * MIB, 4096))),
    "encrypted": CoreSpec(layout="6.1", sme_mask=1 << 47),
    "no mem_map": CoreSpec(layout="6.1", memory_size=512 * MIB, missing_sections=(1,)),
    "hidden": CoreSpec(layout="6.1", memory_size=384 * MIB, missing_sections=(2,)),
    "no hwpoison": CoreSpec(layout="6.1", hwpoison=False),
    "free lists": CoreSpec(layout="6.1", freelists=True),
    "free lists, flatmem": CoreSpec(layout="6.1", freelists=True, model="flatmem"),
    "tails unknown": CoreSpec(layout="6.1", drop_keys=("OFFSET(page.compound_head)",)),
    "order unknown": CoreSpec(layout="6.1", drop_keys=("OFFSET(page.compound_order)",)),
    "swapbacked unknown": CoreSpec(layout="6.1", drop_keys=("NUMBER(PG_swapbacked)",)),
    "private unknown": CoreSpec(layout="6.1", drop_keys=("OFFSET(page.private)",)),
    "types unknown": CoreSpec(layout="6.1", drop_keys=("OFFSET(page._mapcount)",)),
    "slab unknown": CoreSpec(layout="6.1", drop_keys=("NUMBER(PG_slab)",)),
}


@pytest.mark.parametrize("name", KNOBS)
def test_knobs(tmp_path: Path, name: str) -> None:
    built = build_core(tmp_path / "core", KNOBS[name])
    for level in (0, 2, 9, 16, 31):
        assert differing_pfns(built, level, tmp_path / "dump") == [], f"level {level}"


def test_gigantic_pages_cross_sections(tmp_path: Path) -> None:
    spec = CoreSpec(layout="6.1", memory_size=2176 * MIB, gigantic=True, filled=0.001)
    built = build_core(tmp_path / "core", spec)
    assert built.counts(8)["user"] >= 1 << 18
    for level in (0, 8, 31):
        assert differing_pfns(built, level, tmp_path / "dump") == [], f"level {level}"
