# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages pydumpfile keeps, against what the kernel said of them before it died."""

from __future__ import annotations

import re

import pytest

from . import deadkernel, groundtruth, pfnset
from .cores import Evidence, kept_by_pydumpfile
from .groundtruth import CHANGED, NOT_SCANNED, ON_CPU_LIST
from .kpageflags import Kpf, is_needed


def test_every_page_of_every_level_is_explained(evidence: Evidence) -> None:
    for judgement in groundtruth.judgements(evidence):
        level = judgement.level
        pfnset.require_none(
            judgement.unexplained & judgement.lost, f"level {level}, needed and not in the dump"
        )
        pfnset.require_none(judgement.unexplained, f"level {level}, kept without a reason")
        counts = {reason: pfnset.count(pages) for reason, pages in judgement.explained.items()}
        assert counts.get(CHANGED, 0) <= groundtruth.MAX_CHANGED
        assert NOT_SCANNED not in counts or level <= 1
        assert ON_CPU_LIST not in counts or level & 16
        # Nothing that is needed may be missing, but for what changed under the guest's eyes.
        lost = judgement.lost & ~judgement.explained.get(CHANGED, 0)
        pfnset.require_none(lost, f"level {level}, needed and not in the dump")
        # The reasons share the difference out, none twice.
        assert sum(counts.values()) == pfnset.count(evidence.in_core & ~judgement.agreed)


def test_the_core_has_the_memory_the_guest_had(evidence: Evidence) -> None:
    """System RAM of /proc/iomem without the crash kernel's, no page more or less."""
    iomem = (evidence.core.records / "proc_iomem").read_text("utf-8")
    named = re.findall(r"^ *([0-9a-f]+)-([0-9a-f]+) : (System RAM|Crash kernel)$", iomem, re.M)
    ram, crash_kernel = (
        pfnset.from_runs(
            (int(first, 16) >> 12, (int(last, 16) >> 12) + 1)
            for first, last, name in named
            if name == wanted
        )
        for wanted in ("System RAM", "Crash kernel")
    )
    assert crash_kernel
    pfnset.require_none(evidence.in_core ^ (ram & ~crash_kernel), "in the core or in iomem only")
    has_page = evidence.flags.where(lambda word: not word & Kpf.NOPAGE)
    lacking = has_page & ~evidence.in_core & ~crash_kernel
    pfnset.require_none(
        lacking & ~evidence.flags.having(Kpf.RESERVED), "not in the core, nor the firmware's"
    )


def test_drgn_reads_the_struct_pages_as_the_kernel_did(evidence: Evidence) -> None:
    """What stands in for the guest's word where a page changed agrees with it where none did."""
    sample = list(pfnset.each(evidence.in_core))[::499]
    differing = []
    for pfn in sample:
        said, now = evidence.flags.word(pfn), deadkernel.page_word(evidence.program, pfn)
        if any(is_needed(said, level) != is_needed(now, level) for level in (0, 2, 4, 8, 16)):
            differing.append(pfn)
    assert len(differing) <= 1, f"of {len(sample)} pages: {differing}"


def test_the_offline_block_is_offline_by_three_witnesses(evidence: Evidence) -> None:
    block = evidence.offlined_block
    assert pfnset.count(block), evidence.core.truth.get("offlined_block_reason")
    pfnset.require_none(block & ~evidence.in_core, "not in the core")
    pfnset.require_none(block & ~evidence.flags.having(Kpf.NOPAGE), "the kernel says it has")
    for first, _ in pfnset.runs_of(block):
        assert not deadkernel.is_online(evidence.program, first)
    for level in (0, 2, 4, 8, 16, 31):
        kept = kept_by_pydumpfile(evidence.core.vmcore, level) & block
        expected = block if level < 2 and not evidence.can_poison else 0
        pfnset.require_none(kept ^ expected, f"level {level}")


def test_poisoned_pages_are_in_no_dump(evidence: Evidence) -> None:
    poisoned = pfnset.from_pfns(evidence.core.truth["poisoned_pfns"])
    assert bool(poisoned) == evidence.can_poison
    pfnset.require_none(poisoned & ~evidence.in_core, "not in the core")
    pfnset.require_none(poisoned ^ evidence.flags.having(Kpf.HWPOISON), "one witness only")
    for level in groundtruth.LEVELS:
        kept = kept_by_pydumpfile(evidence.core.vmcore, level)
        pfnset.require_none(kept & poisoned, f"poisoned and kept at level {level}")


def test_free_pages_on_cpu_lists_bear_no_mark(evidence: Evidence) -> None:
    """So neither kpageflags nor a struct page can tell: the lists have to be walked."""
    assert pfnset.count(evidence.cpu_free) > 0
    pfnset.require_none(evidence.cpu_free & ~evidence.in_core, "not in the core")
    marked = evidence.flags.where(lambda word: word != 0)
    pfnset.require_none(evidence.cpu_free & marked, "marked")


# What the workload made -> the levels, of single bits, that leave it out.
LEFT_OUT_AT = {
    "hugetlb_1g": {8},
    "hugetlb_2m": {8},
    "thp": {8},
    "anon_random": {8},
    "anon_text": {8},
    "anon_zero": {8},
    "swapcache": {8},
    "ksm": {8},
    "cache_clean": {2, 4},
    "cache_private": {4},
    "shmem": {2, 4},
}


@pytest.mark.parametrize("kind", LEFT_OUT_AT)
def test_what_the_workload_made_is_left_out_where_it_should(evidence: Evidence, kind: str) -> None:
    made = evidence.core.truth["workload"][kind]
    if made.get("skipped"):
        assert kind == "hugetlb_1g", f"the guest could not make {kind}: {made['skipped']}"
        return
    pages = pfnset.from_runs(map(tuple, made["pfns"]))
    assert pfnset.count(pages), f"the guest listed no {kind} pages"
    pfnset.require_none(pages & ~evidence.in_core, "not in the core")
    # A cache page that no LRU list has yet (it waits in a CPU's batch) cannot be told from the
    # kernel's own; the guest's flags say which those are.
    waiting = 0 if 8 in LEFT_OUT_AT[kind] else pages & ~evidence.flags.having(Kpf.LRU)
    assert pfnset.count(waiting) <= 31, "more than PAGEVEC_SIZE"
    for level in (0, 1, 2, 4, 8, 16):
        kept = kept_by_pydumpfile(evidence.core.vmcore, level) & pages & ~waiting
        expected = 0 if level in LEFT_OUT_AT[kind] else pages & ~waiting
        pfnset.require_none(kept ^ expected, f"{kind}, level {level}")


def test_level_31_has_no_user_data_cache_or_free_page(evidence: Evidence) -> None:
    kept = kept_by_pydumpfile(evidence.core.vmcore, 31)
    for bits in (Kpf.BUDDY, Kpf.LRU, Kpf.HUGE, Kpf.OFFLINE, Kpf.HWPOISON, Kpf.NOPAGE):
        pfnset.require_none(kept & evidence.flags.having(bits), f"{bits!r} kept")
    for bits in (Kpf.SLAB, Kpf.PGTABLE):
        lost = evidence.in_core & evidence.flags.having(bits) & ~kept
        pfnset.require_none(lost, f"{bits!r} not kept")
