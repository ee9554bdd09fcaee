# SPDX-License-Identifier: GPL-2.0-or-later
"""The pipeline gives the same dump for any number of threads, lost pages included."""

from __future__ import annotations

import pytest

import pydumpfile
from pydumpfile.dump import dump_vmcore
from pydumpfile.errors import FaultError, UsageError
from pydumpfile.filter.level import Level
from pydumpfile.sinks import Target
from pydumpfile.sources.elf import ElfSource
from tests.builders import CoreSpec, build_core


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline") / "core"
    return build_core(path, CoreSpec(layout="6.12", seed=11))


@pytest.mark.parametrize("compression", ["none", "zlib", "zstd"])
def test_same_dump_for_any_number_of_threads(core, tmp_path, compression):
    dumps = []
    for n_threads in (1, 2, 5):
        target = tmp_path / f"{n_threads}"
        with pydumpfile.open(core.path) as vmcore:
            dump_vmcore(vmcore, Target(str(target)), Level(1), compression, n_threads=n_threads)
        dumps.append(target.read_bytes())
    assert dumps[0] == dumps[1] == dumps[2]


def test_pages_lost_on_a_thread_are_counted_once(core, tmp_path, monkeypatch):
    def unreadable(source, paddr, size, wanted=None):
        if paddr <= bad_paddr < paddr + size:
            raise FaultError(bad_paddr, "physical")
        return readable(source, paddr, size, wanted)

    with pydumpfile.open(core.path) as vmcore:
        whole = dump_vmcore(vmcore, Target(str(tmp_path / "whole")), Level(0), "none")
    kept = [pfn for pfn in range(core.max_mapnr) if core.verdict(0)[pfn // 8] >> pfn % 8 & 1]
    bad_paddr = kept[2 * len(kept) // 3] * core.page_size
    readable = ElfSource.view
    monkeypatch.setattr(ElfSource, "view", unreadable)
    with pydumpfile.open(core.path) as vmcore:
        statistics = dump_vmcore(
            vmcore, Target(str(tmp_path / "dump")), Level(0), "none", n_threads=3
        )
    assert statistics.lost == 1
    assert statistics.kept == whole.kept
    assert any("could not be read" in warning for warning in statistics.warnings)


def test_an_error_on_a_thread_reaches_the_caller(core, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("on a worker")

    monkeypatch.setattr("pydumpfile.packing.native.NativePacker.encode", broken)
    with (
        pydumpfile.open(core.path) as vmcore,
        pytest.raises(ZeroDivisionError, match="on a worker"),
    ):
        dump_vmcore(vmcore, Target(str(tmp_path / "dump")), Level(31), "zstd", n_threads=2)


@pytest.mark.parametrize("n_threads", [0, -1])
def test_no_threads_are_no_request(core, tmp_path, n_threads):
    target = Target(str(tmp_path / "dump"))
    with pydumpfile.open(core.path) as vmcore, pytest.raises(UsageError, match="at least one"):
        dump_vmcore(vmcore, target, Level(31), "zstd", n_threads=n_threads)
    assert not (tmp_path / "dump").exists()
