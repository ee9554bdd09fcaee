# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed makedumpfile, page by page: where it agrees, where not, and who is right.

Debian 12's 1.7.2 understands Linux 6.1 and does not understand 6.12.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from . import makedumpfile, pfnset, witness
from .conftest import Shelf
from .cores import Evidence, kept_by_pydumpfile
from .dumpreader import DumpReader
from .kpageflags import Kpf

LEVELS = range(32)


@pytest.fixture(scope="module")
def program() -> str:
    return witness.program("makedumpfile")


def is_scanned(evidence: Evidence, level: int) -> bool:
    """Whether struct pages are looked at (at levels 0 and 1 only for poisoned ones)."""
    return level > 1 or evidence.can_poison


def test_6_1_at_every_level(evidence_6_1: Evidence, program: str) -> None:
    evidence, core = evidence_6_1, evidence_6_1.core
    for level in LEVELS:
        theirs = makedumpfile.bitmaps(program, core.vmcore, level)
        ours = kept_by_pydumpfile(core.vmcore, level)

        # It drops the page that low memory ends in (0x9fc00 on a PC), the bytes of which are there.
        pfnset.require_none(
            (evidence.in_core ^ theirs.exists) & ~evidence.fractional, "in one 1st bitmap only"
        )
        # It keeps a memory block that is offline; the kernel says that it has no such pages.
        offline = evidence.offlined_block if is_scanned(evidence, level) else 0
        pfnset.require_none(offline & ~evidence.flags.having(Kpf.NOPAGE), "not offline")

        only_ours, only_theirs = ours & ~theirs.kept, theirs.kept & ~ours
        pfnset.require_none(only_ours & ~evidence.fractional, f"only ours at level {level}")
        pfnset.require_none(only_theirs ^ offline, f"offline or only theirs at level {level}")


def test_6_1_uncompressed_dump_page_by_page(
    evidence_6_1: Evidence, program: str, shelf: Shelf, tmp_path: Path
) -> None:
    output = tmp_path / "theirs"
    makedumpfile.dump(program, evidence_6_1.core.vmcore, 31, output)
    ours_path = shelf.dump(evidence_6_1, 31, "none")
    with DumpReader(output) as theirs, DumpReader(ours_path) as ours:
        both = ours.kept & theirs.kept
        differing = ours.kept ^ theirs.kept
        known = evidence_6_1.fractional | evidence_6_1.offlined_block
        pfnset.require_none(differing & ~known, "in one dump only")
        assert theirs.release == ours.release
        assert theirs.status == ours.status == 0
        for pfn in pfnset.each(both):
            their, our = theirs.descriptors[pfn], ours.descriptors[pfn]
            assert (their.size, their.flags) == (our.size, our.flags), f"page {pfn:#x}"
            # The same pages share the zero page: the first of the data, in both.
            assert (their.off == theirs.data_off) == (our.off == ours.data_off), f"page {pfn:#x}"
            assert theirs.page(pfn) == ours.page(pfn), f"page {pfn:#x}"
    output.unlink()
    ours_path.unlink()


def test_1_7_2_is_wrong_about_6_12_and_pydumpfile_is_not(
    evidence_6_12: Evidence, program: str
) -> None:
    version = makedumpfile.version(program)
    if version != "1.7.2":
        pytest.skip(f"makedumpfile {version} is installed; this is about 1.7.2")
    evidence, flags = evidence_6_12, evidence_6_12.flags
    slab = flags.having(Kpf.SLAB) & evidence.in_core
    hugetlb = flags.having(Kpf.HUGE) & evidence.in_core
    thp = flags.having(Kpf.THP | Kpf.ANON) & evidence.in_core & ~slab
    theirs = makedumpfile.bitmaps(program, evidence.core.vmcore, 31).kept
    ours = kept_by_pydumpfile(evidence.core.vmcore, 31)

    # Slab memory, without which a debugger finds no task: it drops those pages of it that look
    # anonymous, because a number of struct slab lies where page->mapping was.
    pfnset.require_none(slab & ~ours, "slab not in ours")
    looks_anonymous = flags.having(Kpf.SLAB | Kpf.ANON)
    dropped_slab = slab & ~theirs
    pfnset.require_none(dropped_slab & ~looks_anonymous, "slab not in theirs")
    assert pfnset.count(dropped_slab) > 10
    # User data that level 31 asks to leave out: it keeps nearly all of it.
    pfnset.require_none(ours & (hugetlb | thp), "user data in ours")
    assert pfnset.count(hugetlb & theirs) > 0.9 * pfnset.count(hugetlb) > 0
    assert pfnset.count(thp & theirs) > 0.9 * pfnset.count(thp) > 0
    # That, and the page that low memory ends in, is all it drops beyond ours.
    pfnset.require_none(ours & ~theirs & ~evidence.fractional ^ dropped_slab, "only in ours")
