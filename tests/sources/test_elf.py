# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory from ELF cores, against a model that looks at one byte at a time."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Optional

import pytest
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
from pydumpfile.formats.elf import PT_LOAD, Phdr
from pydumpfile.pfn import Ranges
from pydumpfile.sources import Source, open_source
from pydumpfile.sources.base import UnreadableError
from pydumpfile.sources.elf import file_runs
from tests.builders import BuiltCore, CoreSpec
from tests.builders.elfcore import note
from tests.conftest import MIB, CoreMaker
from tests.sources.rawelf import PT_NOTE, Segment, raw_elf

PAGE = 4096
NO_PADDR = (1 << 64) - 1

both_ways = pytest.mark.parametrize("use_mmap", [True, False], ids=["mmap", "pread"])


@contextmanager
def opened(path: Path, use_mmap: bool = True) -> Iterator[Source]:
    with closing(open_source(str(path), use_mmap)) as source:
        yield source


def write_core(path: Path, segments: Sequence[Segment], **wrong: object) -> Path:
    path.write_bytes(raw_elf(segments, **wrong))  # type: ignore[arg-type]
    return path


class Model:
    """What each physical address is, by the definition: the first segment that has it."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.bytes: dict[int, int] = {}
        self.exists: set[int] = set()
        for segment in segments:
            memsz = len(segment.data) if segment.memsz is None else segment.memsz
            self.exists |= set(range(segment.paddr, segment.paddr + memsz))
            for at, byte in enumerate(segment.data):
                self.bytes.setdefault(segment.paddr + at, byte)

    def check(self, source: Source) -> None:
        assert {p for start, end in source.exists for p in range(start, end)} == self.exists
        assert {p for start, end in source.data for p in range(start, end)} == set(self.bytes)
        end = max(self.exists, default=0) + 2
        for start, stop in source.data:
            whole = bytes(self.bytes[p] for p in range(start, stop))
            assert source.read(start, stop - start) == whole
        for paddr in range(0, end, 7):
            size = min(13, end - paddr)
            missing = [p for p in range(paddr, paddr + size) if p not in self.bytes]
            if missing:
                with pytest.raises(NotInDumpError) as caught:
                    source.read(paddr, size)
                assert caught.value.address == missing[0]
                assert caught.value.space == "physical"
            else:
                expected = bytes(self.bytes[p] for p in range(paddr, paddr + size))
                assert source.read(paddr, size) == expected


segment_lists = st.lists(
    st.tuples(st.integers(0, 60), st.binary(max_size=24), st.integers(0, 10)),
    min_size=1,
    max_size=7,
).map(lambda rows: [Segment(data, paddr, len(data) + more) for paddr, data, more in rows])


@both_ways
@given(segments=segment_lists)
def test_any_segments(
    tmp_path_factory: pytest.TempPathFactory, use_mmap: bool, segments: list[Segment]
) -> None:
    """Overlaps, holes, any order, no data, empty ones."""
    path = write_core(tmp_path_factory.getbasetemp() / "any", segments)
    with opened(path, use_mmap) as source:
        Model(segments).check(source)


phdr_lists = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12), st.integers(0, 3)), max_size=9
)


@given(phdr_lists)
def test_file_runs(rows: list[tuple[int, int, int]]) -> None:
    """Against the first segment of each byte; offsets often go on where another left off."""
    loads = [
        Phdr(PT_LOAD, 7, 1000 * which + paddr, 0, paddr, size, size, 0)
        for paddr, size, which in rows
    ]
    expected: dict[int, int] = {}
    for load in loads:
        for at in range(load.p_filesz):
            expected.setdefault(load.p_paddr + at, load.p_offset + at)
    runs = file_runs(loads)
    assert {
        paddr: run.off + paddr - run.start for run in runs for paddr in range(run.start, run.end)
    } == expected
    assert all(run.start < run.end for run in runs)
    for one, other in zip(runs, runs[1:]):
        assert one.end <= other.start
        goes_on = one.end == other.start and one.off + one.end - one.start == other.off
        assert not goes_on, "runs that could be one"


def test_many_segments_cost_no_more_than_a_sort() -> None:
    """60000 segments, each inside one that spans them all: a model of QEMU's -p."""
    n = 60000
    loads = [Phdr(PT_LOAD, 7, 0, 0, 0, n * PAGE, n * PAGE, 0)] + [
        Phdr(PT_LOAD, 7, i * PAGE, 0, i * PAGE, PAGE, PAGE, 0) for i in reversed(range(n))
    ]
    assert file_runs(loads) == [(0, n * PAGE, 0)]
    runs = file_runs(loads[1:])
    assert runs == [(0, n * PAGE, 0)]


SPECS = {
    "fractional": CoreSpec(memory_size=40 * MIB, memory=((0x1000, 0x9EC00), (MIB, 39 * MIB))),
    "odd ends": CoreSpec(memory=((0x1234, 0x8E000), (MIB + 0x800, 30 * MIB)), overlap_image=False),
    "shuffled": CoreSpec(
        memory_size=40 * MIB, split_loads=500, shuffle_loads=True, split_inside_pages=True
    ),
    "no data": CoreSpec(memory_size=40 * MIB, no_data=((30 * MIB, 2 * MIB), (36 * MIB, 4 * MIB))),
    "unaligned": CoreSpec(memory_size=40 * MIB, unaligned=True, zero_vaddr=True),
    "high": CoreSpec(memory=((MIB, 40 * MIB), (1 << 40, 3 * MIB))),
}


@both_ways
@pytest.mark.parametrize("name", SPECS)
def test_pages_of_a_core(core_of: CoreMaker, name: str, use_mmap: bool) -> None:
    built = core_of(SPECS[name])
    with opened(built.path, use_mmap) as source:
        pages = source.exists.pages(12)
        assert pages.end == built.max_mapnr or built.spec.memory
        rng = Random(name)
        pfns = [pfn for start, end in pages for pfn in (start, start + 1, end - 2, end - 1)]
        pfns += [rng.randrange(start, end) for start, end in pages for _ in range(300)]
        for pfn in pfns:
            assert source.read_page(pfn, 12) == built.page(pfn), hex(pfn)
        assert source.read_page(pages.end + 1, 12) == bytes(PAGE)


@both_ways
def test_pn_xnum(core_of: CoreMaker, use_mmap: bool) -> None:
    built = core_of(CoreSpec(memory_size=300 * MIB, split_loads=0x10005, overlap_image=False))
    assert len(built.loads) >= 0xFFFF
    with opened(built.path, use_mmap) as source:
        assert source.exists == Ranges((ld.paddr, ld.paddr + ld.memsz) for ld in built.loads)
        for pfn in range(0x1000, 0x1040):
            assert source.read_page(pfn, 12) == built.page(pfn)


@both_ways
def test_a_view_across_many_runs(tmp_path: Path, use_mmap: bool) -> None:
    rng = Random(5)
    memory = rng.randbytes(64 * PAGE)
    cuts = [0, *sorted(rng.sample(range(1, len(memory)), 40)), len(memory)]
    segments = [Segment(memory[a:b], a) for a, b in zip(cuts, cuts[1:])]
    rng.shuffle(segments)
    with opened(write_core(tmp_path / "core", segments), use_mmap) as source:
        assert source.view(0, len(memory)) == memory
        assert source.view(100, 5000) == memory[100:5100]


@both_ways
def test_view_only_promises_what_is_wanted(tmp_path: Path, use_mmap: bool) -> None:
    memory = bytes(range(1, 251)) * 200
    hole = range(8000, 20000)
    segments = [Segment(memory[: hole.start]), Segment(memory[hole.stop :], hole.stop)]
    with opened(write_core(tmp_path / "core", segments), use_mmap) as source:
        wanted = [(10, 5000), (7990, 8000), (20000, 20001), (30000, 50000)]
        view = source.view(0, len(memory), wanted)
        assert len(view) == len(memory)
        for start, end in wanted:
            assert view[start:end] == memory[start:end]
        for start in (7999, 8000, 19999):
            with pytest.raises(NotInDumpError) as caught:
                source.view(0, len(memory), [(0, 10), (start, 20010)])
            assert caught.value.address == max(start, 8000)
        # Relative to where the view starts.
        assert source.view(6000, 20000, [(14000, 14010)])[14000:14010] == memory[20000:20010]


def test_stretch_end(tmp_path: Path) -> None:
    segments = [Segment(bytes(100), 50), Segment(bytes(100), 120), Segment(bytes(10), 400)]
    with opened(write_core(tmp_path / "core", segments)) as source:
        # The second segment's file offsets do not go on from the first's.
        assert source.stretch_end(50) == 150
        assert source.stretch_end(149) == 150
        assert source.stretch_end(150) == 220
        assert source.stretch_end(220) == 220
        assert source.stretch_end(0) == 0
        assert source.stretch_end(405) == 410


@both_ways
def test_large_views_slide(core_of: CoreMaker, use_mmap: bool) -> None:
    built = core_of(CoreSpec(memory_size=96 * MIB, filled=0.02))
    rng = Random(1)
    with opened(built.path, use_mmap) as source:
        for _ in range(30):
            first = rng.randrange(256, (96 * MIB >> 12) - 4096)
            n = rng.choice([1, 16, 4096])
            view = source.view(first << 12, n << 12)
            for pfn in (first, first + n // 2, first + n - 1):
                at = (pfn - first) << 12
                assert view[at : at + PAGE] == built.page(pfn)


def test_a_view_maps_and_does_not_copy(core_of: CoreMaker) -> None:
    built = core_of(CoreSpec(memory_size=96 * MIB, filled=0.02, overlap_image=False))
    with opened(built.path) as source:
        tracemalloc.start()
        try:
            for paddr in range(16 * MIB, 96 * MIB, 16 * MIB):
                source.view(paddr, 16 * MIB)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < MIB


class TestTruncatedAfterOpening:
    """A file that shrinks while it is read: errors, and no signal."""

    @both_ways
    def test_one_page(self, scratch_core: Path, small: BuiltCore, use_mmap: bool) -> None:
        last = (small.spec.memory_size >> 12) - 1
        with opened(scratch_core, use_mmap) as source:
            assert source.read_page(last, 12) == small.page(last)
            os.truncate(scratch_core, scratch_core.stat().st_size - PAGE)
            with pytest.raises(FaultError) as caught:
                source.read(last << 12, PAGE)
            assert isinstance(caught.value, UnreadableError)
            assert caught.value.space == "physical"
            assert last << 12 <= caught.value.address < (last + 1) << 12
            with pytest.raises(FaultError):
                source.read_page(last, 12)
            assert source.read_page(last - 1, 12) == small.page(last - 1)

    @both_ways
    def test_a_large_view_names_the_first_page(
        self, scratch_core: Path, small: BuiltCore, use_mmap: bool
    ) -> None:
        end = small.spec.memory_size
        with opened(scratch_core, use_mmap) as source:
            os.truncate(scratch_core, scratch_core.stat().st_size - 3 * MIB)
            with pytest.raises(FaultError) as caught:
                source.view(end - 16 * MIB, 16 * MIB)
            assert caught.value.address == end - 3 * MIB
            wanted = [(0, MIB), (12 * MIB, 13 * MIB)]
            view = source.view(end - 16 * MIB, 16 * MIB, wanted)
            for start, stop in wanted:
                for off in range(start, stop, PAGE):
                    pfn = (end - 16 * MIB + off) >> 12
                    assert view[off : off + PAGE] == small.page(pfn)

    @both_ways
    def test_to_nothing(self, scratch_core: Path, use_mmap: bool) -> None:
        with opened(scratch_core, use_mmap) as source:
            os.truncate(scratch_core, 0)
            with pytest.raises(FaultError):
                source.read(16 * MIB, 8)
            with pytest.raises(PydumpfileError):
                list(source.iter_notes())


class TestNotes:
    """What the notes say."""

    def test_of_a_built_core(self, small: BuiltCore) -> None:
        with opened(small.path) as source:
            assert source.nr_cpus == small.spec.n_cpus
            assert source.machine == "x86_64"
            assert source.vmcoreinfo == small.vmcoreinfo.encode()
            blob = b"".join(source.iter_notes())
            assert len(blob) == source.notes_size
            at = source.vmcoreinfo_off
            assert blob[at : at + len(source.vmcoreinfo)] == source.vmcoreinfo
            assert source.phys_base_hint == small.phys_base

    def test_several_segments_of_notes(self, tmp_path: Path) -> None:
        one = note("CORE", 1, bytes(336)) + note("LINUX", 0x700, bytes(3 * MIB))
        two = note("CORE", 1, bytes(336)) + note("VMCOREINFO", 0, b"OSRELEASE=1\n") + bytes(500)
        segments = [
            Segment(one, kind=PT_NOTE), Segment(bytes(16), PAGE), Segment(two, kind=PT_NOTE),
        ]  # fmt: skip
        with opened(write_core(tmp_path / "core", segments)) as source:
            assert source.nr_cpus == 2
            blob = b"".join(source.iter_notes())
            assert blob == one + two
            assert max(map(len, source.iter_notes())) <= MIB
            assert blob[source.vmcoreinfo_off :].startswith(b"OSRELEASE=1\n")

    def test_none(self, tmp_path: Path) -> None:
        with opened(write_core(tmp_path / "core", [Segment(bytes(16))])) as source:
            assert (source.vmcoreinfo, source.notes_size, source.nr_cpus) == (None, 0, 0)
            assert list(source.iter_notes()) == []

    @pytest.mark.parametrize("name", ["Xen", "VMCOREINFO_XEN"])
    def test_xen_is_refused(self, tmp_path: Path, name: str) -> None:
        segments = [Segment(note(name, 0x1000001, bytes(64)), kind=PT_NOTE), Segment(bytes(16))]
        with pytest.raises(UnsupportedError, match="Xen"):
            open_source(str(write_core(tmp_path / "core", segments)))

    def test_a_xen_guest_is_refused(self, tmp_path: Path) -> None:
        """Sections alone: a null one, and that of their names."""
        names = b"\0.shstrtab\0.note.Xen\0.xen_prstatus\0.xen_pages\0"
        header = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 4, 62, 1, 0, 0, 64, 0,
            64, 56, 0, 64, 2, 1,
        )  # fmt: skip
        table = bytes(64) + struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, 192, len(names), 0, 0, 1, 0)
        path = tmp_path / "core"
        path.write_bytes(header + table + names)
        with pytest.raises(UnsupportedError, match="xl dump-core"):
            open_source(str(path))
        path.write_bytes(header + table + names.replace(b"Xen", b"Not"))
        with pytest.raises(FormatError, match="PT_LOAD"):
            open_source(str(path))
        path.write_bytes(header + table[:64])
        with pytest.raises(TruncatedError):
            open_source(str(path))

    def test_a_cut_note(self, tmp_path: Path) -> None:
        cut = note("VMCOREINFO", 0, b"A=1\n" * 100)[:-8]
        segments = [Segment(cut, kind=PT_NOTE), Segment(bytes(16))]
        with pytest.raises(FormatError, match="past its PT_NOTE"):
            open_source(str(write_core(tmp_path / "core", segments)))

    def test_too_many_bytes(self, tmp_path: Path) -> None:
        segments = [Segment(b"", kind=PT_NOTE, filesz=1 << 40, memsz=1 << 40), Segment(bytes(16))]
        with pytest.raises(FormatError, match="notes"):
            open_source(str(write_core(tmp_path / "core", segments)))


class TestHeaders:
    """Segments that mean something, and those that cannot be."""

    @pytest.mark.parametrize(
        ("vaddr", "paddr", "hint"),
        [
            (0xFFFFFFFF81000000, 0x1000000, 0),
            (0xFFFFFFFF9D000000, 0x2000000, 0x2000000 - 0x1D000000),
            (0xFFFF888000000000, 0, None),
            (0, 0, None),
        ],
    )
    def test_phys_base_from_the_image(
        self, tmp_path: Path, vaddr: int, paddr: int, hint: Optional[int]
    ) -> None:
        path = write_core(tmp_path / "core", [Segment(bytes(16), paddr, vaddr=vaddr)])
        with opened(path) as source:
            assert source.phys_base_hint == hint

    def test_segments_without_physical_address_are_passed_over(self, tmp_path: Path) -> None:
        segments = [Segment(b"\1" * 16, NO_PADDR), Segment(b"\2" * 16, PAGE)]
        with opened(write_core(tmp_path / "core", segments)) as source:
            assert list(source.exists) == [(PAGE, PAGE + 16)]
        with pytest.raises(FormatError, match="PT_LOAD"):
            open_source(str(write_core(tmp_path / "none", segments[:1])))

    @pytest.mark.parametrize(
        "segment",
        [Segment(bytes(16), memsz=8), Segment(bytes(16), 0, 1 << 60), Segment(b"", 1 << 52, 1),
         Segment(bytes(16), NO_PADDR - 1), Segment(b"", 0, NO_PADDR, filesz=0)],
    )  # fmt: skip
    def test_sizes_that_cannot_be(self, tmp_path: Path, segment: Segment) -> None:
        with pytest.raises(FormatError, match="PT_LOAD 0"):
            open_source(str(write_core(tmp_path / "core", [segment])))

    @pytest.mark.parametrize(
        "segment",
        [
            Segment(bytes(16), kind=PT_NOTE, filesz=64),
            Segment(bytes(16), kind=PT_NOTE, offset=1 << 40),
            Segment(bytes(16), kind=PT_NOTE, offset=NO_PADDR),
        ],
    )
    def test_notes_that_are_not_there(self, tmp_path: Path, segment: Segment) -> None:
        segments = [Segment(bytes(16), PAGE), segment]
        with pytest.raises(TruncatedError) as caught:
            open_source(str(write_core(tmp_path / "core", segments)))
        assert caught.value.path == str(tmp_path / "core")

    def test_memory_beyond_measure_without_bytes(self, tmp_path: Path) -> None:
        """Its bitmap would fill the disk; what a filtered core can have left is let in."""
        absurd = Segment(data=bytes(4096), paddr=0x1000, memsz=1 << 51)
        with pytest.raises(FormatError, match="describe a machine"):
            open_source(str(write_core(tmp_path / "absurd", [absurd])))
        large = Segment(data=bytes(4096), paddr=0x1000, memsz=1 << 45)
        with opened(write_core(tmp_path / "large", [large])) as source:
            assert source.exists.total == 1 << 45

    def test_physical_address_0_at_file_offset_0(self, tmp_path: Path) -> None:
        """Offset 0 is a place like any other."""
        path = write_core(tmp_path / "core", [Segment(b"", 0, 64, offset=0, filesz=64)])
        with opened(path) as source:
            assert source.read(0, 4) == b"\x7fELF"

    def test_pn_xnum_that_lies(self, tmp_path: Path) -> None:
        path = write_core(tmp_path / "core", [Segment(bytes(64))], extended=True, sh_info=1 << 31)
        with pytest.raises(FormatError, match="program headers"):
            open_source(str(path))
        os.truncate(path, 1 << 38)  # sparse: the file is as large as the headers say
        with pytest.raises(FormatError, match="program headers"):
            open_source(str(path))

    @pytest.mark.parametrize("count", [2, 1000])
    def test_more_headers_than_there_are(self, tmp_path: Path, count: int) -> None:
        with pytest.raises(TruncatedError, match="program headers"):
            open_source(str(write_core(tmp_path / "core", [Segment(bytes(8))], phnum=count)))
