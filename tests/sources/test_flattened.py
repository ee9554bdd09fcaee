# SPDX-License-Identifier: GPL-2.0-or-later
"""Flattened files as the files they stand for."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pydumpfile
from pydumpfile.errors import FormatError, TruncatedError, UnsupportedError
from pydumpfile.sources import open_source
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.flattened import FlattenedImage
from pydumpfile.sources.image import FileImage
from pydumpfile.sources.kdump import KdumpSource
from tests.builders import diskdump
from tests.builders.diskdump import Spec
from tests.builders.elfcore import note
from tests.decompress import LZO, SNAPPY, ZLIB
from tests.sinks.flattened_reader import END_MARK, HEADER, come, file_of, stream_of
from tests.sinks.kdump_reader import Dump
from tests.sources.rawelf import Segment, raw_elf
from tests.sources.stored_pages import check, content, packed, some_pages

Records = list[tuple[int, bytes]]


@contextmanager
def image_of(path: Path, stream: bytes) -> Iterator[FlattenedImage]:
    path.write_bytes(stream)
    with closing(FlattenedImage(FileImage(os.open(path, os.O_RDONLY), str(path)))) as image:
        yield image


@pytest.mark.parametrize("use_mmap", [True, False], ids=["mmap", "pread"])
@given(
    records=st.lists(
        st.tuples(st.integers(0, 200), st.binary(max_size=40)).filter(lambda r: r != (0, b"")),
        max_size=12,
    ),
    spans=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 90)), min_size=1, max_size=6),
)
def test_any_records(
    tmp_path_factory: pytest.TempPathFactory, use_mmap: bool, records: Records,
    spans: list[tuple[int, int]],
) -> None:  # fmt: skip
    """Overlaps, gaps, any order, empty ones: the newest counts, what none has is zero."""
    expected = file_of(records)
    with image_of(tmp_path_factory.getbasetemp() / "any", stream_of(records)) as image:
        assert image.size == len(expected)
        assert not image.is_cut_off
        assert image.read(0, len(expected) + 10) == expected
        windows = image.windows(use_mmap)
        for off, size in spans:
            assert image.read(off, size) == expected[off : off + size]
            if off + size > len(expected):
                with pytest.raises(OSError, match="ends here"):
                    windows.view(off, size)
                with pytest.raises(OSError, match="ends here"):
                    windows.read_into(off, memoryview(bytearray(size)))
            else:
                assert windows.view(off, size) == expected[off : off + size]
                part = windows.view(off, size, [(0, 1), (size // 2, size)])
                assert part[:1] == expected[off : off + 1]
                assert part[size // 2 :] == expected[off + size // 2 : off + size]


def test_two_streams_of_bytes_in_turns(tmp_path: Path) -> None:
    """As descriptors and data come: two chains, whatever their number."""
    rng = Random(1)
    table, data = rng.randbytes(24 * 500), rng.randbytes(500 * 700)
    records = [(0, bytes(100))]
    for i in range(500):
        records.append((100 + 24 * i, table[24 * i : 24 * (i + 1)]))
        records.append((50000 + 700 * i, data[700 * i : 700 * (i + 1)]))
    with image_of(tmp_path / "stream", stream_of(records)) as image:
        assert len(image._chains) == 2
        assert image.read(100, len(table)) == table
        assert image.read(50000, len(data)) == data
        assert image.windows(True).view(50123, 7000) == data[123:7123]


def as_qemu_writes(spec: Spec) -> bytes:
    """The file in QEMU's order and records: no more than 16 KiB of descriptors or data in any."""
    file = diskdump.build(spec)
    n_pages = sum(page is not None for page in spec.pages.values())
    table_off = 4096 * (2 + 2 * -(-(max(spec.pages) + 1) // (8 * 4096)))
    data_off = table_off + 24 * n_pages
    records = [(0, file[:464]), (4096, file[4096 : 4096 + 104 + len(spec.notes)])]
    records += [(off, file[off : off + 4096]) for off in range(8192, table_off, 4096)]
    records.append((data_off, file[data_off : data_off + 4096]))  # the page of zeros comes first
    rest = [
        (off, file[off : min(off + 16384, end)])
        for start, end in ((table_off, data_off), (data_off + 4096, len(file)))
        for off in range(start, end, 16384)
    ]
    return stream_of([*records, *rest[1:], rest[0]])


@pytest.mark.parametrize("kernel", ["c", "python"])
@pytest.mark.parametrize("flag", [ZLIB, LZO, SNAPPY])
@pytest.mark.parametrize("use_mmap", [True, False])
def test_what_qemu_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: int, use_mmap: bool, kernel: str
) -> None:
    """dump-guest-memory -z, -l and -s; few builds of QEMU know the last two."""
    monkeypatch.setenv("PYDUMPFILE_KERNEL", kernel)
    contents = {pfn: content(pfn) for pfn in range(3, 800) if not 100 <= pfn < 200}
    stored = {}
    for pfn, page in contents.items():
        small = packed(flag, page)
        stored[pfn] = (small, flag) if len(small) < len(page) else (page, 0)
    assert {what for _, what in stored.values()} == {0, flag}
    spec = Spec(
        contents, level=1, status=flag, stored=stored, zero_shared=True, nr_cpus=2,
        notes=note("CORE", 1, bytes(336)) * 2 + note("QEMU", 0, bytes(440)) * 2,
    )  # fmt: skip
    path = tmp_path / "stream"
    path.write_bytes(as_qemu_writes(spec))
    with closing(open_source(str(path), use_mmap)) as source:
        assert (source.dump_level, source.incomplete, source.nr_cpus) == (1, False, 2)
        assert not source.only_system_ram
        check(source, contents)
    pydumpfile.dump(path, tmp_path / "dump", 1, "zlib")
    dump = Dump(tmp_path / "dump")
    assert {pfn: dump.page(pfn) for pfn in dump.pfns} == contents


def in_records(file: bytes, size: int) -> Records:
    """The file in pieces; the first of them comes last as well, as ours do it."""
    records = [(off, file[off : off + size]) for off in range(0, len(file), size)]
    return [*records[1::2], *records[0::2], *records[:1], *records[:1]]


@pytest.mark.parametrize("size", [100, 4096, 5000, 1 << 20])
def test_a_kdump_file_inside(tmp_path: Path, size: int) -> None:
    pages = some_pages()
    path = tmp_path / "stream"
    path.write_bytes(stream_of(in_records(diskdump.build(Spec(pages)), size)) + b"what follows")
    with closing(open_source(str(path))) as source:
        assert isinstance(source, KdumpSource)
        check(source, pages)
        twin = source.another()
        assert twin.view(3 << 12, 37 << 12) == b"".join(pages[pfn] or b"" for pfn in range(3, 40))


@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_an_elf_core_inside(tmp_path: Path, size: int) -> None:
    memory = Random(2).randbytes(50000)
    path = tmp_path / "stream"
    path.write_bytes(stream_of(in_records(raw_elf([Segment(memory, 4096)]), size)))
    with closing(open_source(str(path))) as source:
        assert isinstance(source, ElfSource)
        assert source.read(4096, len(memory)) == memory
        assert source.view(5000, 20000) == memory[904:20904]


@given(
    records=st.lists(
        st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=40)), min_size=1, max_size=9
    ),
    cut=st.floats(0, 1, exclude_max=True),
)
def test_what_has_come_of_a_stream_that_was_cut_off(
    tmp_path_factory: pytest.TempPathFactory, records: Records, cut: float
) -> None:
    stream = stream_of(records)
    first, end = len(HEADER) + 16 + 1, len(stream)
    left = first + int(cut * (end - first))
    with image_of(tmp_path_factory.getbasetemp() / "cut", stream[:left]) as image:
        assert image.is_cut_off
        assert image.read(0, image.size + 1) == file_of(come(records, left))


def test_on_a_disk_that_nobody_wrote_on(tmp_path: Path) -> None:
    """What comes behind is not read, be it terabytes."""
    stream = stream_of([(0, b"abc"), (100, b"defg")])[:-16]
    file = file_of([(0, b"abc"), (100, b"defg")])
    reads = []

    class Counted(FileImage):
        def read(self, off: int, size: int) -> bytes:
            reads.append(off)
            return super().read(off, size)

    path = tmp_path / "disk"
    path.write_bytes(stream)
    os.truncate(path, 1 << 20)
    with closing(FlattenedImage(Counted(os.open(path, os.O_RDONLY), str(path)))) as image:
        assert image.is_cut_off
        assert len(reads) == 4
        assert image.read(0, 1000) == file


def open_stream(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "stream"
    path.write_bytes(stream)
    open_source(str(path)).close()


class TestWhatIsNone:
    """Streams that were cut off, and damaged ones."""

    RECORDS: Records = [(0, b"abc"), (100, b"defg")]  # noqa: RUF012

    @pytest.mark.parametrize("left", [0, 1, 15, 16])
    def test_cut_before_the_first_record(self, tmp_path: Path, left: int) -> None:
        stream = stream_of(self.RECORDS)
        with pytest.raises(TruncatedError, match="end mark"):
            open_stream(tmp_path, stream[: len(HEADER) + left])

    @pytest.mark.parametrize("size", [13, 16, 4095])
    def test_cut_inside_the_header(self, tmp_path: Path, size: int) -> None:
        with pytest.raises(TruncatedError):
            open_stream(tmp_path, HEADER[:size].ljust(16, b"\0"))

    @pytest.mark.parametrize("record", [(-2, 10), (10, -1), (1 << 50, 1), (-1, 5), (5, 1 << 62)])
    def test_records_that_cannot_be(self, tmp_path: Path, record: tuple[int, int]) -> None:
        stream = HEADER + struct.pack(">qq", *record) + bytes(64) + END_MARK
        with pytest.raises(FormatError):
            open_stream(tmp_path, stream)

    def test_another_version(self, tmp_path: Path) -> None:
        header = HEADER[:24] + struct.pack(">q", 2) + HEADER[32:]
        with pytest.raises(UnsupportedError, match="version 2"):
            open_stream(tmp_path, header + END_MARK)

    def test_offsets_that_only_descend(self, tmp_path: Path) -> None:
        records = [(10 * i, b"x") for i in reversed(range(300))]
        with pytest.raises(FormatError, match="-R can"):
            open_stream(tmp_path, stream_of(records))

    def test_a_stream_in_a_stream(self, tmp_path: Path) -> None:
        path = tmp_path / "stream"
        path.write_bytes(stream_of([(0, stream_of(self.RECORDS))]))
        with pytest.raises(FormatError, match="an ELF vmcore"):
            open_source(str(path))

    def test_something_else_inside(self, tmp_path: Path) -> None:
        path = tmp_path / "stream"
        path.write_bytes(stream_of([(0, b"sadump\0\0" + bytes(100))]))
        with pytest.raises(UnsupportedError, match="sadump"):
            open_source(str(path))
