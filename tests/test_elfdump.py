# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole ELF cores of synthetic ones, read back by the tests' own reader."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile import Kind, Level, Statistics
from pydumpfile.elfdump import dump_elf
from pydumpfile.errors import OutputError, SizeLimitError, UnsupportedError, UsageError
from pydumpfile.filter import kept
from pydumpfile.rearrange import rearrange
from pydumpfile.sinks import Target
from pydumpfile.sources import open_source
from pydumpfile.sources.image import FileImage
from tests.badmemory import BadMemory
from tests.builders import BuiltCore, CoreSpec, bits
from tests.conftest import MIB, SMALL, Command, CoreMaker
from tests.formats.test_elf_loads import Page, segments_of
from tests.sinks.elf_reader import ElfCore
from tests.sinks.kdump_reader import Dump
from tests.test_dump import MACHINES, PAGE, ZERO, _notes_of

CHUNK = 256 << 12
"""Bytes of the shortest hole."""


def cored(
    built: BuiltCore, target: Path, level: int = 31, as_makedumpfile: bool = False
) -> tuple[ElfCore, Statistics]:
    with pydumpfile.open(built.path) as vmcore:
        statistics = dump_elf(
            vmcore, Target(str(target)), Level(level), as_makedumpfile=as_makedumpfile
        )
    return ElfCore.open(target), statistics


def kept_of(built: BuiltCore, level: int) -> set[int]:
    """The pages whose content is to be in the core; of others a reader shows zeros."""
    return set(bits.ones(built.verdict(level))) - (built.zero_pfns if level & 1 else set())


def check_pages(core: ElfCore, built: BuiltCore, level: int) -> None:
    """Every page that exists, and no other: its content, or zeros and nothing else."""
    pages, kept_pfns = core.pages(), kept_of(built, level)
    assert set(pages) == set(bits.ones(built.exists))
    for pfn, page in pages.items():
        assert page == (built.page(pfn) if pfn in kept_pfns else ZERO), hex(pfn)


def check_headers(core: ElfCore, built: BuiltCore) -> None:
    """All but the PT_LOADs as in the original; of those each is one or several in a row."""
    original = ElfCore.open(built.path)
    assert core.raw[:54] == original.raw[:54] and not core.incomplete
    assert core.notes == _notes_of(built.path)
    parts = iter(core.loads)
    for load in original.loads:
        at = load.paddr
        while at < load.paddr + load.memsz:
            part = next(parts)
            assert (part.paddr, part.vaddr) == (at, load.vaddr + at - load.paddr)
            assert (part.flags, part.align) == (load.flags, load.align)
            at += part.memsz
            if at < load.paddr + load.memsz:
                assert part.memsz - part.filesz >= CHUNK, "a hole that is too small for its header"
        assert at == load.paddr + load.memsz
    assert next(parts, None) is None
    data_off = 64 + 56 * core.n_phdrs + len(core.notes)
    for load in core.loads:
        if load.filesz:
            assert load.offset == data_off
            data_off += load.filesz
    assert data_off == len(core.raw)


@pytest.mark.parametrize("machine", MACHINES)
def test_level_31(core_of: CoreMaker, tmp_path: Path, machine: str) -> None:
    built, level = core_of(MACHINES[machine]), 1 if machine == "no note" else 31
    core, statistics = cored(built, tmp_path / "core", level)
    check_pages(core, built, level)
    check_headers(core, built)
    assert statistics.bytes_written == len(core.raw)
    assert statistics.stored == len(kept_of(built, level))
    assert statistics.zero == len(built.zero_pfns & set(bits.ones(built.verdict(level))))
    assert (statistics.lost, statistics.compression) == (0, "none")


@pytest.mark.parametrize("judged_again", [False, True])
def test_segments_in_any_order(
    core_of: CoreMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged_again: bool
) -> None:
    """The bitmap, a window of which is 8 GiB, is gone through forwards and backwards."""
    if judged_again:
        monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", 0)
    built = core_of(replace(MACHINES["high"], split_loads=12, shuffle_loads=True))
    paddrs = [load.paddr for load in built.loads]
    assert paddrs != sorted(paddrs)
    core, _ = cored(built, tmp_path / "core", 31)
    check_pages(core, built, 31)
    check_headers(core, built)


@pytest.mark.parametrize("level", [0, 1, 2, 4, 8, 16, 30])
def test_every_kind_of_page(small: BuiltCore, tmp_path: Path, level: int) -> None:
    core, statistics = cored(small, tmp_path / "core", level)
    check_pages(core, small, level)
    check_headers(core, small)
    assert statistics.left_out[Kind.USER] == small.counts(level)["user"]


def test_cut_where_it_should_be(small: BuiltCore, tmp_path: Path) -> None:
    """The PT_LOADs by the rules of docs/formats.md."""
    core, _ = cored(small, tmp_path / "core", 31)
    kept_pfns = kept_of(small, 31)
    expected = []
    for load in small.loads:
        end = load.paddr + load.memsz
        starts = range(load.paddr, end, PAGE)
        pages = [Page(at, min(at + PAGE, end), at // PAGE in kept_pfns) for at in starts]
        for segment in segments_of(pages):
            filesz = sum(extent.end - extent.start for extent in segment.stored)
            expected.append((segment.start, segment.end - segment.start, filesz))
    assert [(load.paddr, load.memsz, load.filesz) for load in core.loads] == expected
    assert len(expected) > len(small.loads) + 1


def test_nothing_leaks_but_on_demand(small: BuiltCore, tmp_path: Path) -> None:
    """Pages left out between others: zeros, where makedumpfile writes what is in them."""
    ours, _ = cored(small, tmp_path / "ours", 31)
    theirs, statistics = cored(small, tmp_path / "theirs", 31, as_makedumpfile=True)
    assert ours.phdrs == theirs.phdrs
    kept_pfns = kept_of(small, 31)
    leaked = {
        pfn
        for pfn, page in theirs.pages().items()
        if pfn not in kept_pfns and page != ZERO and page == small.page(pfn)
    }
    assert len(leaked) > 100
    for pfn, page in theirs.pages().items():
        assert page == (small.page(pfn) if pfn in kept_pfns | leaked else ZERO)
    check_pages(ours, small, 31)
    assert statistics.stored == len(kept_pfns)


def test_a_stream_stands_for_the_same_core(small: BuiltCore, tmp_path: Path) -> None:
    cored(small, tmp_path / "core", 31)
    with pydumpfile.open(small.path) as vmcore:
        dump_elf(vmcore, Target(str(tmp_path / "stream"), flattened=True), Level(31))
    with (tmp_path / "stream").open("rb") as stream:
        rearrange(stream.fileno(), Target(str(tmp_path / "rearranged")))
    assert (tmp_path / "rearranged").read_bytes() == (tmp_path / "core").read_bytes()


@pytest.mark.parametrize("way", ["python", "judged again"])
@pytest.mark.parametrize("machine", ["small", "segments", "high"])
def test_the_same_in_other_ways(
    core_of: CoreMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, machine: str
) -> None:
    built = core_of(MACHINES[machine])
    expected, _ = cored(built, tmp_path / "expected", 31)
    if way == "python":
        monkeypatch.setenv("PYDUMPFILE_KERNEL", "python")
    else:
        monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", 0)
    core, _ = cored(built, tmp_path / "core", 31)
    assert core.raw == expected.raw


@pytest.fixture
def sane(core_of: CoreMaker) -> BuiltCore:
    """A core of which no page is kept only because its free block cannot be believed."""
    return core_of(replace(SMALL, bad_orders=False))


class TestChains:
    """An ELF core is as good as what it was made of."""

    @pytest.mark.parametrize("level", [0, 2, 30])
    def test_to_kdump(self, sane: BuiltCore, tmp_path: Path, level: int) -> None:
        """Nothing was left out before that would not be now: the same file, to the last byte."""
        cored(sane, tmp_path / "core", level)
        pydumpfile.dump(sane.path, tmp_path / "direct", 31, "zlib")
        pydumpfile.dump(tmp_path / "core", tmp_path / "dump", 31, "zlib")
        assert (tmp_path / "dump").read_bytes() == (tmp_path / "direct").read_bytes()

    def test_zero_pages_are_holes(self, sane: BuiltCore, tmp_path: Path) -> None:
        """No longer told from pages left out; all others are there."""
        cored(sane, tmp_path / "core", 31)
        pydumpfile.dump(sane.path, tmp_path / "direct", 31)
        statistics = pydumpfile.dump(tmp_path / "core", tmp_path / "dump", 31)
        expected, dump = Dump(tmp_path / "direct"), Dump(tmp_path / "dump")
        assert dump.bitmap1 == expected.bitmap1
        assert set(dump.pfns) <= set(expected.pfns)
        missing = set(expected.pfns) - set(dump.pfns)
        assert missing <= sane.zero_pfns
        assert missing
        assert all(dump.page(pfn) == expected.page(pfn) for pfn in dump.pfns)
        assert statistics.warnings == []
        assert dump.utsname == expected.utsname

    @pytest.mark.parametrize(("first", "second"), [(0, 31), (1, 31), (31, 31), (2, 8)])
    def test_to_elf(self, small: BuiltCore, tmp_path: Path, first: int, second: int) -> None:
        cored(small, tmp_path / "one", first)
        with pydumpfile.open(tmp_path / "one") as vmcore:
            dump_elf(vmcore, Target(str(tmp_path / "two")), Level(second))
        pages = ElfCore.open(tmp_path / "two").pages()
        kept_pfns = kept_of(small, first) & kept_of(small, second)
        assert set(pages) == set(bits.ones(small.exists))
        for pfn, page in pages.items():
            assert page == (small.page(pfn) if pfn in kept_pfns else ZERO), hex(pfn)


class TestLostPages:
    """Pages that cannot be read are zeros, are counted and told, and the core says so."""

    @pytest.mark.parametrize("level", [0, 31])
    def test_bad_memory(self, sane: BuiltCore, tmp_path: Path, level: int) -> None:
        kept_pfns = kept_of(sane, level)
        stored = sorted(pfn for pfn in kept_pfns if pfn > 0x2000)
        bad = frozenset(stored[10:13] + stored[40:41] + stored[-1:])
        source = BadMemory(FileImage(os.open(sane.path, os.O_RDONLY), str(sane.path)))
        source.bad_pfns = bad
        with pydumpfile.Vmcore(source) as vmcore:
            statistics = dump_elf(vmcore, Target(str(tmp_path / "core")), Level(level))
        core = ElfCore.open(tmp_path / "core")
        assert core.incomplete
        assert statistics.lost == len(bad)
        assert statistics.stored == len(kept_pfns - bad)
        (warning,) = statistics.warnings
        assert warning.startswith(f"{len(bad)} pages could not be read")
        for pfn, page in core.pages().items():
            assert page == (sane.page(pfn) if pfn in kept_pfns - bad else ZERO), hex(pfn)

    def test_the_source_is_incomplete_itself(
        self, scratch_core: Path, small: BuiltCore, tmp_path: Path
    ) -> None:
        with scratch_core.open("r+b") as core_file:
            core_file.seek(48)
            core_file.write(struct.pack("<I", 1))
        with pydumpfile.open(scratch_core) as vmcore:
            statistics = dump_elf(vmcore, Target(str(tmp_path / "core")), Level(31))
        assert statistics.incomplete
        assert any("is marked incomplete" in warning for warning in statistics.warnings)
        core = ElfCore.open(tmp_path / "core")
        assert core.incomplete
        check_pages(core, small, 31)
        pydumpfile.dump(scratch_core, tmp_path / "dump", 31)
        assert Dump(tmp_path / "dump").incomplete


@pytest.mark.parametrize("step", ["judging pages", "copying pages"])
def test_interrupted(small: BuiltCore, tmp_path: Path, step: str) -> None:
    """Nothing that a reader takes for a core, or one that says what it is."""

    class StopError(Exception):
        pass

    def progress(now: str, done: int, total: int) -> None:
        if now == step and done > total // 2:
            raise StopError

    target = tmp_path / "core"
    with pydumpfile.open(small.path) as vmcore, pytest.raises(StopError):
        dump_elf(vmcore, Target(str(target)), Level(0), progress)
    if step == "judging pages":
        assert target.read_bytes() == b""
        return
    core = ElfCore.open(target)
    assert core.incomplete
    assert core.phdrs[0].kind == 4
    check_salvaged(target, small, at_least=len(kept_of(small, 0)) // 2)


def check_salvaged(target: Path, built: BuiltCore, at_least: int) -> None:
    """It opens; its pages are the original's at level 0, and at least so many are there."""
    kept_pfns = kept_of(built, 0)
    core = ElfCore.open(target)
    assert core.incomplete
    assert all(phdr.offset + phdr.filesz <= len(core.raw) for phdr in core.phdrs)
    source = open_source(str(target))
    try:
        assert source.incomplete
        pfns = [pfn for start, end in source.data for pfn in range(-(-start // PAGE), end // PAGE)]
        assert len(pfns) >= at_least
        for pfn in pfns:
            expected = built.page(pfn) if pfn in kept_pfns else ZERO
            assert source.read_page(pfn, 12) == expected, hex(pfn)
    finally:
        source.close()


@pytest.mark.parametrize("fitting", [0.4, 0.99])
@pytest.mark.parametrize("machine", ["small", "segments"])
def test_no_space_left(core_of: CoreMaker, tmp_path: Path, machine: str, fitting: float) -> None:
    """The pages that did fit are to be had."""
    built = core_of(MACHINES[machine])
    target = tmp_path / "core"
    whole = pydumpfile.dump_elf(built.path, target, 0, dry_run=True).bytes_written
    limit = int(whole * fitting)
    with pydumpfile.open(built.path) as vmcore, pytest.raises(SizeLimitError):
        dump_elf(vmcore, Target(str(target), size_limit=limit), Level(0))
    assert target.stat().st_size == limit
    check_salvaged(target, built, at_least=int(limit / PAGE * 0.9))


def test_only_of_elf_cores(small: BuiltCore, tmp_path: Path) -> None:
    pydumpfile.dump(small.path, tmp_path / "dump", 1)
    with pydumpfile.open(tmp_path / "dump") as vmcore, pytest.raises(UnsupportedError, match="-E"):
        dump_elf(vmcore, Target(str(tmp_path / "core")), Level(31))
    assert not (tmp_path / "core").exists()


def test_the_librarys_way(small: BuiltCore, tmp_path: Path) -> None:
    expected, _ = cored(small, tmp_path / "expected", 31)
    steps = set()
    statistics = pydumpfile.dump_elf(
        small.path, tmp_path / "core", progress=lambda step, *_: steps.add(step)
    )
    assert (tmp_path / "core").read_bytes() == expected.raw
    assert steps == {"judging pages", "copying pages"}
    assert statistics.bytes_written == len(expected.raw)
    with pydumpfile.open(small.path) as vmcore:
        counted = pydumpfile.dump_elf(vmcore, tmp_path / "none", 31, dry_run=True)
        assert counted.bytes_written == len(expected.raw)
        assert not (tmp_path / "none").exists()
        pydumpfile.dump_elf(vmcore, tmp_path / "core", 0, overwrite=True)
    check_pages(ElfCore.open(tmp_path / "core"), small, 0)
    with pytest.raises(OutputError, match="-f"):
        pydumpfile.dump_elf(small.path, tmp_path / "core")
    with pytest.raises(UsageError, match="32"):
        pydumpfile.dump_elf(small.path, tmp_path / "other", 32)


class TestCommand:
    """``-E`` on the command line."""

    def test_writes_what_the_library_does(
        self, command: Command, small: BuiltCore, tmp_path: Path
    ) -> None:
        expected, _ = cored(small, tmp_path / "expected", 31)
        done = command("-E", "-d", 31, "--profile", small.path, tmp_path / "core")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "core").read_bytes() == expected.raw
        assert "finding zero pages" in done.stdout
        leaking, _ = cored(small, tmp_path / "leaking", 31, as_makedumpfile=True)
        done = command("-E", "-d31", "--makedumpfile-bytes", small.path, tmp_path / "bytes")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "bytes").read_bytes() == leaking.raw

    @pytest.mark.parametrize(
        "arguments",
        [
            ("-E", "-c"), ("-E", "-z"), ("-E", "--num-threads", "2"), ("-E", "--split"),
            ("--makedumpfile-bytes",),
        ],
        ids=" ".join,
    )  # fmt: skip
    def test_refuses(
        self, command: Command, small: BuiltCore, tmp_path: Path, arguments: tuple[str, ...]
    ) -> None:
        done = command(*arguments, small.path, tmp_path / "core")
        assert done.returncode == 1
        assert arguments[0] in done.stderr
        assert not (tmp_path / "core").exists()

    def test_is_a_dry_run_if_asked(
        self, command: Command, small: BuiltCore, tmp_path: Path
    ) -> None:
        done = command("-E", "-d", 31, "--dry-run", small.path, tmp_path / "core")
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "core").exists()
        core, _ = cored(small, tmp_path / "core", 31)
        assert f"{len(core.raw) / (1 << 20):.1f} MiB" in done.stdout

    @pytest.mark.parametrize("level", [8, 31])
    def test_without_struct_pages_that_nobody_needs(
        self, command: Command, core_of: CoreMaker, tmp_path: Path, level: int
    ) -> None:
        """``-e``: the pages that a kdump file has then, and zeros where others would be."""
        built = core_of(CoreSpec(memory_size=160 * MIB, filled=0.0))
        whole, _ = cored(built, tmp_path / "whole", level)
        done = command("-E", "-e", "-d", level, built.path, tmp_path / "core")
        assert done.returncode == 0, done.stderr
        assert "- unused struct pages" in done.stdout
        pydumpfile.dump(built.path, tmp_path / "dump", level, without_unused_mem_map=True)
        dump, core = Dump(tmp_path / "dump"), ElfCore.open(tmp_path / "core")
        gone = set(bits.ones(built.verdict(level))) - set(dump.pfns)
        assert len(gone) > 10
        check_headers(core, built)
        kept_pfns = kept_of(built, level) - gone
        assert any(built.page(pfn) != ZERO for pfn in gone)
        for pfn, page in core.pages().items():
            assert page == (built.page(pfn) if pfn in kept_pfns else ZERO), hex(pfn)
        assert len(core.raw) <= len(whole.raw)

    def test_tries_the_next_level_when_there_is_no_space(
        self, command: Command, small: BuiltCore, tmp_path: Path
    ) -> None:
        expected, _ = cored(small, tmp_path / "expected", 31)
        limit = len(expected.raw) + 100
        done = command("-E", "-d", "0,31", "-L", limit, small.path, tmp_path / "core")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "core").read_bytes() == expected.raw
