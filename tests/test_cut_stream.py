# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams that were cut off: the file made of one has all that came, and no page by half.

It has the very pages that the stream has for who reads that itself.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Optional

import pytest

import pydumpfile
from pydumpfile import rearrange as module
from pydumpfile.errors import (
    FaultError,
    InputError,
    OutputError,
    SizeLimitError,
    TruncatedError,
)
from pydumpfile.rearrange import rearrange
from pydumpfile.sinks import Target
from pydumpfile.sources import open_source
from tests.builders import BuiltCore, diskdump
from tests.builders.diskdump import S390X, X86_64, Machine, Spec
from tests.conftest import Command
from tests.sinks.flattened_reader import come, file_of, records_of, stream_of
from tests.sinks.full_disk import Disk
from tests.sinks.kdump_reader import INCOMPLETE, Dump

PAGE = 4096
Records = list[tuple[int, bytes]]

PAGES = {
    pfn: Random(pfn).randbytes(PAGE) if pfn % 2 else f"page {pfn} ".encode().ljust(PAGE, b".")
    for pfn in range(8)
}
TABLE_OFF = 4 * PAGE
TABLE_END = TABLE_OFF + 24 * len(PAGES)


def cut_and_rearranged(stream: bytes, size: int, folder: Path) -> tuple[Path, Path]:
    """The first ``size`` bytes of the stream as a file, and the file made of them."""
    cut, made = folder / "cut", folder / "made"
    cut.write_bytes(stream[:size])
    with cut.open("rb") as file, pytest.raises(TruncatedError):
        rearrange(file.fileno(), Target(str(made), overwrite=True))
    return cut, made


def pages_in(path: Path, pfns: Sequence[int]) -> dict[int, Optional[bytes]]:
    """Of each what a reader gets; None if it is told that the page is lost."""
    pages: dict[int, Optional[bytes]] = {}
    with closing(open_source(str(path))) as source:
        assert source.incomplete
        for pfn in pfns:
            try:
                pages[pfn] = source.read_page(pfn, 12)
            except FaultError:
                pages[pfn] = None
    return pages


def in_two(file: bytes, at: int) -> Records:
    """Data first, as every writer has it, and the descriptors in two records parted anywhere."""
    return [
        (0, file[:TABLE_OFF]), (TABLE_END, file[TABLE_END:]),
        (TABLE_OFF, file[TABLE_OFF:at]), (at, file[at:TABLE_END]),
    ]  # fmt: skip


@pytest.mark.parametrize("machine", [X86_64, S390X], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("status", [0, diskdump.ZLIB], ids=["none", "zlib"])
def test_a_descriptor_that_came_by_half_is_not_trusted(
    tmp_path: Path, machine: Machine, status: int
) -> None:
    """Cut after each byte of two descriptors: as soon as offset, size and flags are there."""
    records = in_two(diskdump.build(Spec(PAGES, machine, status=status)), TABLE_OFF + 100)
    stream = stream_of(records)
    start = len(stream) - 16 - (TABLE_END - TABLE_OFF - 100)
    for size in range(start - 30, start + 60):
        cut, made = cut_and_rearranged(stream, size, tmp_path)
        n_come = sum(len(data) for _, data in list(come(records, size))[2:])
        n_whole = (n_come + 8) // 24
        expected = {pfn: page if pfn < n_whole else None for pfn, page in PAGES.items()}
        assert pages_in(cut, list(PAGES)) == expected
        assert pages_in(made, list(PAGES)) == expected
        raw = made.read_bytes()
        table = raw[TABLE_OFF + 24 * n_whole : TABLE_END]
        assert not any(table), size  # whoever reads it
        assert raw[424 + (3 if machine is S390X else 0)] & INCOMPLETE


def test_data_that_came_by_half_is_not_taken_for_zeros(tmp_path: Path) -> None:
    """Of a writer that has descriptors before data, and data in no order; there is none so far."""
    file = diskdump.build(Spec(PAGES, status=0))
    half = TABLE_END + 4 * PAGE
    records = [(0, file[:TABLE_END]), (half, file[half:]), (TABLE_END, file[TABLE_END:half])]
    stream = stream_of(records)
    end = len(stream) - 16
    for less in (1, PAGE, PAGE + 1, 4 * PAGE - 1):
        cut, made = cut_and_rearranged(stream, end - less, tmp_path)
        n_lost = -(-less // PAGE)
        expected = {pfn: None if 4 - n_lost <= pfn < 4 else page for pfn, page in PAGES.items()}
        assert pages_in(cut, list(PAGES)) == expected
        assert pages_in(made, list(PAGES)) == expected


def test_no_descriptor_leads_past_the_end(tmp_path: Path) -> None:
    """Of those that come before the data, as makedumpfile has them, the last of them by half."""
    file = diskdump.build(Spec(PAGES, status=0))
    stream = stream_of([(0, file[:TABLE_OFF]), (TABLE_OFF, file[TABLE_OFF:])])
    end = len(stream) - 16
    for less in (0, 1, PAGE, PAGE + 1, 8 * PAGE, 8 * PAGE + 1, 8 * PAGE + 30):
        cut, made = cut_and_rearranged(stream, end - less, tmp_path)
        n_whole = max(0, 8 - -(-less // PAGE))
        expected = {pfn: page if pfn < n_whole else None for pfn, page in PAGES.items()}
        assert pages_in(cut, list(PAGES)) == expected
        assert pages_in(made, list(PAGES)) == expected
        raw = made.read_bytes()
        assert len(raw) == len(file) - less
        assert not any(raw[TABLE_OFF + 24 * n_whole : TABLE_END]), less


def ends(stream: bytes) -> list[int]:
    """Where to cut a dump's: inside each record of descriptors, and of data, by turns at its end.

    Records before the first page are left out: without all bitmaps there is no dump.
    """
    sizes, at, rng = [], 4096, Random(7)
    (sub_hdr_size, bitmap_blocks) = struct.unpack_from("<ii", stream, 4096 + 16 + 432)
    table_off = (1 + sub_hdr_size + bitmap_blocks) * PAGE
    for off, data in records_of(stream):
        at += 16
        if off >= table_off:
            sizes.append(at + len(data) - 1 if len(sizes) % 3 else at + rng.randrange(len(data)))
        at += len(data)
    return [*sizes, len(stream) - 17, len(stream) - 16, len(stream) - 1]


@pytest.mark.parametrize(("level", "codec"), [(1, "zstd"), (0, "none")])
def test_the_pages_are_those_of_the_stream_itself(
    small: BuiltCore, tmp_path: Path, level: int, codec: str
) -> None:
    pydumpfile.dump(small.path, tmp_path / "stream", level, codec, flattened=True)
    pydumpfile.dump(small.path, tmp_path / "whole", level, codec)
    whole, stream = Dump(tmp_path / "whole"), (tmp_path / "stream").read_bytes()
    numbers = []
    for size in ends(stream):
        cut, made = cut_and_rearranged(stream, size, tmp_path)
        pages = pages_in(cut, whole.pfns)
        assert pages == pages_in(made, whole.pfns), size
        there = {pfn: page for pfn, page in pages.items() if page is not None}
        assert all(page == whole.page(pfn) for pfn, page in there.items())
        dump = Dump(made)
        assert dump.incomplete and dump.pfns == whole.pfns
        assert {pfn for pfn in dump.pfns if is_there(dump, pfn)} == set(there)
        numbers.append(len(there))
    assert numbers == sorted(numbers) and numbers[0] < numbers[-1] == len(whole.pfns)


def is_there(dump: Dump, pfn: int) -> bool:
    """By the format's description alone, for other readers."""
    descriptor = dump.descriptors[pfn]
    return descriptor.offset > 0 and descriptor.offset + descriptor.size <= len(dump.raw)


def test_elf(small: BuiltCore, tmp_path: Path) -> None:
    """The file is what came of it, to the byte, but for the mark."""
    pydumpfile.dump_elf(small.path, tmp_path / "stream", 1, flattened=True)
    stream = (tmp_path / "stream").read_bytes()
    records = list(records_of(stream))
    for size in (len(stream) - 17, len(stream) - 500, len(stream) // 2):
        _, made = cut_and_rearranged(stream, size, tmp_path)
        expected = bytearray(file_of(come(records, size)))
        expected[48] |= 1
        assert made.read_bytes() == expected


def test_a_dump_of_either_is_the_same(command: Command, small: BuiltCore, tmp_path: Path) -> None:
    cut, made = tmp_path / "cut", tmp_path / "made"
    pydumpfile.dump(small.path, tmp_path / "stream", 1, flattened=True)
    cut.write_bytes((tmp_path / "stream").read_bytes()[:-30_000])
    with cut.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "pydumpfile", "-R", str(made)],
            check=False, stdin=file, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 4
    assert "its sender was stopped; what came is kept, marked incomplete" in done.stderr
    for source in (cut, made):
        done = command("-d", 31, source, tmp_path / f"{source.name}.31")
        assert done.returncode == 7
        assert "pages could not be read and are not in the dump" in done.stderr
    assert (tmp_path / "cut.31").read_bytes() == (tmp_path / "made.31").read_bytes()


def stopped(
    stream: bytes, folder: Path, left: int, how: BaseException, patch: pytest.MonkeyPatch
) -> None:
    """Rearrange a stream, in small pieces, until ``left`` bytes are to come."""
    readv, stop = os.readv, len(stream) - left

    def until_then(fd: int, buffers: list[memoryview]) -> int:
        at = os.lseek(fd, 0, os.SEEK_CUR)
        if at == stop:
            raise how
        return readv(fd, [buffers[0][: stop - at]])

    (folder / "stream").write_bytes(stream)
    patch.setattr(module, "_PIECE_SIZE", 4096)
    patch.setattr(os, "readv", until_then)
    with (folder / "stream").open("rb") as file:
        rearrange(file.fileno(), Target(str(folder / "made")))


class TestStopped:
    """Not by the end of the stream, but while it is read."""

    @pytest.mark.parametrize("left", [16 + 24, 16 + 30, 16 + 24 * 7 + 1])
    def test_by_an_input_that_cannot_be_read(
        self, tmp_path: Path, left: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As of a raw partition with a bad block."""
        stream = stream_of(in_two(diskdump.build(Spec(PAGES, status=0)), TABLE_OFF))
        error = OSError(errno.EIO, "bad block")
        with pytest.raises(InputError, match="what came is kept, marked incomplete") as caught:
            stopped(stream, tmp_path, left, error, monkeypatch)
        assert caught.value.errno == errno.EIO
        n_whole = (TABLE_END - TABLE_OFF - (left - 16) + 8) // 24
        expected = {pfn: page if pfn < n_whole else None for pfn, page in PAGES.items()}
        assert pages_in(tmp_path / "made", list(PAGES)) == expected
        assert not any((tmp_path / "made").read_bytes()[TABLE_OFF + 24 * n_whole : TABLE_END])

    @pytest.mark.parametrize("n_blocks", [0, 1, 2])
    def test_by_a_full_disk(
        self, tmp_path: Path, n_blocks: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With space for so many blocks of descriptors, which part one."""
        pages = {pfn: f"page {pfn} ".encode().ljust(PAGE, b".") for pfn in range(600)}
        file = diskdump.build(Spec(pages))
        end = TABLE_OFF + 24 * len(pages)
        records = [(0, file[:TABLE_OFF]), (end, file[end:]), (TABLE_OFF, file[TABLE_OFF:end])]
        (tmp_path / "stream").write_bytes(stream_of(records))
        disk = Disk(TABLE_OFF // PAGE + -(-len(file) // PAGE) - end // PAGE + n_blocks)
        monkeypatch.setattr(os, "pwrite", disk.pwrite)
        with (tmp_path / "stream").open("rb") as stream, pytest.raises(OutputError) as caught:
            rearrange(stream.fileno(), Target(str(tmp_path / "made")))
        assert caught.value.errno == errno.ENOSPC
        assert "what was written is kept and marked incomplete" in str(caught.value)
        n_whole = (n_blocks * PAGE + 8) // 24
        expected = {pfn: page if pfn < n_whole else None for pfn, page in pages.items()}
        assert pages_in(tmp_path / "made", list(pages)) == expected
        assert not any((tmp_path / "made").read_bytes()[TABLE_OFF + 24 * n_whole : end])

    def test_by_a_limit(self, tmp_path: Path) -> None:
        """Of ``-L``, and descriptors that came before the data."""
        file = diskdump.build(Spec(PAGES, status=0))
        stream = stream_of([(0, file[:TABLE_OFF]), (TABLE_OFF, file[TABLE_OFF:])])
        (tmp_path / "stream").write_bytes(stream)
        made, limit = tmp_path / "made", TABLE_END + 5 * PAGE - 1
        with (tmp_path / "stream").open("rb") as stream_file, pytest.raises(SizeLimitError):
            rearrange(stream_file.fileno(), Target(str(made), size_limit=limit))
        expected = {pfn: page if pfn < 4 else None for pfn, page in PAGES.items()}
        assert pages_in(made, list(PAGES)) == expected
        raw = made.read_bytes()
        assert len(raw) == limit and not any(raw[TABLE_OFF + 24 * 4 : TABLE_END])

    def test_by_a_signal(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between two pieces of a table, which part a descriptor."""
        pages = {pfn: f"page {pfn} ".encode().ljust(PAGE, b".") for pfn in range(300)}
        file = diskdump.build(Spec(pages))
        end = TABLE_OFF + 24 * len(pages)
        records = [(0, file[:TABLE_OFF]), (end, file[end:]), (TABLE_OFF, file[TABLE_OFF:end])]
        at = TABLE_OFF + 14
        records[2:] = [(TABLE_OFF, file[TABLE_OFF:at]), (at, file[at:end])]
        stream = stream_of(records)
        left = 16 + (end - at) - 4096
        with pytest.raises(KeyboardInterrupt):
            stopped(stream, tmp_path, left, KeyboardInterrupt("SIGINT"), monkeypatch)
        assert (14 + 4096) % 24 < 16
        n_whole = (14 + 4096) // 24
        expected = {pfn: page if pfn < n_whole else None for pfn, page in pages.items()}
        assert pages_in(tmp_path / "made", list(pages)) == expected
        assert not any((tmp_path / "made").read_bytes()[TABLE_OFF + 24 * n_whole : end])
