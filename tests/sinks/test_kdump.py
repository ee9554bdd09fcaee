# SPDX-License-Identifier: GPL-2.0-or-later
"""The order in which a dump is written, so that at no time it says more than it holds."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import pytest

from pydumpfile.bitmap import Bitmap
from pydumpfile.formats.kdump import pack_descriptor
from pydumpfile.sinks.base import Bytes
from pydumpfile.sinks.file import OutputFile
from pydumpfile.sinks.kdump import KdumpSink, Subject
from tests.sinks.kdump_reader import Dump

PAGE = 4096
SUBJECT = Subject(
    page_size=PAGE, utsname=b"", crash_time=7, max_mapnr=5000, nr_cpus=3, phys_base=-4096,
    dump_level=31, notes_size=5000, vmcoreinfo_off=100, vmcoreinfo_size=50,
)  # fmt: skip


class Recorder(OutputFile):
    """Keeps every write, and can replay the file as it was after any of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), False, "/nonexistent")
        self.writes: list[tuple[int, bytes]] = []
        self.syncs: list[int] = []

    def write_at(self, off: int, data: Bytes) -> None:
        self.writes.append((off, bytes(data)))
        super().write_at(off, data)

    def extend(self, size: int) -> None:
        self.writes.append((size, b""))
        super().extend(size)

    def sync(self) -> None:
        self.syncs.append(len(self.writes))
        super().sync()


def write_a_dump(output: OutputFile, n_pages: int) -> list[bytes]:
    """A whole dump of raw pages; returns them. The pages are 16, 17, ..."""
    rng = Random(3)
    sink = KdumpSink(output, SUBJECT, 0x20)
    sink.write_headers()
    sink.write_notes([b"n" * 3000, b"m" * 2000])
    for write in (sink.write_bitmap1, sink.write_bitmap2):
        for first in range(0, 5000, 2048):
            window = Bitmap(first, min(first + 2048, 5000))
            window.set_ranges([(16, 16 + n_pages)])
            write(window)
    assert sink.read_bitmap2(2048, 4096).count() == max(0, min(16 + n_pages, 4096) - 2048)
    sink.start_pages(n_pages, share_zero=True)
    pages = []
    for first in range(0, n_pages, 100):
        batch = [rng.randbytes(PAGE) for _ in range(min(100, n_pages - first))]
        off = sink.next_data_off
        sink.write_batch(
            b"".join(pack_descriptor(off + i * PAGE, PAGE, 0) for i in range(len(batch))),
            b"".join(batch),
        )
        pages += batch
    sink.finish(complete=True)
    sink.close()
    assert output.size == Path(output.path).stat().st_size
    return pages


def test_a_dump_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    pages = write_a_dump(Recorder(path), 2900)
    dump = Dump(path)
    assert dump.notes == b"n" * 3000 + b"m" * 2000
    assert (dump.sub_hdr_size, dump.offset_note, dump.offset_vmcoreinfo) == (2, 4200, 4300)
    assert (dump.tv_sec, dump.nr_cpus, dump.phys_base, dump.size_vmcoreinfo) == (7, 3, -4096, 50)
    assert dump.pfns == list(range(16, 2916))
    assert [dump.page(pfn) for pfn in dump.pfns] == pages
    assert not dump.incomplete
    zero_off = dump.descriptors_off + 24 * 2900
    assert dump.raw[zero_off : zero_off + PAGE] == bytes(PAGE)


def test_after_any_write_the_file_holds_what_it_says(tmp_path: Path) -> None:
    output = Recorder(tmp_path / "dump")
    pages = write_a_dump(output, 2900)
    descriptors_off = Dump(tmp_path / "dump").descriptors_off
    table = range(descriptors_off, descriptors_off + 24 * 2900, 24)
    image = bytearray()
    n_described = 0
    for number, (off, data) in enumerate(output.writes):
        image.extend(bytes(max(0, off + len(data) - len(image))))
        image[off : off + len(data)] = data
        (status,) = struct.unpack_from("<I", image, 424)
        last = number == len(output.writes) - 1
        assert bool(status & 8) == (not last), "complete before the last write, or not even then"
        if len(image) < table.stop or off + len(data) <= table.start or off >= table.stop:
            continue
        n_described = 0
        for index, at in enumerate(table):
            where, size, _, _ = struct.unpack_from("<qIIQ", image, at)
            if where == 0:
                continue
            assert where + size <= len(image), "a descriptor of bytes that are not there yet"
            assert image[where : where + size] == pages[index]
            n_described += 1
    assert n_described == 2900
    # Everything is on the disk before the header says so, and then the header.
    assert output.syncs == [len(output.writes) - 1, len(output.writes)]


def test_without_notes_the_sub_header_points_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    subject = Subject(PAGE, b"", 0, 8, 0, 0, 0, 0, 0, 0)
    sink = KdumpSink(OutputFile(str(path), False, "/nonexistent"), subject, 0)
    sink.write_headers()
    sink.write_notes([])
    sink.start_pages(0, share_zero=False)
    sink.finish(complete=True)
    sink.close()
    dump = Dump(path)
    assert (dump.offset_note, dump.size_note, dump.offset_vmcoreinfo) == (0, 0, 0)
    assert dump.utsname == [""] * 6
    assert dump.pfns == []
    assert sink.zero_off == 0
    assert len(dump.raw) == dump.descriptors_off


@pytest.mark.parametrize("lost", [{0}, {9}, {3, 6}, {0, 1, 8, 9}, set(range(10))])
def test_lost_pages_have_their_place_in_the_table(tmp_path: Path, lost: set[int]) -> None:
    path = tmp_path / "dump"
    sink = KdumpSink(OutputFile(str(path), False, "/nonexistent"), SUBJECT, 0)
    sink.write_headers()
    window = Bitmap(0, 5000)
    window.set_ranges([(10, 20)])
    sink.write_bitmap2(window)
    sink.start_pages(10, share_zero=False)
    pages = {i: bytes((i,)) * PAGE for i in range(10) if i not in lost}
    offs = range(sink.next_data_off, sink.next_data_off + 10 * PAGE, PAGE)
    descriptors = b"".join(pack_descriptor(off, PAGE, 0) for off, _ in zip(offs, pages))
    sink.write_batch(descriptors, b"".join(pages.values()), dict.fromkeys(lost))
    sink.finish(complete=False)
    sink.close()
    dump = Dump(path)
    assert dump.incomplete
    assert dump.pfns == list(range(10, 20))
    assert dump.lost == {10 + i for i in lost}
    assert [dump.page(10 + i) for i in range(10)] == [pages.get(i) for i in range(10)]


@pytest.mark.parametrize("max_mapnr", [1, 8, 32768, 32769])
def test_bitmaps_are_whole_blocks(tmp_path: Path, max_mapnr: int) -> None:
    path = tmp_path / "dump"
    subject = Subject(PAGE, b"", 0, max_mapnr, 0, 0, 0, 0, 0, 0)
    sink = KdumpSink(OutputFile(str(path), False, "/nonexistent"), subject, 0)
    sink.write_headers()
    end = -(-max_mapnr // 8) * 8
    window = Bitmap(0, end)
    window.set_ranges([(0, max_mapnr)])
    sink.write_bitmap1(window)
    sink.write_bitmap2(window)
    sink.start_pages(max_mapnr, share_zero=False)
    sink.close()
    dump = Dump(path)
    assert dump.bitmap_blocks == 2 * -(-max_mapnr // (8 * PAGE))
    assert dump.pfns == list(range(max_mapnr))
    assert dump.bitmap1 == dump.bitmap2
    assert len(dump.bitmap2) * 8 >= max_mapnr
    assert set(dump.descriptors.values()) == {(0, 0, 0, 0)}
