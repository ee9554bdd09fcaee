# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's filter, compiled for user space, on what real kernels left when they crashed.

The workload of tests/lab makes pages of every kind there is, and counts them; the synthetic
machines are in test_pfn_lists.py.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.kernel.vmcore import Vmcore
from tests.filter.test_verdict import ALL_LEVELS
from tests.lab import Guest, LabError, make_core
from tests.oracle import witness

from .conftest import Kernel
from .test_pfn_lists import judged

SMALL = {"6.1 small": Guest(kernel="6.1-cloud"), "6.12 small": Guest(kernel="6.12-cloud")}
FULL = {
    "6.1": Guest(kernel="6.1", memory="2G", workload="full"),
    "6.1 cloud": Guest(kernel="6.1-cloud", memory="4G", workload="full"),
    "6.12 cloud": Guest(kernel="6.12-cloud", memory="2G", workload="full"),
}


@pytest.fixture(
    params=[
        *(pytest.param(guest, marks=pytest.mark.lab, id=name) for name, guest in SMALL.items()),
        *(pytest.param(guest, marks=pytest.mark.full, id=name) for name, guest in FULL.items()),
    ]
)
def crashed(request: pytest.FixtureRequest, kernel: Kernel) -> Kernel:
    """With the memory of each guest in turn."""
    boot(kernel, request.param)
    return kernel


def boot(kernel: Kernel, guest: Guest) -> None:
    """Have what it left when it crashed in /proc/vmcore."""
    if witness.no_lab():
        witness.missing("no real cores")
    try:
        kernel.boot(make_core(guest).vmcore)
    except LabError as error:
        witness.missing(str(error))


def test_every_level_is_judged_as_in_user_space(crashed: Kernel) -> None:
    """Bitmaps and what is counted by kind; struct pages looked at in place, and copied."""
    with Vmcore.open(str(crashed.core)) as vmcore:
        for level in ALL_LEVELS:
            expected = judged(vmcore, level, FilterIn.USER)
            for direct in (1 << 21, 0):
                crashed.direct = direct
                assert judged(vmcore, level, FilterIn.KERNEL) == expected, (level, direct)
    assert len(crashed.requests) >= len(ALL_LEVELS)


@pytest.mark.lab
@pytest.mark.parametrize("guest", SMALL.values(), ids=SMALL.keys())
def test_every_level_is_dumped_as_in_user_space(
    guest: Guest, kernel: Kernel, tmp_path: Path
) -> None:
    """Each byte of the dump."""
    boot(kernel, guest)
    dumps = set()
    for level in ALL_LEVELS:
        by_user = sha256_of_dump(kernel.core, level, FilterIn.USER, tmp_path)
        assert sha256_of_dump(kernel.core, level, FilterIn.KERNEL, tmp_path) == by_user, level
        dumps.add(by_user)
    assert len(dumps) == len(ALL_LEVELS)


def sha256_of_dump(core: Path, level: int, filter_in: FilterIn, folder: Path) -> str:
    target = folder / "dump"
    done = pydumpfile.dump(core, target, level=level, compression="lzo", filter_in=filter_in.value)
    # A kernel that knows no hardware poison has no page judged at level 0 and 1.
    assert done.judged_in == {filter_in} or (level < 2 and not done.judged_in)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    target.unlink()
    return digest
