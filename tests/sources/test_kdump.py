# SPDX-License-Identifier: GPL-2.0-or-later
"""Kdump-compressed files as memory, against the pages that were put into them."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.errors import (
    FaultError,
    FormatError,
    NotInDumpError,
    PydumpfileError,
    TruncatedError,
    UnsupportedError,
)
from pydumpfile.sources import Source, open_source
from pydumpfile.sources.base import UnreadableError
from pydumpfile.sources.kdump import KdumpSource
from pydumpfile.sources.pagestore import LostPageError
from tests.builders import diskdump
from tests.builders.diskdump import AARCH64, I386, INCOMPLETE, MACHINES, S390X, Machine, Spec
from tests.builders.elfcore import note
from tests.decompress import LZO, SNAPPY, ZLIB, ZSTD
from tests.sinks.flattened_reader import stream_of

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


@contextmanager
def opened(path: Path, use_mmap: bool = True) -> Iterator[Source]:
    with closing(open_source(str(path), use_mmap)) as source:
        assert isinstance(source, KdumpSource)
        yield source


def write(tmp_path: Path, spec: Spec) -> Path:
    path = tmp_path / "dump"
    path.write_bytes(diskdump.build(spec))
    return path


@both_ways
@pytest.mark.parametrize("version", [1, 3, 6])
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name.decode())
def test_every_machine(tmp_path: Path, machine: Machine, version: int, use_mmap: bool) -> None:
    size = machine.page_size
    pages = some_pages(size)
    with opened(write(tmp_path, Spec(pages, machine, version)), use_mmap) as source:
        assert source.machine == machine.name.decode()
        check(source, pages, size)


@pytest.mark.usefixtures("loops")
@both_ways
@pytest.mark.parametrize("flag", [0, ZLIB, LZO, SNAPPY, ZSTD])
def test_every_encoding(tmp_path: Path, flag: int, use_mmap: bool) -> None:
    """Some pages in the encoding, the others as they are."""
    pages = some_pages()
    spec = Spec(pages, status=flag, stored=packed_pages(flag, pages))
    with opened(write(tmp_path, spec), use_mmap) as source:
        check(source, pages)


@pytest.mark.usefixtures("loops")
@both_ways
@pytest.mark.parametrize("shuffled", [False, True])
def test_views(tmp_path: Path, use_mmap: bool, shuffled: bool) -> None:
    """Of many pages, with holes between what is wanted."""
    pages = some_pages()
    spec = Spec(pages, shuffled=shuffled, zero_shared=True)
    with opened(write(tmp_path, spec), use_mmap) as source:
        run = b"".join(content(pfn) for pfn in range(3, 40))
        assert source.view(3 * PAGE, 37 * PAGE) == run
        assert source.view(3 * PAGE + 100, 5000) == run[100:5100]
        wanted = [(0, 10), (PAGE - 1, PAGE + 1), (37 * PAGE, 37 * PAGE), (47 * PAGE, 49 * PAGE)]
        wanted += [(57 * PAGE + 8, 57 * PAGE + 9), (59 * PAGE, 60 * PAGE), (61 * PAGE, 80 * PAGE)]
        view = source.view(3 * PAGE, 87 * PAGE, wanted)
        assert len(view) == 87 * PAGE
        memory = b"".join(pages.get(pfn) or bytes(PAGE) for pfn in range(3, 90))
        for start, end in wanted:
            assert view[start:end] == memory[start:end], (start, end)
        with pytest.raises(NotInDumpError) as caught:
            source.view(3 * PAGE, 60 * PAGE)
        assert caught.value.address == 40 * PAGE
        with pytest.raises(NotInDumpError) as caught:
            source.view(3 * PAGE, 60 * PAGE, [(0, 9), (47 * PAGE, 50 * PAGE)])
        assert caught.value.address == 52 * PAGE


def test_views_larger_than_a_window(tmp_path: Path) -> None:
    pages = {pfn: content(pfn) for pfn in range(100, 5000)}
    with opened(write(tmp_path, Spec(pages))) as source:
        size = 4800 * PAGE
        assert source.view(100 * PAGE, size) == b"".join(pages[pfn] for pfn in range(100, 4900))
        wanted = [(pfn * PAGE, (pfn + 1) * PAGE) for pfn in range(0, 4800, 7)]
        view = source.view(100 * PAGE, size, wanted)
        for start, end in wanted:
            assert view[start:end] == pages[100 + start // PAGE]


@given(
    KINDS,
    st.lists(st.tuples(st.integers(0, 70100), st.integers(0, 300)), max_size=5),
)
def test_sets_of_pages(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: Kinds,
    ranges: list[tuple[int, int]],
) -> None:
    """Any bitmaps, across the pieces in which they are read."""
    pages = pages_of(kinds)
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(diskdump.build(Spec(pages)))
    with opened(path) as source:
        held = source.data.pages(12)
        kept = {pfn for pfn, page in pages.items() if page is not None}
        for first, n in ranges:
            inside = {pfn for pfn in kept if first <= pfn < first + n}
            assert {p for run in held.within(first, first + n) for p in range(*run)} == inside
            clipped = held.clipped(first, first + n)
            assert (clipped.total, clipped.end) == (len(inside), max(inside, default=-1) + 1)
            assert {p for run in clipped for p in range(*run)} == inside
        for pfn, page in pages.items():
            if page is not None:
                assert source.read_page(pfn, 12) == page


def test_pages_in_the_dump_that_never_were(tmp_path: Path) -> None:
    """A bit of the 2nd bitmap alone has a descriptor, and is no page for anybody."""
    pages = some_pages()
    path = write(tmp_path, Spec(pages))
    bitmap1_off = 2 * PAGE
    with path.open("r+b") as dump:
        dump.seek(bitmap1_off + 70 // 8)
        dump.write(bytes(1))  # pages 64 to 71
    left = {pfn: page for pfn, page in pages.items() if not 64 <= pfn < 72}
    with opened(path) as source:
        held, exists = source.data.pages(12), source.exists.pages(12)
        assert {p for run in exists for p in range(*run)} == set(left)
        kept = {pfn for pfn, page in left.items() if page is not None}
        assert {p for run in held for p in range(*run)} == kept
        assert held.total == len(kept)
        for pfn in kept:
            assert source.read_page(pfn, 12) == left[pfn]


def test_another_for_another_thread(tmp_path: Path) -> None:
    with opened(write(tmp_path, Spec(some_pages()))) as source:
        check_twins(source)


class TestLostPages:
    """The dump should have them, and has not: never zeros, never a page of somebody else."""

    def test_of_an_incomplete_dump(self, tmp_path: Path) -> None:
        spec = Spec(some_pages(), lost=LOST, status=ZLIB | INCOMPLETE)
        with opened(write(tmp_path, spec)) as source:
            check_lost(source)

    @both_ways
    @pytest.mark.parametrize("share_of_the_data", [0.0, 0.3, 0.9])
    def test_cut_inside_the_data(
        self, tmp_path: Path, use_mmap: bool, share_of_the_data: float
    ) -> None:
        pages = {pfn: content(pfn) for pfn in range(200)}
        path = write(tmp_path, Spec(pages, status=0))
        whole = path.stat().st_size
        os.truncate(path, whole - int(200 * PAGE * (1 - share_of_the_data)))
        n_left = int(200 * share_of_the_data)
        with opened(path, use_mmap) as source:
            for pfn in range(n_left):
                assert source.read_page(pfn, 12) == content(pfn)
            with pytest.raises(LostPageError, match="file ends") as caught:
                source.view(0, 200 * PAGE)
            assert caught.value.address == n_left * PAGE

    @both_ways
    @pytest.mark.parametrize("behind", [0, 1, 20 * PAGE, 100 * PAGE, (1 << 63) - 2 * PAGE])
    def test_one_leads_past_the_end(self, tmp_path: Path, use_mmap: bool, behind: int) -> None:
        """Among pages that are read in pieces, since others lie between."""
        path = write(tmp_path, Spec({pfn: content(pfn + 1) for pfn in range(80)}, status=0))
        off = path.stat().st_size + behind
        with path.open("r+b") as dump:
            dump.seek(4 * PAGE + 24 * 60)
            dump.write(off.to_bytes(8, "little"))
        with opened(path, use_mmap) as source:
            wanted = [(0, 30 * PAGE), (50 * PAGE, 80 * PAGE)]
            with pytest.raises(LostPageError, match="file ends") as caught:
                source.view(0, 80 * PAGE, wanted)
            assert caught.value.address == 60 * PAGE
            for pfn in (59, 61):
                assert source.read_page(pfn, 12) == content(pfn + 1)

    def test_cut_inside_the_descriptors(self, tmp_path: Path) -> None:
        pages = {pfn: content(pfn) for pfn in range(200)}
        path = write(tmp_path, Spec(pages))
        os.truncate(path, 4 * PAGE + 24 * 50 + 12)
        with opened(path) as source:
            with pytest.raises(LostPageError):
                source.read_page(0, 12)
            with pytest.raises(LostPageError):
                source.read_page(199, 12)

    @pytest.mark.parametrize("size", [3 * PAGE, 4 * PAGE - 1])
    def test_cut_inside_the_bitmaps(self, tmp_path: Path, size: int) -> None:
        path = write(tmp_path, Spec({pfn: content(pfn) for pfn in range(200)}))
        os.truncate(path, size)
        with pytest.raises(TruncatedError, match="bitmaps"):
            open_source(str(path))

    def test_a_file_that_shrinks_while_it_is_read(self, tmp_path: Path) -> None:
        path = write(tmp_path, Spec({pfn: content(pfn) for pfn in range(200)}, status=0))
        with opened(path) as source:
            assert source.read_page(7, 12) == content(7)
            os.truncate(path, 5 * PAGE + 24 * 200)
            with pytest.raises(FaultError) as caught:
                source.view(0, 100 * PAGE)
            assert caught.value.address == PAGE
            os.truncate(path, 10)
            with pytest.raises(FaultError):
                source.view(100 * PAGE, 100 * PAGE)

    @pytest.mark.usefixtures("loops")
    @pytest.mark.parametrize(
        ("stored", "flags"),
        [(bytes(100), 0), (bytes(4097), 0), (b"", 0), (bytes(100), ZLIB), (b"", ZLIB),
         (bytes(100), ZSTD), (bytes(100), LZO), (bytes(3), SNAPPY), (bytes(5000), ZLIB),
         (content(1), 0x40), (content(1), ZLIB | ZSTD)],
    )  # fmt: skip
    def test_damaged_ones(self, tmp_path: Path, stored: bytes, flags: int) -> None:
        pages = {pfn: content(pfn) for pfn in range(3, 40)}
        spec = Spec(pages, stored={20: (stored, flags)})
        with opened(write(tmp_path, spec)) as source:
            with pytest.raises(FaultError, match="no page") as caught:
                source.view(3 * PAGE, 37 * PAGE)
            assert caught.value.address == 20 * PAGE
            assert not isinstance(caught.value, (NotInDumpError, UnreadableError))
            for pfn in (19, 21, 39):
                assert source.read_page(pfn, 12) == content(pfn)

    @pytest.mark.usefixtures("loops")
    def test_pages_that_expand_to_another_size(self, tmp_path: Path) -> None:
        pages = {pfn: content(pfn) for pfn in range(3, 40)}
        short, long = bytes(PAGE - 1), bytes(PAGE + 1)
        for flags, stored in [
            (ZLIB, zlib.compress(short)), (ZLIB, zlib.compress(long)),
            (ZSTD, zstandard.ZstdCompressor().compress(short)),
            (ZSTD, zstandard.ZstdCompressor().compress(long)),
        ]:  # fmt: skip
            spec = Spec(pages, stored={20: (stored, flags)})
            with opened(write(tmp_path, spec)) as source, pytest.raises(FaultError) as caught:
                source.view(3 * PAGE, 37 * PAGE)
            assert caught.value.address == 20 * PAGE

    @pytest.mark.parametrize("offset", [1, 4096, (1 << 63) - 1, -1, -(1 << 63)])
    def test_descriptors_that_lead_nowhere(self, tmp_path: Path, offset: int) -> None:
        path = write(tmp_path, Spec({pfn: content(pfn) for pfn in range(40)}))
        with path.open("r+b") as dump:
            dump.seek(4 * PAGE + 24 * 7)
            dump.write((offset & (1 << 64) - 1).to_bytes(8, "little"))
        with opened(path) as source, pytest.raises(FaultError) as caught:
            source.view(0, 40 * PAGE)
        assert caught.value.address == 7 * PAGE


class TestHeaders:
    """What is carried along, and what is refused."""

    def test_everything_that_is_carried(self, tmp_path: Path) -> None:
        erase = b"erase jiffies size 8\n"
        spec = Spec(
            some_pages(), level=17, notes=NOTES, vmcoreinfo=TEXT, eraseinfo=erase, nr_cpus=3,
            tv_sec=1234, status=ZLIB | 0x10, utsname={0: b"Linux", 2: b"6.1.0"},
            sub={"phys_base": -4096},
        )  # fmt: skip
        with opened(write(tmp_path, spec)) as source:
            assert b"".join(source.iter_notes()) == NOTES
            assert source.notes_size == len(NOTES)
            assert source.vmcoreinfo == TEXT
            assert NOTES[source.vmcoreinfo_off :].startswith(TEXT)
            assert (source.dump_level, source.nr_cpus, source.crash_time) == (17, 3, 1234)
            assert source.eraseinfo == erase
            assert (source.incomplete, source.lacks_mem_map) == (False, True)
            assert source.phys_base_hint == -4096
            assert source.only_system_ram
            assert source.utsname_bytes is not None
            assert source.utsname_bytes[130:136] == b"6.1.0\0"
            assert not source.reads_gaps

    def test_vmcoreinfo_of_files_before_there_were_notes(self, tmp_path: Path) -> None:
        with opened(write(tmp_path, Spec(some_pages(), version=3, vmcoreinfo=TEXT))) as source:
            assert source.vmcoreinfo == TEXT
            blob = b"".join(source.iter_notes())
            assert len(blob) == source.notes_size
            assert blob == note("VMCOREINFO", 0, TEXT)

    def test_none_of_it(self, tmp_path: Path) -> None:
        spec = Spec({5: None}, replace(diskdump.X86_64, name=b""), version=1)
        with opened(write(tmp_path, spec)) as source:
            assert source.machine == "x86_64"  # nothing else is read that has such pages
            assert (source.vmcoreinfo, source.notes_size, source.nr_cpus) == (None, 0, 0)
            assert (source.utsname_bytes, source.eraseinfo, source.dump_level) == (None, b"", 0)
            assert list(source.iter_notes()) == []
            assert source.data.end == 0

    @pytest.mark.parametrize("machine", [AARCH64, S390X, I386], ids=lambda m: m.name.decode())
    def test_nameless_others(self, tmp_path: Path, machine: Machine) -> None:
        with opened(write(tmp_path, Spec({5: None}, replace(machine, name=b"")))) as source:
            assert "nameless" in source.machine

    def test_qemu(self, tmp_path: Path) -> None:
        """All of a guest's memory, of any kind: not System RAM alone."""
        notes = note("CORE", 1, bytes(336)) + note("QEMU", 0, bytes(440))
        with opened(write(tmp_path, Spec(some_pages(), notes=notes))) as source:
            assert not source.only_system_ram
            assert source.nr_cpus == 1

    def test_xen_is_refused(self, tmp_path: Path) -> None:
        notes = note("Xen", 0x1000001, bytes(64))
        with pytest.raises(UnsupportedError, match="Xen"):
            open_source(str(write(tmp_path, Spec(some_pages(), notes=notes))))

    @pytest.mark.parametrize("version", [2, 6])
    def test_one_part_of_several_is_refused(self, tmp_path: Path, version: int) -> None:
        sub = {"split": 1, "end_pfn": 0x4000, "end_pfn_64": 0x4000}
        path = write(tmp_path, Spec(some_pages(), version=version, sub=sub))
        with pytest.raises(
            UnsupportedError, match=r"part of a split.*0x4000.*give all.*--reassemble"
        ):
            open_source(str(path))

    @pytest.mark.parametrize(
        ("sub", "says"),
        [({"max_mapnr_64": 1 << 60}, "pages"), ({"max_mapnr_64": 1 << 20}, "pages"),
         ({"offset_note": 4200, "size_note": 1 << 50}, "notes"),
         ({"offset_note": 1 << 62, "size_note": 100}, "notes"),
         ({"offset_eraseinfo": 4200, "size_eraseinfo": 1 << 50}, "eraseinfo"),
         ({"offset_vmcoreinfo": 1 << 63, "size_vmcoreinfo": 64}, "VMCOREINFO")],
    )  # fmt: skip
    def test_numbers_that_cannot_be(
        self, tmp_path: Path, sub: Mapping[str, int], says: str
    ) -> None:
        path = write(tmp_path, Spec({5: None}, sub=sub))
        with pytest.raises(PydumpfileError, match=says):
            open_source(str(path))

    def test_pages_of_another_size_than_the_machine_has(self, tmp_path: Path) -> None:
        machine = replace(diskdump.X86_64, page_size=8192)
        with pytest.raises(FormatError, match="blocks of 4096"):
            open_source(str(write(tmp_path, Spec({5: None}, machine))))


def test_memory_does_not_grow_with_the_machine(tmp_path: Path) -> None:
    """4 TiB, of which a page here and there is kept: two bitmaps of 128 MiB, sparse."""
    far = 1 << 30
    path = write(tmp_path, Spec({0: content(1), 7: content(2)}))
    raw = bytearray(path.read_bytes())
    half = far // 8
    raw[436:440] = (2 * half // PAGE).to_bytes(4, "little")
    raw[440:444] = far.to_bytes(4, "little")
    raw[PAGE + 96 : PAGE + 104] = far.to_bytes(8, "little")
    table_off = 2 * PAGE + 2 * half
    with path.open("wb") as dump:
        dump.write(raw[: 2 * PAGE])
        for bitmap_off in (2 * PAGE, 2 * PAGE + half):
            for byte in range(0, half, half // 16):
                dump.seek(bitmap_off + byte)
                dump.write(b"\x55")
        dump.seek(table_off)
        data_off = table_off + 24 * 64
        dump.write(b"".join(
            (data_off + i * PAGE).to_bytes(8, "little") + PAGE.to_bytes(16, "little")
            for i in range(64)
        ))  # fmt: skip
        dump.write(b"".join(content(i) for i in range(64)))
    tracemalloc.start()
    try:
        with opened(path) as source:
            assert source.data.total == 64 * PAGE
            for i, pfn in enumerate(8 * byte for byte in range(0, half, half // 16)):
                assert source.read_page(pfn + 2, 12) == content(4 * i + 1)
                assert len(source.view(pfn * PAGE, 7 * PAGE, [(0, PAGE), (6 * PAGE, 7 * PAGE)]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20


@pytest.mark.parametrize("flattened", [False, True])
def test_damaged_anywhere(tmp_path: Path, flattened: bool) -> None:
    """Some bytes of headers, bitmaps, descriptors, data or records are others: our errors alone."""
    whole = diskdump.build(
        Spec(some_pages(), notes=NOTES, vmcoreinfo=TEXT, eraseinfo=b"erase x\n", zero_shared=True)
    )
    if flattened:
        whole = stream_of([(off, whole[off : off + 3000]) for off in range(0, len(whole), 3000)])
    path = tmp_path / "dump"
    opened_ones = 0
    for seed in range(150):
        rng = Random(seed)
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            start = rng.choice([0, 4096, 8192, *rng.choices(range(len(whole)), k=3)])
            at = start + rng.randrange(200)
            bad = rng.choice([b"\xff" * 8, bytes(8), rng.randbytes(8), b"\0\0\0\x80\0\0\0\x80"])
            damaged[at : at + 8] = bad[: rng.choice([1, 4, 8])]
        cut = rng.randrange(len(damaged)) if seed % 5 == 0 else len(damaged)
        path.write_bytes(damaged[:cut])
        try:
            source = open_source(str(path))
        except PydumpfileError:
            continue
        with closing(source):
            opened_ones += 1
            for pfn in range(100):
                with suppress(PydumpfileError):
                    source.read(pfn << 12, PAGE)
            with suppress(PydumpfileError):
                source.view(0, 100 * PAGE, [(3 * PAGE, 40 * PAGE)])
            with suppress(PydumpfileError):
                list(source.iter_notes())
            assert source.data.total >= 0
    assert opened_ones > 20
