# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with 4-level page tables and two NUMA nodes, and the core QEMU itself writes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import pydumpfile
from tests.lab import Guest

from . import deadkernel
from .conftest import Shelf, evidence_of
from .cores import Evidence
from .test_readers import check_with_plain_parser, lasting

pytestmark = pytest.mark.lab

GUEST = Guest(kernel="6.12-cloud", memory="512M", cpu="max,-la57", numa=2, dump_guest_memory=True)


@pytest.fixture
def guest() -> Evidence:
    return evidence_of("4 levels, 2 nodes", GUEST)


def processes(dump: Path, evidence: Evidence) -> list[list[object]]:
    """Pid and name of every process drgn finds in the dump."""
    tasks = deadkernel.tasks(deadkernel.open_program(dump, evidence.core.vmlinux()))
    return [[task.pid, task.comm] for task in tasks if task.pid == task.tgid]


def test_four_levels_and_two_nodes(guest: Evidence, shelf: Shelf) -> None:
    with pydumpfile.open(guest.core.vmcore) as vmcore:
        assert vmcore.levels == 4
        assert vmcore.mem_map.model == "SPARSEMEM_EXTREME"
    dump = shelf.dump(guest)
    check_with_plain_parser(guest, dump, 31, "zstd")
    assert lasting(processes(dump, guest)) == lasting(guest.core.truth["tasks"])


def test_the_core_that_qemu_writes(guest: Evidence, tmp_path: Path) -> None:
    """Taken just before the panic, with the crash kernel's memory and the BIOS in it."""
    core = guest.core.qemu_core
    assert core is not None
    with pydumpfile.open(core) as vmcore:
        assert not vmcore.source.only_system_ram
        assert vmcore.facts is not None
        assert vmcore.facts.release == guest.core.kernel.release
    statistics = pydumpfile.dump(core, tmp_path / "dump")
    assert statistics.lost == 0
    assert 0 < statistics.kept < statistics.existing
    found = processes(tmp_path / "dump", guest)
    assert lasting(found) == lasting(guest.core.truth["tasks"])
