# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of split dumps side by side, against the pages that were put into them."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.errors import (
    FormatError,
    InputError,
    NotInDumpError,
    PydumpfileError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)
from pydumpfile.sources import Source, open_source
from pydumpfile.sources.pagestore import LostPageError
from pydumpfile.sources.split import SplitSource
from tests.builders import diskdump
from tests.builders.diskdump import AARCH64, ARM, I386, MIPS_BE, S390X, X86_64, Machine, Spec
from tests.builders.elfcore import note
from tests.decompress import LZO, SNAPPY, ZLIB, ZSTD

from .stored_pages import (
    KINDS,
    LOST,
    NOTES,
    PAGE,
    TEXT,
    Kinds,
    both_ways,
    check,
    check_lost,
    check_twins,
    content,
    packed_pages,
    pages_of,
    some_pages,
)

ENDS = (10, 37, 37, 66, 80, 100_001)
"""Inside bytes of the bitmap, in a hole, one part without any page, and the last goes far."""


def write_parts(directory: Path, spec: Spec, ends: Sequence[int] = ENDS) -> list[str]:
    paths = []
    for i, data in enumerate(diskdump.build_parts(spec, ends)):
        path = directory / f"part{i}"
        path.write_bytes(data)
        paths.append(str(path))
    return paths


@contextmanager
def opened(paths: Sequence[str], use_mmap: bool = True) -> Iterator[Source]:
    """In an order that is not theirs."""
    with closing(open_source([*paths[1::2], *paths[::2][::-1]], use_mmap)) as source:
        assert isinstance(source, SplitSource)
        yield source


def change(path: str, off: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(off)
        file.write(data)


@both_ways
@pytest.mark.parametrize("version", [2, 5, 6])
@pytest.mark.parametrize("machine", [X86_64, AARCH64, S390X], ids=lambda m: m.name.decode())
def test_every_machine(tmp_path: Path, machine: Machine, version: int, use_mmap: bool) -> None:
    size = machine.page_size
    pages = some_pages(size)
    with opened(write_parts(tmp_path, Spec(pages, machine, version)), use_mmap) as source:
        assert source.machine == machine.name.decode()
        check(source, pages, size)


@pytest.mark.usefixtures("loops")
@both_ways
@pytest.mark.parametrize("flag", [0, ZLIB, LZO, SNAPPY, ZSTD])
def test_every_encoding(tmp_path: Path, flag: int, use_mmap: bool) -> None:
    pages = some_pages()
    spec = Spec(pages, status=flag, stored=packed_pages(flag, pages), zero_shared=True)
    with opened(write_parts(tmp_path, spec), use_mmap) as source:
        check(source, pages)


@both_ways
@pytest.mark.parametrize("shuffled", [False, True])
def test_views_across_parts(tmp_path: Path, use_mmap: bool, shuffled: bool) -> None:
    pages = some_pages()
    spec = Spec(pages, shuffled=shuffled, zero_shared=True)
    with opened(write_parts(tmp_path, spec), use_mmap) as source:
        run = b"".join(content(pfn) for pfn in range(3, 40))
        assert source.view(3 * PAGE, 37 * PAGE) == run
        assert source.view(9 * PAGE + 100, 5000) == run[6 * PAGE + 100 : 6 * PAGE + 5100]
        wanted = [(0, 10), (PAGE - 1, 9 * PAGE + 1), (47 * PAGE, 49 * PAGE), (61 * PAGE, 80 * PAGE)]
        view = source.view(3 * PAGE, 87 * PAGE, wanted)
        memory = b"".join(pages.get(pfn) or bytes(PAGE) for pfn in range(3, 90))
        for start, end in wanted:
            assert view[start:end] == memory[start:end], (start, end)
        with pytest.raises(NotInDumpError) as caught:
            source.view(3 * PAGE, 60 * PAGE)
        assert caught.value.address == 40 * PAGE


@given(
    KINDS,
    st.lists(st.integers(0, 70000), min_size=1, max_size=5),
)
def test_any_pages_and_any_boundaries(
    tmp_path_factory: pytest.TempPathFactory, kinds: Kinds, cuts: list[int]
) -> None:
    """Across the pieces in which bitmaps are read and counted."""
    pages = pages_of(kinds)
    end = max(pages) + 1
    ends = (*sorted(min(cut, end) for cut in cuts), end)
    paths = write_parts(tmp_path_factory.getbasetemp(), Spec(pages), ends)
    with closing(open_source(paths[::-1])) as source:
        kept = {pfn for pfn, page in pages.items() if page is not None}
        assert {p for run in source.data.pages(12) for p in range(*run)} == kept
        for pfn, page in pages.items():
            if page is not None:
                assert source.read_page(pfn, 12) == page


def test_another_for_another_thread(tmp_path: Path) -> None:
    with opened(write_parts(tmp_path, Spec(some_pages()))) as source:
        check_twins(source)


def test_the_page_that_zero_pages_share_is_known(tmp_path: Path) -> None:
    """In each part: once that is open, it is not looked at again."""
    pages = some_pages()
    paths = write_parts(tmp_path, Spec(pages, zero_shared=True))
    data_off = 2 * PAGE + 2 * 4 * PAGE + 24 * sum(page is not None for page in pages.values())
    with opened(paths) as source:
        for path in paths:
            change(path, data_off, b"x" * PAGE)
        check(source, pages)


def test_one_part_is_mapped_at_a_time(tmp_path: Path) -> None:
    """However many there are, and for each thread."""
    paths = write_parts(tmp_path, Spec({pfn: content(pfn) for pfn in range(400)}, status=0),
                        range(20, 401, 20))  # fmt: skip

    def mapped() -> set[str]:
        lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
        return {line.split()[-1] for line in lines} & set(paths)

    with opened(paths) as source:
        twin = source.another()
        source.view(0, 400 * PAGE)
        assert mapped() == {paths[-1]}
        twin.view(10 * PAGE, 90 * PAGE)
        assert mapped() == {paths[4], paths[-1]}
        source.read_page(33, 12)
        assert mapped() == {paths[4], paths[1]}
        twin.read_page(33, 12)
        source.drop_views()
        assert mapped() == {paths[1]}
        twin.drop_views()
        assert mapped() == set()


def test_memory_does_not_grow_with_the_machine(tmp_path: Path) -> None:
    """4 TiB in four parts, of which a page here and there is kept: bitmaps of 128 MiB, sparse."""
    far, step = 1 << 30, 1 << 26
    half = far // 8
    table_off = 2 * PAGE + 2 * half
    data_off = table_off + 24 * (far // step)
    head = bytearray(diskdump.build_parts(Spec({0: content(1)}, status=0), [1])[0])
    head[436:440] = (2 * half // PAGE).to_bytes(4, "little")
    head[440:444] = far.to_bytes(4, "little")
    head[PAGE + 96 : PAGE + 104] = far.to_bytes(8, "little")
    paths = []
    for start in range(0, far, far // 4):
        paths.append(str(tmp_path / f"part{start}"))
        pfns = range(start, start + far // 4, step)
        head[PAGE + 80 : PAGE + 96] = b"".join(
            n.to_bytes(8, "little") for n in (pfns.start, pfns.stop)
        )
        with open(paths[-1], "wb") as part:
            part.write(head[: 2 * PAGE])
            for bitmap_off in (2 * PAGE, 2 * PAGE + half):
                for pfn in range(0, far, step):
                    part.seek(bitmap_off + pfn // 8)
                    part.write(b"\1")
            for i, pfn in enumerate(pfns):
                part.seek(table_off + 24 * i)
                part.write(
                    (data_off + i * PAGE).to_bytes(8, "little") + PAGE.to_bytes(16, "little")
                )
                part.seek(data_off + i * PAGE)
                part.write(content(pfn + 1))
    tracemalloc.start()
    try:
        with opened(paths) as source:
            assert source.data.total == far // step * PAGE
            for pfn in range(0, far, step):
                assert source.read_page(pfn, 12) == content(pfn + 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20  # of which 3 are two pieces of bitmaps that are compared


def test_closing_lets_go_of_all_parts(tmp_path: Path) -> None:
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    with opened(write_parts(tmp_path, Spec(some_pages()))):
        assert len(os.listdir("/proc/self/fd")) == len(before) + len(ENDS)
    assert sorted(os.listdir("/proc/self/fd")) == before


class TestIncompleteParts:
    """What they lack is lost, in them alone."""

    def test_lost_pages(self, tmp_path: Path) -> None:
        spec = Spec(some_pages(), lost=LOST, status=ZLIB | diskdump.INCOMPLETE)
        with opened(write_parts(tmp_path, spec)) as source:
            check_lost(source)

    @pytest.mark.parametrize("which", range(len(ENDS)))
    def test_one_that_says_so_is_enough(self, tmp_path: Path, which: int) -> None:
        """As if the writer died while it marked them complete."""
        paths = write_parts(tmp_path, Spec(some_pages()))
        with opened(paths) as source:
            assert not source.incomplete
        change(paths[which], 424, bytes((ZLIB | diskdump.INCOMPLETE,)))
        with opened(paths) as source:
            assert source.incomplete
            check(source, some_pages())

    def test_one_is_cut_short(self, tmp_path: Path) -> None:
        pages = {pfn: content(pfn) for pfn in range(200)}
        status = diskdump.INCOMPLETE
        paths = write_parts(tmp_path, Spec(pages, status=status), (50, 100, 200))
        size = Path(paths[1]).stat().st_size
        with open(paths[1], "r+b") as part:
            part.truncate(size - 10 * PAGE - 1)
        with opened(paths) as source:
            for pfn, page in pages.items():
                if 89 <= pfn < 100:
                    with pytest.raises(LostPageError, match="file ends"):
                        source.read_page(pfn, 12)
                else:
                    assert source.read_page(pfn, 12) == page
            with pytest.raises(LostPageError) as caught:
                source.view(0, 200 * PAGE)
            assert caught.value.address == 89 * PAGE


class TestHeaders:
    """What is carried along."""

    def test_what_all_have(self, tmp_path: Path) -> None:
        spec = Spec(
            some_pages(), level=17, notes=NOTES, vmcoreinfo=TEXT, nr_cpus=3, tv_sec=1234,
            status=ZLIB | 0x10, utsname={0: b"Linux", 2: b"6.1.0"}, sub={"phys_base": -4096},
        )  # fmt: skip
        paths = write_parts(tmp_path, spec)
        with opened(paths) as source:
            assert b"".join(source.iter_notes()) == NOTES
            assert source.vmcoreinfo == TEXT
            assert (source.dump_level, source.nr_cpus, source.crash_time) == (17, 3, 1234)
            assert (source.eraseinfo, source.phys_base_hint) == (b"", -4096)
            assert (source.incomplete, source.lacks_mem_map) == (False, True)
            assert source.files == tuple(paths)
            assert source.path == ", ".join(paths)

    def test_what_each_says_was_erased(self, tmp_path: Path) -> None:
        """One after the other, as --reassemble writes it."""
        paths = write_parts(tmp_path, Spec(some_pages(), eraseinfo=b"erase jiffies size 8\n"))
        with opened(paths) as source:
            assert source.eraseinfo == len(ENDS) * b"erase jiffies size 8\n"
        change(paths[1], PAGE + 72, (1 << 50).to_bytes(8, "little"))
        with open(paths[1], "ab") as part:
            part.truncate(17 << 20)
        with pytest.raises(FormatError, match="bytes of eraseinfo"):
            open_source(paths)

    def test_what_was_erased_by_the_notes(self, tmp_path: Path) -> None:
        """Where pydumpfile has it, it is the same in all: told once."""
        text = b"erase secret nullify\n"
        sub = {"offset_eraseinfo": PAGE + 104 + len(NOTES), "size_eraseinfo": len(text)}
        sub["size_note"] = len(NOTES)
        paths = write_parts(tmp_path, Spec(some_pages(), notes=NOTES + text, sub=sub))
        with opened(paths) as source:
            assert source.eraseinfo == text
            assert b"".join(source.iter_notes()) == NOTES


class TestRefused:
    """By what is wrong with them, and with nothing left open."""

    @pytest.fixture
    def paths(self, tmp_path: Path) -> list[str]:
        return write_parts(tmp_path, Spec(some_pages(), status=0, notes=NOTES))

    @pytest.fixture(autouse=True)
    def _nothing_left_open(self) -> Iterator[None]:
        gc.collect()  # windows of tests before, each with a descriptor of its own
        before = len(list(Path("/proc/self/fd").iterdir()))
        yield
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    @pytest.mark.parametrize("gone", [0, 1, 3, 5])
    def test_a_part_is_missing(self, paths: list[str], gone: int) -> None:
        start, end = (0, *ENDS)[gone], ENDS[gone]
        del paths[gone]
        with pytest.raises(UsageError, match=f"missing: .* pages {start:#x} to {end:#x}$"):
            open_source(paths)

    def test_the_same_part_twice(self, paths: list[str]) -> None:
        with pytest.raises(
            UsageError, match=f"{paths[3]} and {paths[3]} both have.*each part once"
        ):
            open_source([*paths, paths[3]])

    def test_parts_that_overlap(self, paths: list[str], tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        ends = (10, 36, *ENDS[2:])
        overlapping = write_parts(other, Spec(some_pages(), status=0, notes=NOTES), ends)
        with pytest.raises(UsageError, match="both have the pages from 0x24 on"):
            open_source([*paths[:2], *overlapping[2:]])

    @pytest.mark.parametrize(
        ("other", "what"),
        [({"tv_sec": 1}, "headers"), ({"level": 1}, "headers"), ({"nr_cpus": 2}, "headers"),
         ({"utsname": {2: b"6.2"}}, "headers"), ({"status": ZLIB}, "headers"),
         ({"notes": NOTES[:-4] + b"!\0\0\0"}, "notes"),
         ({"pages": {**some_pages(), 41: bytes(PAGE)}}, "bitmaps"),
         ({"pages": {**some_pages(), 1: None}}, "bitmaps")],
        ids=["time", "level", "CPUs", "release", "codec", "notes", "kept", "existing"],
    )  # fmt: skip
    def test_a_part_of_another_dump(
        self, paths: list[str], tmp_path: Path, other: Mapping[str, object], what: str
    ) -> None:
        spec = {"pages": some_pages(), "status": 0, "notes": NOTES, **other}
        (tmp_path / "other").mkdir()
        others = write_parts(tmp_path / "other", Spec(**spec))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"not parts of the same dump.*different {what}"):
            open_source([*paths[:3], others[3], *paths[4:]])

    def test_a_part_of_another_version(self, paths: list[str], tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        spec = Spec(some_pages(), version=5, status=0, notes=NOTES)
        others = write_parts(tmp_path / "other", spec)
        with pytest.raises(UsageError, match="different headers"):
            open_source([*paths[:3], *others[3:]])

    @pytest.mark.parametrize("size", [-1, -2 * PAGE, 5 * PAGE, 2 * PAGE + 5, 10])
    def test_one_is_cut_short(self, paths: list[str], size: int) -> None:
        """By a byte, some pages, all of them, in the bitmaps, in the header."""
        with open(paths[3], "r+b") as part:
            part.truncate(size if size > 0 else Path(paths[3]).stat().st_size + size)
        with pytest.raises(TruncatedError) as caught:
            open_source(paths)
        assert caught.value.path == paths[3]

    @pytest.mark.parametrize("bounds", [(66, 10), (37, 1 << 40)])
    def test_bounds_that_cannot_be(self, paths: list[str], bounds: tuple[int, int]) -> None:
        change(paths[3], PAGE + 80, b"".join(n.to_bytes(8, "little") for n in bounds))
        with pytest.raises(FormatError, match="damaged") as caught:
            open_source(paths)
        assert caught.value.path == paths[3]

    @pytest.mark.parametrize("machine", [I386, ARM, MIPS_BE], ids=lambda m: m.name.decode())
    def test_a_machine_of_32_bits(self, tmp_path: Path, machine: Machine) -> None:
        """By that, and not because either layout of their sub headers fits some part."""
        paths = write_parts(tmp_path, Spec(some_pages(), machine))
        with pytest.raises(UnsupportedError, match="part of a split dump of a 32-bit machine"):
            open_source(paths)

    def test_a_whole_dump(self, paths: list[str], tmp_path: Path) -> None:
        whole = tmp_path / "whole"
        whole.write_bytes(diskdump.build(Spec(some_pages(), status=0, notes=NOTES)))
        with pytest.raises(UsageError, match=f"{whole} is a whole dump, not a part"):
            open_source([*paths, str(whole)])

    def test_something_else(self, paths: list[str], tmp_path: Path) -> None:
        other = tmp_path / "other"
        with pytest.raises(InputError, match="No such file"):
            open_source([*paths, str(other)])
        other.write_bytes(b"")
        with pytest.raises(FormatError, match="signature"):
            open_source([*paths, str(other)])

    def test_no_file_at_all(self) -> None:
        with pytest.raises(UsageError, match="no file was given"):
            open_source(())

    def test_xen(self, tmp_path: Path) -> None:
        """Found when all of them are open already."""
        notes = note("Xen", 0x1000001, bytes(64))
        with pytest.raises(PydumpfileError, match="Xen"):
            open_source(write_parts(tmp_path, Spec(some_pages(), notes=notes)))


def test_one_file_is_no_set(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    path.write_bytes(diskdump.build(Spec(some_pages())))
    with closing(open_source((str(path),))) as source:
        assert not isinstance(source, SplitSource)
        check(source, some_pages())
