# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF cores that were copied by half: all that is there is read, all that is not is told."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Optional

import pytest

import pydumpfile
from pydumpfile import Level
from pydumpfile.elfdump import dump_elf
from pydumpfile.errors import FaultError, FormatError, TruncatedError
from pydumpfile.pfn import Range
from pydumpfile.sinks import Target
from pydumpfile.sources import open_source
from pydumpfile.sources.base import LostPageError
from pydumpfile.sources.elf import ElfSource
from tests.builders import BuiltCore, bits
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import LocklessRing
from tests.conftest import MIB, SMALL, Command, CoreMaker, copy_sparse
from tests.sinks.elf_reader import ElfCore
from tests.sinks.kdump_reader import Dump
from tests.sources.rawelf import Segment, raw_elf

PAGE = 4096
ZERO = bytes(PAGE)


def lacking(built: BuiltCore, size: int) -> set[int]:
    """The pages that have a byte behind the first ``size`` of the core's file, and nowhere else."""
    lost: set[int] = set()
    seen: set[int] = set()
    for load in ElfCore.open(built.path).loads:
        first, end = load.paddr // PAGE, -(-(load.paddr + load.filesz) // PAGE)
        for pfn in set(range(first, end)) - seen:
            page_end = min((pfn + 1) * PAGE, load.paddr + load.filesz)
            if load.offset + page_end - load.paddr > size:
                lost.add(pfn)
        seen.update(range(first, end))
    return lost


def missing_bytes(built: BuiltCore, size: int) -> int:
    """How many bytes of memory those are; the core has only one PT_LOAD behind the cut."""
    load = ElfCore.open(built.path).loads[-1]
    return load.offset + load.filesz - size


SHUFFLED = replace(SMALL, split_loads=24, shuffle_loads=True)
"""A cut takes something of everything."""

CUTS = (1, 100, PAGE, 8 * MIB, 8 * MIB + 5)
"""Bytes taken away, all of them from the last PT_LOAD."""


@pytest.mark.parametrize("less", CUTS)
@pytest.mark.parametrize("use_mmap", [True, False])
def test_pages_behind_the_end_are_lost(
    scratch_core: Path, small: BuiltCore, less: int, use_mmap: bool
) -> None:
    size = small.path.stat().st_size - less
    os.truncate(scratch_core, size)
    lost = lacking(small, size)
    with closing(open_source(str(scratch_core), use_mmap)) as source:
        assert source.missing.total == less == missing_bytes(small, size)
        assert set(bits.ones(small.exists)) == {
            pfn for start, end in source.data.pages(12) for pfn in range(start, end)
        }
        for pfn in sorted(lost)[:3] + sorted(lost)[-3:]:
            with pytest.raises(LostPageError) as caught:
                source.read_page(pfn, 12)
            assert caught.value.address // PAGE == pfn
        before = min(lost) - 1
        assert source.read_page(before, 12) == small.page(before)
        (start, end) = next(iter(source.missing))
        assert source.stretch_end(start - 1) == start
        assert source.stretch_end(start) == source.stretch_end(end - 1) == end
        assert source.stretch_end(end) == end
        assert (
            source.view(start - 64, 100, [(0, 64)])[:64]
            == small.path.read_bytes()[size - 64 : size]
        )
        with pytest.raises(LostPageError) as caught:
            source.view(start - 64, 65)
        assert caught.value.address == start


@pytest.mark.parametrize("kernel", ["c", "python"])
@pytest.mark.parametrize("less", CUTS)
def test_a_dump_lacks_just_these(
    scratch_core: Path, small: BuiltCore, tmp_path: Path, less: int, kernel: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PYDUMPFILE_KERNEL", kernel)
    os.truncate(scratch_core, small.path.stat().st_size - less)
    lost = lacking(small, scratch_core.stat().st_size)
    statistics = pydumpfile.dump(scratch_core, tmp_path / "dump", 0)
    dump = Dump(tmp_path / "dump")
    lost &= set(dump.pfns)
    assert dump.incomplete and statistics.incomplete
    assert dump.lost == lost and statistics.lost == len(lost)
    assert dump.pfns == list(bits.ones(small.verdict(0)))
    for pfn in dump.pfns:
        assert dump.page(pfn) == (None if pfn in lost else small.page(pfn)), hex(pfn)


def test_what_is_known_to_be_lost_is_not_asked_for_page_by_page(
    scratch_core: Path, small: BuiltCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a large core would take minutes."""
    os.truncate(scratch_core, small.path.stat().st_size - 8 * MIB)
    n_views = 0
    view = ElfSource.view

    def counted(
        source: ElfSource, paddr: int, size: int, wanted: Optional[Sequence[Range]] = None
    ) -> memoryview:
        nonlocal n_views
        n_views += 1
        return view(source, paddr, size, wanted)

    monkeypatch.setattr(ElfSource, "view", counted)
    statistics = pydumpfile.dump(scratch_core, tmp_path / "dump", 0)
    assert statistics.lost > 1500
    assert n_views < 200


def test_cut_anywhere(core_of: CoreMaker, tmp_path: Path) -> None:
    """Struct pages that are lost say to keep the page; tables that are lost, that nothing is known.

    No page of a dump is ever another than that of the core, and what is missing is told: if nothing
    is that was to be kept, the dump is whole.
    """
    built, path, target = core_of(SHUFFLED), tmp_path / "core", tmp_path / "dump"
    copy_sparse(built.path, path)
    size, rng = path.stat().st_size, Random(9)
    wanted = set(bits.ones(built.verdict(31)))
    ends = {"whole": 0, "lacks pages": 0, "has more pages": 0, "none": 0}
    for cut in (size - 1, *sorted((rng.randrange(4096, size) for _ in range(30)), reverse=True)):
        os.truncate(path, cut)
        lost = lacking(built, cut)
        try:
            statistics = pydumpfile.dump(path, target, 31)
        except FaultError:
            assert not target.exists()
            ends["none"] += 1
            continue
        dump = Dump(target)
        target.unlink()
        unread = any("struct page is unreadable" in warning for warning in statistics.warnings)
        assert wanted < set(dump.pfns) if unread else wanted == set(dump.pfns)
        assert dump.lost == lost & set(dump.pfns)
        assert statistics.lost == len(dump.lost)
        assert dump.incomplete == bool(dump.lost)
        for pfn in dump.pfns:
            assert dump.page(pfn) == (None if pfn in lost else built.page(pfn)), hex(pfn)
        ends["has more pages" if unread else "lacks pages" if dump.lost else "whole"] += 1
    assert all(ends.values()), ends


@pytest.mark.parametrize("level", [0, 1, 31])
def test_an_elf_dump_leaves_them_out(
    scratch_core: Path, small: BuiltCore, tmp_path: Path, level: int
) -> None:
    """They take no room, as those half of a large core would; readers show zeros for holes too."""
    os.truncate(scratch_core, small.path.stat().st_size - 8 * MIB)
    lost = lacking(small, scratch_core.stat().st_size)
    with pydumpfile.open(scratch_core) as vmcore:
        statistics = dump_elf(vmcore, Target(str(tmp_path / "core")), Level(level))
    core = ElfCore.open(tmp_path / "core")
    assert core.incomplete
    assert statistics.lost == len(lost & set(bits.ones(small.verdict(level))))
    assert len(core.raw) < small.path.stat().st_size - 7 * MIB
    kept = set(bits.ones(small.verdict(level))) - lost
    for pfn, page in core.pages().items():
        assert page == (small.page(pfn) if pfn in kept else ZERO), hex(pfn)


def test_by_command(command: Command, scratch_core: Path, small: BuiltCore, tmp_path: Path) -> None:
    os.truncate(scratch_core, small.path.stat().st_size - 8 * MIB)
    done = command("-d", 31, scratch_core, tmp_path / "dump")
    assert done.returncode == 7
    assert f"{scratch_core} was cut short: {8 * MIB} bytes of memory are missing" in done.stderr
    assert "pages could not be read and are not in the dump" in done.stderr
    assert Dump(tmp_path / "dump").incomplete
    whole, done = (command("--mem-usage", core) for core in (small.path, scratch_core))
    assert f"{8 * MIB} bytes of memory are missing" in done.stderr
    n_kept, n_kept_whole = (
        int(one.stdout.partition("KERN_DATA")[2].split()[0]) for one in (done, whole)
    )
    assert n_kept >= n_kept_whole  # what is missing may be zeros
    assert done.stdout.partition("Total")[2] == whole.stdout.partition("Total")[2]


def test_tables_that_are_gone(
    command: Command, scratch_core: Path, small: BuiltCore, tmp_path: Path
) -> None:
    """No page can be judged, but all that are there can be had."""
    os.truncate(scratch_core, 6 * MIB)
    lost = lacking(small, 6 * MIB)
    done = command("-d", 31, scratch_core, tmp_path / "dump")
    assert done.returncode == 7
    assert "page table" in done.stderr and "-d 0 and -d 1 do without" in done.stderr
    assert not (tmp_path / "dump").exists()
    assert command("-d", 1, scratch_core, tmp_path / "dump").returncode == 7
    dump = Dump(tmp_path / "dump")
    assert dump.lost == lost & set(dump.pfns) == lost
    assert all(dump.page(pfn) == small.page(pfn) for pfn in dump.pfns if pfn not in lost)


def test_what_was_lost_is_not_needed(command: Command, core_of: CoreMaker, tmp_path: Path) -> None:
    """The last page is left out by its struct page, which is there: a whole dump, and a warning."""
    built, path = core_of(SHUFFLED), tmp_path / "core"
    copy_sparse(built.path, path)
    os.truncate(path, path.stat().st_size - 1)
    done = command("-d", 31, path, tmp_path / "dump")
    assert done.returncode == 0
    assert "1 bytes of memory are missing" in done.stderr
    assert not Dump(tmp_path / "dump").incomplete


class TestLog:
    """``--dump-dmesg`` of a core that was cut."""

    def test_the_log_is_there(self, command: Command, tmp_path: Path) -> None:
        writer = LocklessRing()
        for i in range(20):
            writer.store(b"message %d" % i, ts_nsec=i)
        core, text = tmp_path / "core", tmp_path / "text"
        build_log_core(core, writer.image(PLACE))
        whole = command("--dump-dmesg", core, text)
        assert whole.returncode == 0
        os.truncate(core, core.stat().st_size - MIB)  # the builder leaves one behind the log
        done = command("--dump-dmesg", core, tmp_path / "again")
        assert done.returncode == 0
        assert f"{MIB} bytes of memory are missing" in done.stderr
        assert (tmp_path / "again").read_bytes() == text.read_bytes()

    def test_the_log_is_not(self, command: Command, tmp_path: Path) -> None:
        core, text = tmp_path / "core", tmp_path / "text"
        build_log_core(core, LocklessRing().image(PLACE))
        os.truncate(core, 6 * MIB)
        done = command("--dump-dmesg", core, text)
        assert done.returncode == 7
        assert "reading the kernel's log" in done.stderr and "lost" in done.stderr
        assert not text.exists()


class TestRefused:
    """Cut before there is anything to be read, or no cut at all."""

    @pytest.mark.parametrize("left", [30, 100, 64 + 3 * 56 - 1, 300])
    def test_inside_headers_or_notes(self, scratch_core: Path, left: int) -> None:
        os.truncate(scratch_core, left)
        with pytest.raises(TruncatedError, match="not copied whole"):
            pydumpfile.open(scratch_core)

    def test_before_all_memory(self, tmp_path: Path) -> None:
        (tmp_path / "core").write_bytes(raw_elf([Segment(b"", 0, 8 * PAGE, filesz=8 * PAGE)]))
        with pytest.raises(TruncatedError, match="before the first"):
            open_source(str(tmp_path / "core"))

    @pytest.mark.parametrize("offset", [(1 << 63) - 1, 1 << 63, (1 << 64) - 1])
    def test_a_place_that_is_in_no_file(self, tmp_path: Path, offset: int) -> None:
        segments = [Segment(bytes(16), offset=offset), Segment(bytes(16), PAGE)]
        (tmp_path / "core").write_bytes(raw_elf(segments))
        with pytest.raises(FormatError, match="damaged"):
            open_source(str(tmp_path / "core"))

    def test_beyond_all_measure(self, tmp_path: Path) -> None:
        """What would be lost of 128 TiB takes 768 GiB of descriptors."""
        segments = [Segment(bytes(PAGE), 0), Segment(b"", 1 << 30, 1 << 47, filesz=1 << 47)]
        (tmp_path / "core").write_bytes(raw_elf(segments))
        with pytest.raises(FormatError, match="are there"):
            open_source(str(tmp_path / "core"))
