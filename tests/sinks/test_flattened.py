# SPDX-License-Identifier: GPL-2.0-or-later
"""The flattened stream: what it says, into what it goes, and how that fails."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.errors import OutputError, UsageError
from pydumpfile.sinks import STDOUT, Target, open_output
from pydumpfile.sinks.file import OutputFile
from pydumpfile.sinks.flattened import FlattenedStream
from tests.sinks.flattened_reader import HEADER, CrashView, file_of, records_of

NOWHERE = "/nonexistent"
F_SETPIPE_SZ = 1031  # fcntl has it since Python 3.10

Write = tuple[int, bytes]
WRITES = st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=40)), max_size=30)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends; what a test closed itself is not closed again."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        with suppress(OSError):
            os.close(fd)


def create(path: Path) -> FlattenedStream:
    return FlattenedStream.create(str(path), True, NOWHERE)


@given(writes=WRITES, extended=st.integers(0, 4000), start=st.binary(max_size=20))
def test_says_what_a_file_would_hold(
    tmp_path_factory: pytest.TempPathFactory, writes: list[Write], extended: int, start: bytes
) -> None:
    directory = tmp_path_factory.mktemp("both")
    both = create(directory / "stream"), OutputFile(str(directory / "file"), False, NOWHERE)
    for output in both:
        with closing(output):
            output.write_at(0, bytes(len(start)))
            for off, data in writes:
                output.write_at(off + len(start), data)
            output.extend(extended)
            output.sync()
            output.rewrite_start(start)
            output.end()
    stream = (directory / "stream").read_bytes()
    file = (directory / "file").read_bytes()
    assert file_of(records_of(stream)) == file
    assert [output.size for output in both] == [len(stream), len(file)]


@pytest.mark.parametrize("n_records", range(1, 40))
def test_crash_reads_the_newer_start(tmp_path: Path, n_records: int) -> None:
    stream = create(tmp_path / "stream")
    stream.write_at(0, b"incomplete")
    for i in range(1, n_records):
        stream.write_at(100 * i, b"data")
    stream.rewrite_start(b"complete..")
    stream.end()
    stream.close()
    records = list(records_of((tmp_path / "stream").read_bytes()))
    assert CrashView(records).read(0, 10) == b"complete.."


def test_is_private_and_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    open_output(Target(str(path), flattened=True), NOWHERE).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == HEADER
    with pytest.raises(OutputError) as caught:
        open_output(Target(str(path), flattened=True), NOWHERE)
    assert caught.value.errno == errno.EEXIST
    open_output(Target(str(path), overwrite=True, flattened=True), NOWHERE).close()


def test_without_end_there_is_no_end_mark(tmp_path: Path) -> None:
    stream = create(tmp_path / "stream")
    stream.write_at(0, b"data")
    stream.sync()
    stream.close()
    assert (tmp_path / "stream").read_bytes() == HEADER + bytes(15) + b"\x04data"


def test_goes_on_where_a_descriptor_is(tmp_path: Path) -> None:
    """As in a shell's ``(echo; pydumpfile -F ...) > file``; and it stays open."""
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"first")
        stream = open_output(Target(STDOUT, flattened=True, fd=file.fileno()), NOWHERE)
        assert stream.path == STDOUT
        stream.write_at(7, b"data")
        stream.end()
        stream.close()
        file.write(b"last")
    content = (tmp_path / "file").read_bytes()
    assert list(records_of(content[5:-4])) == [(7, b"data")]
    assert content[:5] + content[-4:] == b"firstlast"


def test_a_descriptor_takes_nothing_but_a_stream(pipe: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="only a flattened dump"):
        open_output(Target(STDOUT, fd=pipe[1]), NOWHERE)


def test_a_terminal_is_refused() -> None:
    master, slave = os.openpty()
    try:
        with pytest.raises(UsageError, match="terminal"):
            FlattenedStream(slave, STDOUT, NOWHERE)
        os.set_blocking(master, False)
        with pytest.raises(BlockingIOError):
            os.read(master, 1)
    finally:
        os.close(master)
        os.close(slave)


def test_the_input_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"memory")
    with path.open("r+b") as file, pytest.raises(UsageError, match="input itself"):
        FlattenedStream(file.fileno(), STDOUT, str(path))
    with path.open("rb") as file, pytest.raises(UsageError, match="input itself"):
        open_output(Target(str(path), overwrite=True, flattened=True), file.fileno())
    assert path.read_bytes() == b"memory"


def test_pipes_and_sockets_cannot_be_synced_and_need_not_be(pipe: tuple[int, int]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for fd in (pipe[1], ours.fileno()):
            stream = FlattenedStream(fd, "pipe", NOWHERE)
            stream.write_at(0, b"data")
            stream.sync()
            stream.end()
        assert list(records_of(theirs.recv(1 << 20))) == [(0, b"data")]
    assert list(records_of(os.read(pipe[0], 1 << 20))) == [(0, b"data")]


def test_a_reader_that_goes(pipe: tuple[int, int]) -> None:
    stream = FlattenedStream(pipe[1], "pipe", NOWHERE)
    os.close(pipe[0])
    with pytest.raises(OutputError, match="gone") as caught:
        stream.write_at(0, b"data")
    assert (caught.value.errno, caught.value.path) == (errno.EPIPE, "pipe")


def test_a_full_device() -> None:
    with open("/dev/full", "wb") as full, pytest.raises(OutputError) as caught:
        FlattenedStream(full.fileno(), "/dev/full", NOWHERE)
    assert caught.value.errno == errno.ENOSPC


def test_a_descriptor_that_is_none() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(OutputError) as caught:
        FlattenedStream(fd, "null", NOWHERE)  # not open for writing
    assert caught.value.errno == errno.EBADF
    os.close(fd)
    with pytest.raises(OutputError) as caught:
        FlattenedStream(fd, "closed", NOWHERE)
    assert caught.value.errno == errno.EBADF


def test_errors_of_a_disk_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = create(tmp_path / "stream")

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    for call, act in [
        ("writev", lambda: stream.write_at(0, b"x")),
        ("fsync", stream.sync),
        ("fsync", stream.end),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, broken)
            with pytest.raises(OutputError) as caught:
                act()
        assert caught.value.errno == errno.EIO
    stream.close()


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, sizes = os.write, iter(range(1, 1 << 20))

    def short(fd: int, pieces: list[memoryview]) -> int:
        return write(fd, b"".join(pieces)[: next(sizes) % 13 + 1])

    monkeypatch.setattr(os, "writev", short)
    stream = create(tmp_path / "stream")
    stream.write_at(5, bytes(range(200)))
    stream.end()
    stream.close()
    content = (tmp_path / "stream").read_bytes()
    assert list(records_of(content)) == [(5, bytes(range(200)))]
    assert stream.size == len(content)


def test_a_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    """An ssh or a script may have left our standard output so."""
    os.set_blocking(pipe[1], False)
    fcntl.fcntl(pipe[1], F_SETPIPE_SZ, 4096)
    received = bytearray()

    def read() -> None:
        while data := os.read(pipe[0], 1000):
            received.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    stream = FlattenedStream(pipe[1], "pipe", NOWHERE)
    stream.write_at(0, bytes(range(256)) * 1000)
    stream.end()
    os.close(pipe[1])
    reader.join()
    assert list(records_of(bytes(received))) == [(0, bytes(range(256)) * 1000)]
