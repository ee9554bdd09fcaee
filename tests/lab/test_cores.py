# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab says about its cores holds: kinds of pages against the kernel's own page flags."""

from __future__ import annotations

import array

import pytest

from tests.lab import Guest, LabCore, make_core

# Bits of /proc/kpageflags, include/uapi/linux/kernel-page-flags.h; PRIVATE is from
# include/linux/kernel-page-flags.h.
LRU, ANON, SWAPCACHE, SWAPBACKED, HUGE, HWPOISON = 5, 12, 13, 14, 17, 19
NOPAGE, KSM, THP, PRIVATE = 20, 21, 22, 35

# Kind -> bits all its pages have, bits none of them has.
EXPECTED = {
    "hugetlb_2m": ({HUGE}, {LRU}),
    "thp": ({THP, ANON}, {SWAPCACHE}),
    "anon_random": ({ANON, LRU, SWAPBACKED}, {SWAPCACHE, THP}),
    "anon_text": ({ANON, LRU, SWAPBACKED}, {SWAPCACHE, THP}),
    "anon_zero": ({ANON, LRU, SWAPBACKED}, {SWAPCACHE, THP}),
    "cache_clean": ({LRU}, {ANON, SWAPBACKED, PRIVATE}),
    "cache_private": ({LRU, PRIVATE}, {ANON, SWAPBACKED}),
    "shmem": ({LRU, SWAPBACKED}, {ANON}),
    "swapcache": ({LRU, ANON, SWAPCACHE}, {THP}),
    "ksm": ({ANON, KSM}, {SWAPCACHE}),
}

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=["6.1-cloud", "6.12-cloud"])
def core(request: pytest.FixtureRequest) -> LabCore:
    return make_core(Guest(kernel=request.param))


@pytest.fixture(scope="module")
def flags(core: LabCore) -> array.array[int]:
    return array.array("Q", core.kpageflags.read_bytes())


@pytest.mark.parametrize("kind", EXPECTED)
def test_kind_of_page_has_its_flags(core: LabCore, flags: array.array[int], kind: str) -> None:
    made = core.truth["workload"][kind]
    assert made["pages"] > 0, made.get("skipped")
    raced = {pfn for first, end in core.truth["raced"] for pfn in range(first, end)}
    wanted, unwanted = (sum(1 << bit for bit in bits) for bits in EXPECTED[kind])
    wrong = {
        pfn: hex(flags[pfn])
        for first, end in made["pfns"]
        for pfn in range(first, end)
        if pfn not in raced and (flags[pfn] & wanted != wanted or flags[pfn] & unwanted)
    }
    assert wrong == {}


def test_offlined_block_has_no_pages(core: LabCore, flags: array.array[int]) -> None:
    first, end = core.truth["offlined_block"]
    assert set(flags[first:end]) == {1 << NOPAGE}


def test_poisoned_pages_are_marked_or_explained(core: LabCore, flags: array.array[int]) -> None:
    poisoned = core.truth["poisoned_pfns"]
    assert bool(poisoned) == core.kernel.has_config("MEMORY_FAILURE")
    assert all(flags[pfn] >> HWPOISON & 1 for pfn in poisoned)
    assert poisoned or "CONFIG_MEMORY_FAILURE" in core.truth["poisoned_pfn_reason"]


def test_panicking_task_is_among_the_tasks(core: LabCore) -> None:
    truth = core.truth
    assert [truth["panic_pid"], truth["panic_comm"]] in truth["tasks"]
    assert [1, "init"] in truth["tasks"]


def test_console_has_the_panic(core: LabCore) -> None:
    log = core.log.read_text("utf-8", "replace")
    assert "sysrq: Trigger a crash" in log
    assert "Kernel panic" in log


def test_core_comes_from_the_cache_the_second_time(core: LabCore) -> None:
    assert make_core(core.guest) == core
