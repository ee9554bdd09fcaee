# SPDX-License-Identifier: GPL-2.0-or-later
"""One dump in several files: which pages each has, and that they are right together."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from pydumpfile import Statistics
from pydumpfile.dump import dump_vmcore
from pydumpfile.errors import OutputError, SizeLimitError, UsageError
from pydumpfile.filter.level import Level
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.reassemble import reassemble
from pydumpfile.sinks import Target
from pydumpfile.sinks.file import OutputFile
from pydumpfile.sinks.split import share_out
from pydumpfile.sources.image import FileImage
from tests.badmemory import BadMemory
from tests.builders import BuiltCore
from tests.conftest import MIB, SMALL, CoreMaker
from tests.sinks.kdump_reader import Dump

BLOCK = MIB
HIGH = replace(SMALL, memory=((MIB, 39 * MIB), (9 << 30, 2 * MIB), (20 << 30, 3 * MIB + 0x300)))


class Part(Dump):
    """A part, by docs/formats.md: its table starts with the first of its own pages."""

    def table(self) -> dict[int, tuple[int, int, int, int]]:
        own = [pfn for pfn in self.pfns if self.start_pfn_64 <= pfn < self.end_pfn_64]
        whole = list(self.descriptors.values())
        assert set(whole[len(own) :]) <= {(0, 0, 0, 0)}, "more descriptors than pages"
        self.descriptors = dict(zip(own, whole))
        return self.descriptors  # type: ignore[return-value]


def names(directory: Path, n_parts: int) -> tuple[str, ...]:
    return tuple(str(directory / f"part{i}") for i in range(n_parts))


def split(
    core: Path, paths: Sequence[str], level: int = 31, compression: str = "none",
    block: int = BLOCK, n_threads: int = 2, **how: object,
) -> Statistics:  # fmt: skip
    target = Target(paths[0], parts=tuple(paths), splitblock_size=block, **how)  # type: ignore[arg-type]
    with Vmcore.open(str(core)) as vmcore:
        return dump_vmcore(vmcore, target, Level(level), compression, n_threads=n_threads)


def whole(core: Path, path: Path, level: int = 31, compression: str = "none") -> Statistics:
    with Vmcore.open(str(core)) as vmcore:
        return dump_vmcore(vmcore, Target(str(path)), Level(level), compression)


def check(parts: Sequence[Part], unsplit: Dump, built: BuiltCore, boundary_pfns: int) -> None:
    """Everything that makes the parts a set, and each of its pages."""
    assert len({part.raw[:464] for part in parts}) == 1
    assert parts[0].raw[:464] == unsplit.raw[:464]
    assert len({part.notes for part in parts} | {unsplit.notes}) == 1
    assert len({(part.bitmap1, part.bitmap2) for part in parts}) == 1
    assert (parts[0].bitmap1, parts[0].bitmap2) == (unsplit.bitmap1, unsplit.bitmap2)
    at = 0
    for part in parts:
        assert part.split == 1
        assert (part.start_pfn, part.end_pfn) == (part.start_pfn_64, part.end_pfn_64)
        assert part.start_pfn_64 == at
        at = part.end_pfn_64
        assert at % boundary_pfns == 0 or at == part.max_mapnr
    assert at == unsplit.max_mapnr
    data_off = unsplit.descriptors_off + 24 * len(unsplit.pfns)
    seen: list[int] = []
    for part in parts:
        end = data_off
        for pfn, descriptor in part.table().items():
            assert part.page(pfn) == built.page(pfn), hex(pfn)
            assert descriptor[1:] == unsplit.descriptors[pfn][1:]
            end = max(end, descriptor[0] + descriptor[1])
            seen.append(pfn)
        assert end in (len(part.raw), len(part.raw) - 4096), "bytes that nobody points at"
    assert seen == unsplit.pfns


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_parts", [2, 5])
@pytest.mark.parametrize(("level", "compression"), [(31, "none"), (0, "zstd"), (1, "zlib")])
def test_every_page_of_the_parts(
    small: BuiltCore, tmp_path: Path, level: int, compression: str, n_parts: int, n_threads: int
) -> None:
    paths = names(tmp_path, n_parts)
    statistics = split(small.path, paths, level, compression, n_threads=n_threads)
    expected = whole(small.path, tmp_path / "whole", level, compression)
    check([Part(Path(p)) for p in paths], Dump(tmp_path / "whole"), small, BLOCK // 4096)
    assert statistics.bytes_written == sum(os.path.getsize(path) for path in paths)
    for field in ("existing", "left_out", "kept", "zero", "lost"):
        assert getattr(statistics, field) == getattr(expected, field)


def test_memory_with_holes(core_of: CoreMaker, tmp_path: Path) -> None:
    """Windows that begin and end between boundaries, blocks without memory, a fractional end."""
    built, paths = core_of(HIGH), names(tmp_path, 4)
    whole(built.path, tmp_path / "whole")
    for block in (BLOCK, 512 * MIB, 1 << 30):
        split(built.path, paths, block=block, overwrite=True)
        check([Part(Path(p)) for p in paths], Dump(tmp_path / "whole"), built, block // 4096)


def test_more_parts_than_blocks(small: BuiltCore, tmp_path: Path) -> None:
    """The first block, of 1 GiB, is all there is: all other parts are empty."""
    paths = names(tmp_path, 4)
    split(small.path, paths, block=1 << 30)
    parts = [Part(Path(p)) for p in paths]
    end = parts[0].max_mapnr
    assert [(p.start_pfn_64, p.end_pfn_64) for p in parts] == [(0, end), *[(end, end)] * 3]
    whole(small.path, tmp_path / "whole")
    check(parts, Dump(tmp_path / "whole"), small, (1 << 30) // 4096)


@pytest.mark.parametrize("block", [4096, 3 * 4096, 96 * 4096])
def test_no_part_starts_inside_a_word_of_the_bitmap(
    small: BuiltCore, tmp_path: Path, block: int
) -> None:
    """crash would show other pages than those asked for."""
    paths = names(tmp_path, 7)
    split(small.path, paths, block=block)
    whole(small.path, tmp_path / "whole")
    check([Part(Path(p)) for p in paths], Dump(tmp_path / "whole"), small, 64)


@pytest.mark.parametrize(
    ("kept", "n_parts", "ends"),
    [
        ((10, 10, 10, 10), 2, [2, 4]),
        ((10, 10, 10, 10), 4, [1, 2, 3, 4]),
        ((10, 10, 10, 10), 3, [2, 4, 4]),  # 13 each: the first two have more than their share
        ((0, 0, 40, 0), 2, [3, 4]),
        ((0, 0, 0, 40), 3, [4, 4, 4]),
        ((1, 1, 0, 0), 3, [0, 0, 4]),  # less than a page each
        ((5,), 2, [1, 1]),
        ((), 2, [0, 0]),
    ],
)
def test_shares(kept: Sequence[int], n_parts: int, ends: Sequence[int]) -> None:
    assert share_out(kept, n_parts) == ends


def test_a_dry_run_says_what_a_real_one_does(core_of: CoreMaker, tmp_path: Path) -> None:
    """Though it has nothing that it could read back."""
    built = core_of(HIGH)
    paths = names(tmp_path, 5)
    dry = split(built.path, paths, compression="zstd", dry_run=True)
    assert os.listdir(tmp_path) == []
    real = split(built.path, paths, compression="zstd")
    for field in ("kept", "zero", "bytes_written", "left_out"):
        assert getattr(dry, field) == getattr(real, field)


class TestWhatGoesWrong:
    """No part passes for a whole one, nor the set."""

    def marked(self, paths: Iterable[str]) -> set[bool]:
        return {Dump(Path(path)).incomplete for path in paths}

    @pytest.fixture
    def one_disk_is_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """That of the second part, as soon as there are pages."""
        write_at = OutputFile.write_at

        def full(output: OutputFile, off: int, data: bytes) -> None:
            if output.path.endswith("part1") and off > 100_000:
                raise output._failed(OSError(errno.ENOSPC, "full"), "writing")
            write_at(output, off, data)

        monkeypatch.setattr(OutputFile, "write_at", full)

    @pytest.mark.usefixtures("one_disk_is_full")
    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_one_disk_is_full(self, small: BuiltCore, tmp_path: Path, n_threads: int) -> None:
        """The parts on the others have all their pages."""
        paths = names(tmp_path, 3)
        whole(small.path, tmp_path / "whole", 0)
        unsplit = Dump(tmp_path / "whole")
        with pytest.raises(OutputError) as caught:
            split(small.path, paths, level=0, n_threads=n_threads)
        assert (caught.value.path, caught.value.errno) == (paths[1], errno.ENOSPC)
        assert self.marked(paths) == {True}
        assert len({Dump(Path(path)).raw[:464] for path in paths}) == 1
        there = []
        for part in (Part(Path(path)) for path in paths):
            pages = {pfn: part.page(pfn) for pfn in part.table()}
            assert all(page in (unsplit.page(pfn), None) for pfn, page in pages.items())
            there.append({page is not None for page in pages.values()})
        assert there == [{True}, {False}, {True}]
        joined = reassemble(paths, Target(str(tmp_path / "joined")))
        assert joined.incomplete == paths
        found = Dump(tmp_path / "joined")
        lost = {pfn for pfn in found.pfns if found.page(pfn) is None}
        assert lost == set(Part(Path(paths[1])).table())

    @pytest.mark.usefixtures("one_disk_is_full")
    def test_one_disk_is_full_and_there_is_another_try(
        self, small: BuiltCore, tmp_path: Path
    ) -> None:
        """For which the others do not wait."""
        paths = names(tmp_path, 3)
        with pytest.raises(OutputError) as caught:
            split(small.path, paths, level=0, all_or_nothing=True)
        assert caught.value.path == paths[1]
        assert self.marked(paths) == {True}
        last = Part(Path(paths[2]))
        assert None in {last.page(pfn) for pfn in last.table()}

    @pytest.mark.parametrize("all_or_nothing", [False, True])
    def test_one_disk_is_gone(
        self, small: BuiltCore, tmp_path: Path, all_or_nothing: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """That which the bitmaps were read back from; and no other try would help."""
        paths, gone = names(tmp_path, 2), Event()
        write_at, read_at = OutputFile.write_at, OutputFile.read_at

        def check(output: OutputFile) -> None:
            if gone.is_set() and output.path == paths[0]:
                raise output._failed(OSError(errno.EIO, "gone"), "using")

        def write(output: OutputFile, off: int, data: bytes) -> None:
            if off > 100_000:
                gone.set()
            check(output)
            write_at(output, off, data)

        def read(output: OutputFile, off: int, size: int) -> bytes:
            check(output)
            return read_at(output, off, size)

        monkeypatch.setattr(OutputFile, "write_at", write)
        monkeypatch.setattr(OutputFile, "read_at", read)
        with pytest.raises(OutputError) as caught:
            split(small.path, paths, level=0, all_or_nothing=all_or_nothing)
        assert (caught.value.path, caught.value.errno) == (paths[0], errno.EIO)
        last = Part(Path(paths[1]))
        assert None not in {last.page(pfn) for pfn in last.table()}

    def test_what_was_written_is_not_on_one_disk(
        self, small: BuiltCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As the last sync tells; the others are synced."""
        paths, synced = names(tmp_path, 3), []
        sync = OutputFile.sync

        def fail(output: OutputFile) -> None:
            synced.append(output.path)
            if output.path == paths[0]:
                raise output._failed(OSError(errno.EIO, "lost"), "syncing")
            sync(output)

        monkeypatch.setattr(OutputFile, "sync", fail)
        with pytest.raises(OutputError) as caught:
            split(small.path, paths)
        assert (caught.value.path, caught.value.errno) == (paths[0], errno.EIO)
        assert synced == list(paths)
        assert self.marked(paths) == {True}

    def test_the_limit_is_for_each_part(self, small: BuiltCore, tmp_path: Path) -> None:
        paths = names(tmp_path, 3)
        split(small.path, paths)
        sizes = [os.path.getsize(path) for path in paths]
        split(small.path, paths, overwrite=True, size_limit=max(sizes))
        assert self.marked(paths) == {False}
        with pytest.raises(SizeLimitError) as caught:
            split(small.path, paths, overwrite=True, size_limit=max(sizes) - 1)
        assert caught.value.path == paths[sizes.index(max(sizes))]
        assert self.marked(paths) == {True}

    def test_pages_that_cannot_be_read(self, small: BuiltCore, tmp_path: Path) -> None:
        paths = names(tmp_path, 3)
        whole(small.path, tmp_path / "whole", 0)
        pfns = Dump(tmp_path / "whole").pfns
        bad = {pfns[5], pfns[len(pfns) // 2], pfns[len(pfns) // 2 + 1]}
        source = BadMemory(FileImage(os.open(small.path, os.O_RDONLY), str(small.path)))
        source.bad_pfns = frozenset(bad)
        target = Target(paths[0], parts=paths, splitblock_size=BLOCK)
        with Vmcore(source) as vmcore:
            statistics = dump_vmcore(vmcore, target, Level(0), "none", n_threads=2)
        assert statistics.lost == 3
        assert self.marked(paths) == {True}
        lost = set()
        for path in paths:
            part = Part(Path(path))
            lost |= {pfn for pfn in part.table() if part.page(pfn) is None}
        assert lost == bad

    @pytest.mark.parametrize("taken", [0, 2])
    def test_a_part_that_is_there_already(
        self, small: BuiltCore, tmp_path: Path, taken: int
    ) -> None:
        """Then none is created."""
        paths = names(tmp_path, 3)
        Path(paths[taken]).write_bytes(b"precious")
        with pytest.raises(OutputError) as caught:
            split(small.path, paths)
        assert (caught.value.path, caught.value.errno) == (paths[taken], errno.EEXIST)
        assert os.listdir(tmp_path) == [f"part{taken}"]
        assert Path(paths[taken]).read_bytes() == b"precious"

    def test_one_file_twice(self, small: BuiltCore, tmp_path: Path) -> None:
        one, two, link, hard = (str(tmp_path / name) for name in ("one", "two", "link", "hard"))
        os.symlink(one, link)
        Path(two).touch()
        os.link(two, hard)
        for paths in ((one, one), (one, f"{tmp_path}/./one"), (one, link), (two, hard)):
            with pytest.raises(UsageError, match="the same file"):
                split(small.path, paths, overwrite=True)
        assert not Path(one).exists()

    def test_never_over_the_input(self, scratch_core: Path, tmp_path: Path) -> None:
        before = scratch_core.stat()
        with pytest.raises(UsageError, match="the input itself"):
            split(scratch_core, (str(tmp_path / "one"), str(scratch_core)), overwrite=True)
        assert scratch_core.stat().st_size == before.st_size

    @pytest.mark.parametrize("wrong", ["input", "hard link", "twice", "nowhere", "fifo", "below"])
    def test_what_is_there_survives_a_refusal(
        self, scratch_core: Path, tmp_path: Path, wrong: str
    ) -> None:
        """All parts are looked at before the first is emptied or created."""
        good, other, new = (tmp_path / name for name in ("good", "other", "new"))
        good.write_bytes(b"precious")
        if wrong == "input":
            other = scratch_core
        elif wrong == "hard link":
            os.link(scratch_core, other)
        elif wrong == "twice":
            os.link(good, other)
        elif wrong == "fifo":
            os.mkfifo(other)
        else:
            other = (tmp_path if wrong == "nowhere" else good) / "none" / "part"
        size = scratch_core.stat().st_size
        with pytest.raises((UsageError, OutputError)):
            split(scratch_core, (str(new), str(good), str(other)), overwrite=True)
        assert good.read_bytes() == b"precious"
        assert scratch_core.stat().st_size == size
        assert not new.exists()
