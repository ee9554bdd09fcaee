# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of dumps: what was left out stays left out, and the way there does not show."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

import pydumpfile
from pydumpfile.errors import MissingFactError, NotInDumpError, TruncatedError
from pydumpfile.sources.image import FileImage
from pydumpfile.sources.kdump import KdumpSource
from tests.badmemory import BadMemory
from tests.builders import BuiltCore, CoreSpec, bits, diskdump
from tests.builders.diskdump import Spec
from tests.conftest import MIB, SMALL, Command, CoreMaker
from tests.sinks.kdump_reader import INCOMPLETE, Dump

# Without free blocks of impossible order: such a page is kept, whatever else it is, but only where
# free pages are looked for, so that here alone it matters what was left out first.
SPECS = {
    "fractional": CoreSpec(memory_size=40 * MIB, filled=0.3, bad_orders=False),
    "free lists": CoreSpec(memory_size=40 * MIB, freelists=True, filled=0.3, bad_orders=False),
    "5 levels, far": CoreSpec(
        levels=5, memory=((MIB, 40 * MIB), (1 << 36, 3 * MIB)), filled=0.1, bad_orders=False
    ),
    "old": CoreSpec(layout="5.15", memory_size=40 * MIB, filled=0.1, bad_orders=False),
    "unreadable struct pages": CoreSpec(
        memory_size=80 * MIB, unreadable=((0x2000, 512, "unmapped"),), vmemmap_page_size=4096,
        filled=0.1, bad_orders=False,
    ),
}  # fmt: skip

Dumper = Callable[..., Path]


@pytest.fixture
def small(core_of: CoreMaker) -> BuiltCore:
    """The small core, but for its impossible free blocks."""
    return core_of(replace(SMALL, bad_orders=False))


@pytest.fixture
def dump(tmp_path: Path) -> Dumper:
    """Writes another dump, and says where."""
    count = iter(range(1000))

    def write(source: Path, level: int, codec: str = "none", **more: object) -> Path:
        path = tmp_path / f"{next(count)}-{level}-{codec}"
        statistics = pydumpfile.dump(source, path, level, codec, **more)  # type: ignore[arg-type]
        assert statistics.lost == 0
        return path

    return write


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("levels", [(1, 31), (2, 8, 16, 15)])
def test_chains_end_where_the_direct_way_does(
    core_of: CoreMaker, dump: Dumper, name: str, levels: tuple[int, ...]
) -> None:
    """Byte for byte, whatever codec was used on the way."""
    built = core_of(SPECS[name])
    path, level = built.path, 0
    for step, codec in zip(levels, ("zstd", "lzo", "snappy", "zlib")):
        path, level = dump(path, step, codec), level | step
        direct = dump(built.path, level, codec)
        assert path.read_bytes() == direct.read_bytes()


@pytest.mark.parametrize("way", ["threads", "flattened", "python", "read"])
def test_every_way_to_read_it(
    small: BuiltCore, dump: Dumper, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dump(small.path, 1, "zlib", flattened=way == "flattened")
    if way == "python":
        monkeypatch.setenv("PYDUMPFILE_KERNEL", "python")
    if way == "read":
        with pydumpfile.Vmcore.open(str(first), use_mmap=False) as vmcore:
            again = dump(vmcore, 31)
    else:
        again = dump(first, 31, n_threads=3 if way == "threads" else 1)
    assert again.read_bytes() == dump(small.path, 31).read_bytes()


def test_pages_are_read_in_batches(
    small: BuiltCore, dump: Dumper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one by one, which is for pages that are lost: no page in between is asked for."""
    first = dump(small.path, 1, "zlib")

    def alone(_source: KdumpSource, pfn: int, _page_shift: int) -> bytes:
        raise AssertionError(f"page {pfn:#x} on its own")

    monkeypatch.setattr(KdumpSource, "read_page", alone)
    again = dump(first, 31)
    assert again.read_bytes() == dump(small.path, 31).read_bytes()


def test_less_is_no_more(small: BuiltCore, dump: Dumper) -> None:
    """A lower level brings nothing back; only the codec changes."""
    first = dump(small.path, 31, "zstd")
    for level in (0, 1, 8):
        assert dump(first, level, "none").read_bytes() == dump(small.path, 31).read_bytes()


def test_what_is_told(small: BuiltCore, dump: Dumper, tmp_path: Path) -> None:
    first = dump(small.path, 16, "zstd")
    before = Dump(first)
    statistics = pydumpfile.dump(first, tmp_path / "told", 8)
    assert statistics.level == 24
    assert statistics.existing == len(set(bits.ones(small.exists)))
    assert statistics.filtered_before == statistics.existing - len(before.pfns)
    assert statistics.kept == len(Dump(tmp_path / "told").pfns)
    assert sum(statistics.left_out.values()) == len(before.pfns) - statistics.kept > 0
    assert not statistics.incomplete
    assert statistics.warnings == []


def test_the_command(small: BuiltCore, dump: Dumper, tmp_path: Path, command: Command) -> None:
    first = dump(small.path, 16)
    done = command("-d", "9", first, tmp_path / "out")
    assert done.returncode == 0
    said = f"dump_level is changed to 25, because {first} was created by dump_level(16)."
    assert said in done.stdout.splitlines()
    done = command("-d", "31", first, tmp_path / "out31")
    assert done.returncode == 0
    assert "dump_level is changed" not in done.stdout
    done = command("-E", "-d", "31", first, tmp_path / "elf")
    assert done.returncode == 5
    assert not (tmp_path / "elf").exists()
    done = command("-d", "31", first, first)
    assert done.returncode == 1
    assert "the input itself" in done.stderr


def test_left_out_pages_are_neither_zeros_nor_holes(small: BuiltCore, dump: Dumper) -> None:
    path = dump(small.path, 31)
    kept = set(Dump(path).pfns)
    with pydumpfile.open(path) as vmcore:
        source = vmcore.source
        for pfn in list(bits.ones(small.exists))[::37]:
            assert (pfn << 12) in source.exists
            if pfn in kept:
                assert source.read_page(pfn, 12) == small.page(pfn)
            else:
                with pytest.raises(NotInDumpError):
                    source.read_page(pfn, 12)


class TestIncomplete:
    """What is known to be missing stays known."""

    @pytest.mark.parametrize("kernel", ["c", "python"])
    def test_lost_pages(
        self, small: BuiltCore, tmp_path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYDUMPFILE_KERNEL", kernel)
        pydumpfile.dump(small.path, tmp_path / "whole", 31)
        stored = [pfn for pfn in Dump(tmp_path / "whole").pfns if pfn > 0x2000]
        bad = frozenset(stored[10:13] + stored[40:41] + stored[-1:])
        source = BadMemory(FileImage(os.open(small.path, os.O_RDONLY), str(small.path)))
        source.bad_pfns = bad
        with pydumpfile.Vmcore(source) as vmcore:
            pydumpfile.dump(vmcore, tmp_path / "first", 1)
        statistics = pydumpfile.dump(tmp_path / "first", tmp_path / "second", 31)
        second = Dump(tmp_path / "second")
        assert second.lost == bad
        assert second.incomplete
        assert statistics.lost == len(bad)
        assert statistics.incomplete
        for pfn in second.pfns:
            assert second.page(pfn) == (None if pfn in bad else small.page(pfn)), hex(pfn)

    def test_one_that_lacks_nothing_that_anybody_knows_of(
        self, small: BuiltCore, dump: Dumper, tmp_path: Path, command: Command
    ) -> None:
        """As makedumpfile leaves it when it stops between two cycles."""
        path = dump(small.path, 1)
        with path.open("r+b") as first:
            first.seek(424)
            first.write(struct.pack("<I", INCOMPLETE))
        done = command("-d", "31", path, tmp_path / "again")
        assert done.returncode == 7
        assert f"{path} is marked incomplete" in done.stderr
        again = Dump(tmp_path / "again")
        assert again.incomplete
        assert again.pfns == Dump(dump(small.path, 31)).pfns

    def test_cut_short(self, small: BuiltCore, dump: Dumper, tmp_path: Path) -> None:
        path = dump(small.path, 31)
        whole = Dump(path)
        os.truncate(path, len(whole.raw) - 1000 * 4096)
        statistics = pydumpfile.dump(path, tmp_path / "again", 31)
        again = Dump(tmp_path / "again")
        assert 900 < statistics.lost == len(again.lost)
        assert again.incomplete
        for pfn in again.pfns:
            assert again.page(pfn) in (None, whole.page(pfn))
            assert (again.page(pfn) is None) == (pfn in again.lost)

    @pytest.mark.parametrize("compression", ["none", "zlib"])
    def test_a_stream_that_was_cut_off(
        self, small: BuiltCore, dump: Dumper, tmp_path: Path, command: Command, compression: str
    ) -> None:
        """Of whatever has come behind the bitmaps, every page is there; all others are lost."""
        stream = dump(small.path, 31, compression, flattened=True)
        whole, size = Dump(dump(small.path, 31)), stream.stat().st_size
        n_lost = []
        for cut in (size - 1, size - 16, size - 17, 3 * size // 4, size // 5, 60000):
            os.truncate(stream, cut)
            statistics = pydumpfile.dump(stream, tmp_path / f"again{cut}", 31)
            assert any("has no end mark" in warning for warning in statistics.warnings)
            again = Dump(tmp_path / f"again{cut}")
            assert again.incomplete and statistics.incomplete
            assert again.pfns == whole.pfns
            for pfn in again.pfns:
                assert again.page(pfn) in (None, whole.page(pfn))
            n_lost.append(len(again.lost))
            assert statistics.lost == len(again.lost)
        assert n_lost[2] == 0 < n_lost[3] < n_lost[5] == len(whole.pfns)
        done = command("-d", 31, stream, tmp_path / "by command")
        assert done.returncode == 7
        assert f"{stream} has no end mark" in done.stderr
        os.truncate(stream, 8000)
        with pytest.raises(TruncatedError, match=r"bitmaps|notes"):
            pydumpfile.open(stream)


class TestCarried:
    """What the headers say."""

    def test_eraseinfo(self, small: BuiltCore, dump: Dumper) -> None:
        path = dump(small.path, 1)
        text = b"erase secret size 16\nerase other nullify\n"
        end = path.stat().st_size
        with path.open("r+b") as first:
            first.seek(4096 + 64)
            first.write(struct.pack("<QQ", end, len(text)))
            first.seek(end)
            first.write(text)
        for flattened in (False, True):
            again = dump(path, 31, flattened=flattened)
            if flattened:
                again = dump(again, 31)
            result = Dump(again)
            start = result.offset_eraseinfo
            assert result.raw[start : start + result.size_eraseinfo] == text
            assert result.notes == Dump(path).notes
            assert result.pfns == Dump(dump(small.path, 31)).pfns
            assert result.page(result.pfns[-1]) == small.page(result.pfns[-1])

    def test_mem_map_that_is_not_whole(self, small: BuiltCore, dump: Dumper) -> None:
        path = dump(small.path, 1)
        with path.open("r+b") as first:
            first.seek(424)
            first.write(struct.pack("<I", 0x10))
        assert Dump(dump(path, 31, "zstd")).status == 0x30

    def test_headers_of_a_dump_that_nobody_knows_anything_of(
        self, dump: Dumper, tmp_path: Path
    ) -> None:
        """No VMCOREINFO: nothing can be judged, but the codec changed, and zero pages shared."""
        pages = {pfn: bytes([pfn % 3]) * 4096 for pfn in range(20, 400)}
        left_out = dict.fromkeys(range(500, 600))
        spec = Spec(
            {**pages, **left_out}, level=30, nr_cpus=5, tv_sec=77, utsname={2: b"2.6.39"},
            sub={"phys_base": 0x1000000},
        )  # fmt: skip
        path = tmp_path / "first"
        path.write_bytes(diskdump.build(spec))
        again = Dump(dump(path, 1, "zstd"))
        assert (again.nr_cpus, again.tv_sec, again.phys_base) == (5, 77, 0x1000000)
        assert (again.dump_level, again.utsname[2], again.utsname[4]) == (31, "2.6.39", "x86_64")
        assert again.pfns == list(pages)
        assert {pfn: again.page(pfn) for pfn in pages} == pages
        assert (again.bitmap1, again.bitmap2) == (Dump(path).bitmap1, Dump(path).bitmap2)
        first = Spec({**pages, **left_out}, level=14)
        path.write_bytes(diskdump.build(first))
        dump(path, 14)
        with pytest.raises(MissingFactError, match="VMCOREINFO"):
            dump(path, 16)
