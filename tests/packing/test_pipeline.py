# SPDX-License-Identifier: GPL-2.0-or-later
"""The pipeline gives the same dump for any number of threads, lost pages included."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from functools import partial

import pytest

import pydumpfile
from pydumpfile.bitmap import Bitmap
from pydumpfile.dump import dump_vmcore
from pydumpfile.errors import FaultError, UsageError
from pydumpfile.filter.level import Level
from pydumpfile.packing.pipeline import Crew, n_copiers
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


class _FakeCopier:
    """Batches of one page; what is packed when, and where, is told to ``log``."""

    def __init__(self, log, fails_at=None):
        self.log = log
        self.fails_at = fails_at
        self.n_pages = 0
        self.pfn = -1

    def take(self, _, pfn):
        self.pfn, self.n_pages = pfn, 1
        return pfn + 1

    def pack(self):
        if self.pfn == self.fails_at:
            raise ZeroDivisionError(f"packing {self.pfn}")
        self.log.append(("packed", self.pfn, threading.get_ident()))


def _crew(log, n_threads, write, fails_at=None, may_block=False):
    copiers = [_FakeCopier(log, fails_at) for _ in range(n_copiers(n_threads))]
    return Crew([Bitmap(0, 200), Bitmap(200, 400)], copiers, n_threads, write, may_block)


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_batches_are_written_and_given_back_in_pfn_order(n_threads):
    log, written, given_back = [], [], []
    with _crew(log, n_threads, lambda copier: written.append(copier.pfn)) as crew:
        for copier in crew:
            assert written[len(given_back)] == copier.pfn
            given_back.append(copier.pfn)
    assert written == given_back == list(range(400))
    assert sorted(pfn for _, pfn, _ in log) == list(range(400))


def test_what_may_block_is_only_done_by_the_caller():
    writers = set()
    with _crew([], 4, lambda _: writers.add(threading.get_ident()), may_block=True) as crew:
        assert len(list(crew)) == 400
    assert writers == {threading.get_ident()}


def test_writing_fails_on_whatever_thread():
    def write(copier):
        if copier.pfn == 123:
            raise OSError("no space")
        written.append(copier.pfn)

    written, before = [], threading.active_count()
    with pytest.raises(OSError, match="no space"), _crew([], 3, write) as crew:
        list(crew)
    assert written == list(range(123))
    assert threading.active_count() == before


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_windows_that_fail_are_not_the_end_of_them(n_threads):
    def windows():
        yield Bitmap(0, 40)
        raise ZeroDivisionError("judging once more")

    copiers = [_FakeCopier([]) for _ in range(n_copiers(n_threads))]
    for _ in range(50):
        with (
            pytest.raises(ZeroDivisionError, match="judging once more"),
            Crew(windows(), copiers, n_threads, lambda _: None) as crew,
        ):
            list(crew)


def test_a_batch_that_fails_stops_all_behind_it():
    written = []
    with (
        pytest.raises(ZeroDivisionError, match="packing 50"),
        _crew([], 3, lambda copier: written.append(copier.pfn), fails_at=50) as crew,
    ):
        list(crew)
    assert written == list(range(len(written)))
    assert 50 not in written


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_the_first_of_several_failures_is_told(n_threads):
    """What comes after may come of it. Here a helper fails first, and then all others."""

    def wait_until(condition):
        while not condition():
            time.sleep(0.001)

    def pack(copier):
        if copier.pfn == 0:
            wait_until(lambda: len(crew._under_way) > 1)
            raise OSError("no space")
        wait_until(lambda: crew._stopped)
        raise MemoryError

    copiers = [_FakeCopier([]) for _ in range(n_copiers(n_threads))]
    for copier in copiers:
        copier.pack = partial(pack, copier)
    crew = Crew([Bitmap(0, 400)], copiers, n_threads, lambda _: None)
    with crew:
        wait_until(lambda: crew._under_way)  # by a helper, which has taken the first batch
        with pytest.raises(OSError, match="no space"):
            list(crew)


def test_no_signal_leaves_a_thread_that_still_writes(monkeypatch):
    writing, may_end, n_signals = threading.Event(), threading.Event(), 0
    join = threading.Thread.join

    def write(_):
        writing.set()
        may_end.wait()

    def interrupted(thread):
        nonlocal n_signals
        if n_signals < 2:
            n_signals += 1
            raise KeyboardInterrupt
        may_end.set()
        join(thread)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    crew = _crew([], 2, write)
    try:
        with pytest.raises(KeyboardInterrupt), crew:
            writing.wait()
        assert not any(thread.is_alive() for thread in crew._threads)
    finally:
        may_end.set()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_signal_is_told_rather_than_what_failed_before(n_threads):
    crew = _crew([], n_threads, lambda _: None)
    crew._fail(OSError("no space"))
    crew._fail(KeyboardInterrupt())
    crew._fail(OSError("no space"))
    with pytest.raises(KeyboardInterrupt), crew:
        list(crew)


def test_the_caller_may_leave_early():
    before = threading.active_count()
    with _crew([], 3, lambda _: None) as crew:
        for copier in crew:
            if copier.pfn == 30:
                break
    assert threading.active_count() == before


@pytest.mark.parametrize("on_enter", [False, True])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_an_error_is_gone_with_whoever_caught_it(monkeypatch, n_threads, on_enter):
    """Not only once the collector comes: by then it may hold a whole dump's buffers."""

    def write(_):
        raise OSError("no space")

    def interrupted(_):
        raise KeyboardInterrupt

    if on_enter:
        monkeypatch.setattr(threading.Thread, "start", interrupted)
    gc.collect()
    gc.disable()
    try:
        crew = _crew([], n_threads, write)
        gone = weakref.ref(crew)
        try:
            with crew:
                list(crew)
        except (OSError, KeyboardInterrupt):
            pass
        else:
            raise AssertionError("it did not fail")
        del crew
        assert gone() is None
    finally:
        gc.enable()


def test_threads_that_the_system_refuses_are_done_without(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with _crew([], 5, lambda _: None) as crew:
        assert [copier.pfn for copier in crew] == list(range(400))


def test_a_signal_while_threads_start_leaves_none_behind(monkeypatch):
    def interrupted(thread):
        started.append(thread)
        start(thread)
        if len(started) == 3:
            raise KeyboardInterrupt

    start, started = threading.Thread.start, []
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), _crew([], 5, lambda _: None):
        pass
    for thread in started:
        thread.join(60)
    assert len(started) == 3
    assert not any(thread.is_alive() for thread in started)
