# SPDX-License-Identifier: GPL-2.0-or-later
"""`--mem-usage` in a running guest, against the guest's memory right after."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

import pydumpfile
from pydumpfile.filter.level import Kind
from tests.lab import Guest
from tests.lab.live import LiveRun, measure_live

pytestmark = pytest.mark.lab

TOLERANCE = 0.02
KINDS = {
    "NON_PRI_CACHE": Kind.CACHE,
    "PRI_CACHE": Kind.CACHE_PRIVATE,
    "USER": Kind.USER,
    "FREE": Kind.FREE,
}


def again(kernel: str) -> ParameterSet:
    """Two minutes each, and each kernel is asked once."""
    return pytest.param(kernel, marks=pytest.mark.service)


def guest(kernel: str, crashkernel: str | None = None) -> Guest:
    """All of its memory is online: what is not is in no /proc/kcore."""
    return Guest(
        kernel=kernel,
        memory="1G",
        crashkernel=crashkernel,
        extra_cmdline="memhp_default_state=online",
    )


def rows(said: str) -> dict[str, int]:
    """The numbers of a table by the names of its rows."""
    found = re.findall(r"^([A-Z_]+) +(\d+) +(?:yes|no) ", said, re.M)
    return {name: int(pages) for name, pages in found}


def check(run: LiveRun, dump: Path) -> None:
    """Every row against a dump, and each table against itself."""
    assert (run.status, run.churned_status) == (0, 0), run.said + run.churned_said
    for said in (run.said, run.churned_said):
        total = re.search(r"^Total pages on system: +(\d+)$", said, re.M)
        assert total, said
        assert sum(rows(said).values()) == int(total[1])
    statistics = pydumpfile.dump(run.core, dump)
    dumped = {name: statistics.left_out[kind] for name, kind in KINDS.items()}
    dumped.update(ZERO=statistics.zero, KERN_DATA=statistics.stored)
    said = rows(run.said)
    assert set(said) == set(dumped)
    assert min(dumped.values()) > 2000
    off = {name: said[name] / pages - 1 for name, pages in dumped.items()}
    assert all(abs(share) <= TOLERANCE for share in off.values()), off


@pytest.mark.parametrize("kernel", ["6.1-cloud", again("6.12-cloud")])
def test_as_in_the_vmcore_of_a_panic(kernel: str, tmp_path: Path) -> None:
    check(measure_live(guest(kernel), tmp_path / "guest", panics=True), tmp_path / "dump")


@pytest.mark.parametrize("kernel", [again("6.1-cloud"), "6.12-cloud"])
def test_without_memory_for_a_crash_kernel(kernel: str, tmp_path: Path) -> None:
    """As in what QEMU dumps, which has the firmware's memory besides."""
    without = guest(kernel, crashkernel="0M")
    check(measure_live(without, tmp_path / "guest", panics=False), tmp_path / "dump")
