# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole dumps as streams: rearranged they are the dumps that are written directly, byte by byte."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional

import pytest

import pydumpfile
from pydumpfile import Level, Statistics, codecs
from pydumpfile.dump import dump_vmcore
from pydumpfile.errors import OutputError, TruncatedError, UsageError
from pydumpfile.filter import kept
from pydumpfile.filter.classify import PageFilter
from pydumpfile.rearrange import rearrange
from pydumpfile.sinks import STDOUT, Target
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.image import FileImage
from tests.badmemory import BadMemory
from tests.builders import BuiltCore
from tests.conftest import MIB, SMALL, CoreMaker
from tests.sinks.flattened_reader import CrashView, file_of, records_of
from tests.sinks.kdump_reader import Dump

HIGH = replace(SMALL, memory=((MIB, 39 * MIB), (33 << 30, 2 * MIB), (100 << 30, 3 * MIB)))
USABLE = [name for name, lacking in codecs.available().items() if not lacking]

SourceMaker = Callable[[BuiltCore], ElfSource]


def good_memory(built: BuiltCore) -> ElfSource:
    return ElfSource(FileImage(os.open(built.path, os.O_RDONLY), str(built.path)))


def bad_memory(built: BuiltCore) -> ElfSource:
    """A few pages that cannot be read, where the dead kernel's own tables are not."""
    source = BadMemory(FileImage(os.open(built.path, os.O_RDONLY), str(built.path)))
    pages = [pfn for pfn in range(0x2000, built.max_mapnr) if pfn % 97 == 0]
    source.bad_pfns = frozenset(pages)
    return source


def through_a_pipe(
    built: BuiltCore, level: int, compression: str, n_threads: int = 1,
    make_source: SourceMaker = good_memory,
) -> tuple[bytes, Statistics]:  # fmt: skip
    """The stream that comes out of a pipe, and what was counted."""
    reading, writing = os.pipe()
    stream = bytearray()

    def read() -> None:
        while piece := os.read(reading, MIB):
            stream.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with pydumpfile.Vmcore(make_source(built)) as vmcore:
            target = Target(STDOUT, flattened=True, fd=writing)
            statistics = dump_vmcore(
                vmcore, target, Level.of(level), compression, n_threads=n_threads
            )
    finally:
        os.close(writing)
        reader.join()
        os.close(reading)
    return bytes(stream), statistics


def written(
    built: BuiltCore, path: Path, level: int, compression: str,
    make_source: SourceMaker = good_memory,
) -> Statistics:  # fmt: skip
    """The dump as a file."""
    with pydumpfile.Vmcore(make_source(built)) as vmcore:
        return pydumpfile.dump(vmcore, path, level, compression)


def counts(statistics: Statistics) -> dict[str, object]:
    """All that does not depend on where the dump went."""
    there = {"path", "bytes_written", "scan_seconds", "copy_seconds"}
    return {name: value for name, value in vars(statistics).items() if name not in there}


@pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
@pytest.mark.parametrize("compression", USABLE)
@pytest.mark.parametrize("make_source", [good_memory, bad_memory])
def test_the_same_bytes(
    small: BuiltCore, tmp_path: Path, compression: str, n_threads: int, make_source: SourceMaker
) -> None:
    direct = written(small, tmp_path / "direct", 31, compression, make_source)
    stream, statistics = through_a_pipe(small, 31, compression, n_threads, make_source)
    (tmp_path / "stream").write_bytes(stream)
    with (tmp_path / "stream").open("rb") as file:
        rearrange(file.fileno(), Target(str(tmp_path / "dump")))
    assert (tmp_path / "dump").read_bytes() == (tmp_path / "direct").read_bytes()
    assert counts(statistics) == counts(direct)
    assert statistics.bytes_written == len(stream)
    assert (
        bool(statistics.lost) == (make_source is bad_memory) == Dump(tmp_path / "dump").incomplete
    )


@pytest.mark.parametrize("level", [0, 1, 8])
def test_other_levels(small: BuiltCore, tmp_path: Path, level: int) -> None:
    written(small, tmp_path / "direct", level, "none")
    stream, _ = through_a_pipe(small, level, "none")
    assert file_of(records_of(stream)) == (tmp_path / "direct").read_bytes()


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("level", [0, 31])
@pytest.mark.parametrize("make_source", [good_memory, bad_memory])
def test_a_bitmap_past_the_bound(
    core_of: CoreMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int,
    n_threads: int, make_source: SourceMaker,
) -> None:  # fmt: skip
    """It is not remembered but judged again, while pages are copied."""
    built = core_of(HIGH)
    direct = written(built, tmp_path / "direct", level, "zlib", make_source)
    judged = []
    another = PageFilter.another

    def counted(self: PageFilter) -> PageFilter:
        judged.append(1)
        return another(self)

    monkeypatch.setattr(PageFilter, "another", counted)
    monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", 1 << 10)
    stream, statistics = through_a_pipe(built, level, "zlib", n_threads, make_source)
    assert judged == [1]
    assert file_of(records_of(stream)) == (tmp_path / "direct").read_bytes()
    assert counts(statistics) == counts(direct)


def test_a_stream_in_a_file(small: BuiltCore, tmp_path: Path) -> None:
    direct = pydumpfile.dump(small.path, tmp_path / "direct")
    statistics = pydumpfile.dump(small.path, tmp_path / "stream", flattened=True)
    stream = (tmp_path / "stream").read_bytes()
    assert statistics.bytes_written == len(stream)
    assert statistics.path == str(tmp_path / "stream")
    assert file_of(records_of(stream)) == (tmp_path / "direct").read_bytes()
    assert direct.bytes_written == (tmp_path / "direct").stat().st_size


def test_records_are_few_and_none_is_large(small: BuiltCore) -> None:
    stream, _ = through_a_pipe(small, 0, "none")
    records = list(records_of(stream))
    assert len(records) < 40 + len(stream) // MIB
    assert max(len(data) for _, data in records) <= 2 * MIB  # a batch


@pytest.mark.parametrize("make_source", [good_memory, bad_memory])
def test_nothing_but_the_header_is_written_twice(
    small: BuiltCore, make_source: SourceMaker
) -> None:
    """crash and others look records up by offset, and would find the older."""
    stream, _ = through_a_pipe(small, 31, "zstd", 1, make_source)
    records = [(off, len(data)) for off, data in records_of(stream)]
    n_headers = records.count((0, 464))
    assert (n_headers > 1) == (make_source is good_memory)
    assert records[len(records) - n_headers + 1 :] == [(0, 464)] * (n_headers - 1)
    others = sorted(record for record in records if record != (0, 464))
    for (off, size), (next_off, _) in zip(others, others[1:]):
        assert off + size <= next_off


def test_the_order(small: BuiltCore) -> None:
    """Incomplete at first; bitmaps whole before any page; complete at last."""
    stream, _ = through_a_pipe(small, 31, "zstd")
    records = list(records_of(stream))
    assert records[0][0] == 0 and records[0][1][424] & 8
    assert records[-1][0] == 0 and not records[-1][1][424] & 8
    header = records[-1][1]
    sub_hdr_size, bitmap_blocks = (
        int.from_bytes(header[at : at + 4], "little") for at in (432, 436)
    )
    bitmaps_end = (1 + sub_hdr_size + bitmap_blocks) * 4096
    pages = [off >= bitmaps_end for off, _ in records if off]
    assert pages == sorted(pages)


def test_crash_reads_what_the_file_has(small: BuiltCore) -> None:
    """By a model of how it reads streams that were not rearranged."""
    stream, _ = through_a_pipe(small, 31, "zlib")
    records = list(records_of(stream))
    file = file_of(records)
    crash = CrashView(records)
    assert all(
        crash.read(at, 4096) == file[at : at + 4096] for at in range(0, len(file) - 4096, 4096)
    )


class TestCutShort:
    """Streams that were not finished: no end mark, and what came says incomplete."""

    def check(self, stream: Path, dump: Path) -> None:
        with stream.open("rb") as file, pytest.raises(TruncatedError):
            rearrange(file.fileno(), Target(str(dump), overwrite=True))
        assert not dump.read_bytes() or Dump(dump).incomplete

    @pytest.mark.parametrize("step", ["judging pages", "copying pages"])
    def test_by_an_exception(self, small: BuiltCore, tmp_path: Path, step: str) -> None:
        class StopError(Exception):
            pass

        def progress(now: str, done: int, total: int) -> None:
            del total
            if now == step and done:
                raise StopError

        with pytest.raises(StopError):
            pydumpfile.dump(small.path, tmp_path / "stream", 0, "none", progress, flattened=True)
        self.check(tmp_path / "stream", tmp_path / "dump")

    def test_by_sigkill(self, small: BuiltCore, tmp_path: Path) -> None:
        code = (
            "import os, signal, sys\n"
            "import pydumpfile\n"
            "def progress(step, done, total):\n"
            "    if step == 'copying pages' and done >= total:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "pydumpfile.dump(sys.argv[1], sys.argv[2], 0, 'none', progress, flattened=True)\n"
        )
        stream = tmp_path / "stream"
        done = subprocess.run(
            [sys.executable, "-c", code, str(small.path), str(stream)], check=False, timeout=300
        )
        assert done.returncode == -signal.SIGKILL
        self.check(stream, tmp_path / "dump")
        dump = Dump(tmp_path / "dump")
        assert dump.bitmap2[: len(small.exists)] == small.verdict(0)
        pages = [dump.page(pfn) for pfn in dump.pfns]
        n = sum(page is not None for page in pages)
        assert n > 1000
        assert all(page == small.page(pfn) for page, pfn in zip(pages[:n], dump.pfns))

    @pytest.mark.parametrize("n_bytes", [0, 1, 5000, 100_000, 3_000_000])
    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_by_a_pipe_that_closes(self, small: BuiltCore, n_bytes: int, n_threads: int) -> None:
        """As ssh does when its connection breaks."""
        reading, writing = os.pipe()

        def read() -> None:
            left: Optional[int] = n_bytes
            while left:
                left -= len(os.read(reading, left))
            os.close(reading)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            target = Target(STDOUT, flattened=True, fd=writing)
            with pydumpfile.open(small.path) as vmcore, pytest.raises(OutputError) as caught:
                dump_vmcore(vmcore, target, Level(0), "none", n_threads=n_threads)
        finally:
            reader.join()
            os.close(writing)
        assert caught.value.errno == errno.EPIPE
        assert STDOUT in str(caught.value)


def test_a_wrong_request_writes_nothing(small: BuiltCore, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        pydumpfile.dump(small.path, tmp_path / "stream", 31, "lzma", flattened=True)
    assert not (tmp_path / "stream").exists()
