# SPDX-License-Identifier: GPL-2.0-or-later
"""A panic leads, without a hand, to a dump that drgn opens; a fault never to one that looks whole.

The smallest set-up runs with the other tests of the lab; whole distributions: make service.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ..kernels import fetch
from . import checks
from .busybox import Busybox, run_busybox, run_faults
from .debian import PIPEFAIL_SETTINGS, Debian, run_debian
from .dracut import Dracut, run_dracut
from .machine import Cost
from .tree import kernel

# Making the Debian system comes on top the first time.
pytestmark = pytest.mark.timeout(3600)
MOST_RSS_KIB = 40 << 10
GROWTH_RSS_KIB = 4 << 10
# Of the services, Debian's without pipefail cannot know; see docs/kdump-service.md.
BLIND = {"signal-15-tools", "signal-9-tools", "closed-tools"}


def check_dump(dump: Path) -> None:
    assert checks.describe(dump).startswith("complete dump")
    found = checks.autopsy(dump, fetch(kernel()).vmlinux())
    assert found.n_tasks > 10
    assert checks.PANIC_FUNCTION in found.stack


def dump_of(costs: list[Cost]) -> Cost:
    """The run that dumped, beside those that wrote the log."""
    (cost,) = (cost for cost in costs if "--dump-dmesg" not in cost.argv)
    return cost


@pytest.mark.lab
def test_smallest_initramfs_dumps_what_drgn_opens(tmp_path: Path) -> None:
    run = run_busybox(Busybox(memory_mib=512, crashkernel="160M"), tmp_path)
    assert sorted(path.name for path in run.crash.iterdir()) == ["dmesg", "lost+found", "vmcore"]
    assert "sysrq: Trigger a crash" in (run.crash / "dmesg").read_text("utf-8", "replace")
    assert [cost.status for cost in run.costs] == [0, 0]
    assert dump_of(run.costs).max_rss_kib < MOST_RSS_KIB
    check_dump(run.crash / "vmcore")


@pytest.mark.service
def test_debian_service_dumps_and_comes_back(tmp_path: Path) -> None:
    run = run_debian(Debian(settings=PIPEFAIL_SETTINGS, crashkernel="128M"), tmp_path)
    assert [cost.status for cost in run.costs] == [0, 0]
    assert dump_of(run.costs).max_rss_kib < MOST_RSS_KIB
    (stream,) = run.crash.glob("*/dump.*")
    (log,) = run.crash.glob("*/dmesg.*")
    assert "sysrq: Trigger a crash" in log.read_text("utf-8", "replace")
    assert checks.rearrange(stream, tmp_path / "dump")[0] == 0
    check_dump(tmp_path / "dump")


@pytest.mark.service
def test_debian_service_does_not_rename_what_is_cut_off(tmp_path: Path) -> None:
    guest = Debian(settings=PIPEFAIL_SETTINGS, crashkernel="128M", kill="9:1500000", target_mib=64)
    run = run_debian(guest, tmp_path)
    assert dump_of(run.costs).status == 128 + 9
    assert not list(run.crash.glob("*/dump.*"))
    (left,) = run.crash.glob("*/dump-incomplete")
    assert not checks.has_end_mark(left)


@pytest.mark.service
@pytest.mark.parametrize("n_cpus", [1, 2])
def test_dracut_initramfs_dumps_what_drgn_opens(tmp_path: Path, n_cpus: int) -> None:
    run = run_dracut(Dracut(n_cpus=n_cpus), tmp_path)
    cost = dump_of(run.costs)
    assert cost.status == 0
    assert ("--num-threads=2" in cost.argv) == (n_cpus == 2)
    (directory,) = run.crash.iterdir()
    assert [path.name for path in directory.iterdir()] == ["vmcore"]
    check_dump(directory / "vmcore")


@pytest.mark.service
@pytest.mark.parametrize("base", ["6.1", "6.12"])
def test_patched_kernels_are_dumped_as_well(tmp_path: Path, base: str) -> None:
    run = run_busybox(Busybox(kernel=f"patched-{base}", memory_mib=768), tmp_path)
    assert "LAB-SWITCH Y" in run.console
    assert dump_of(run.costs).status == 0
    dump = run.crash / "vmcore"
    assert checks.describe(dump).startswith("complete dump")
    pages = checks.read_pages(dump, checks.PANIC_TEXT)
    assert pages.release.startswith(base)
    assert pages.n_pages > 1000
    assert pages.n_with_text > 0


@pytest.mark.service
def test_peak_memory_does_not_follow_the_machine(tmp_path: Path) -> None:
    rss_kib = {}
    for memory_mib in (4 << 10, 64 << 10):
        directory = tmp_path / str(memory_mib)
        guest = Busybox(memory_mib=memory_mib, crashkernel="128M", debian_python=True)
        run = run_busybox(guest, directory)
        assert dump_of(run.costs).status == 0
        check_dump(run.crash / "vmcore")
        rss_kib[memory_mib] = dump_of(run.costs).max_rss_kib
    assert rss_kib[4 << 10] <= MOST_RSS_KIB
    assert rss_kib[64 << 10] <= rss_kib[4 << 10] + GROWTH_RSS_KIB


@pytest.mark.service
def test_no_fault_leaves_a_dump_that_looks_whole(tmp_path: Path) -> None:
    cases = {case.name: case for case in run_faults("pydumpfile", tmp_path)}
    whole = {"whole", "whole-tools"}
    assert whole < set(cases)
    for name, case in cases.items():
        assert (case.dumper_status == 0) == (name in whole), name
        # The service gives it its final name if, and only if, it was told that all is well.
        final = [path for path in case.files if path.name in ("vmcore", "vmcore.flat", "dump")]
        assert bool(final) == (case.service_status == 0) == (name in whole | BLIND), name
        for path in case.files:
            described = checks.describe(path)
            good = described.startswith("complete") or "with its end" in described
            assert good == (name in whole), f"{name}: {path.name} is {described}"
