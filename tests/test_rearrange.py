# SPDX-License-Identifier: GPL-2.0-or-later
"""From a stream to its file: any stream, from anywhere, however it ends."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.errors import (
    FormatError,
    InputError,
    OutputError,
    PydumpfileError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)
from pydumpfile.rearrange import rearrange
from pydumpfile.sinks import Target
from tests.conftest import MIB
from tests.sinks.flattened_reader import END_MARK, HEADER, come, file_of, stream_of

Records = list[tuple[int, bytes]]
RECORD = st.tuples(st.integers(0, 9000), st.binary(max_size=5000))
RECORDS = st.lists(RECORD.filter(lambda record: record != (0, b"")), max_size=12)

KDUMP_START = (
    b"KDUMP   ".ljust(424, b"\x11") + struct.pack("<II", 0x20, 4096) + bytes(32)
)  # complete, says the status: a makedumpfile's stream does from its first byte
ELF_START = b"\x7fELF\x02\x01" + bytes(58)


@contextmanager
def piped(stream: bytes) -> Iterator[int]:
    """The reading end of a pipe through which ``stream`` comes, and then its end."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe, suppress(BrokenPipeError):  # it was refused
            pipe.write(stream)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield reading
    finally:
        os.close(reading)
        writer.join()


def rearranged(stream: bytes, path: Path) -> int:
    with piped(stream) as fd:
        return rearrange(fd, Target(str(path), overwrite=True))


@given(records=RECORDS, start=st.sampled_from([b"", KDUMP_START, ELF_START]))
def test_any_stream(
    tmp_path_factory: pytest.TempPathFactory, records: Records, start: bytes
) -> None:
    path = tmp_path_factory.mktemp("rearranged") / "file"
    records = [(0, start), *records] if start else records
    expected = file_of(records)
    assert rearranged(stream_of(records), path) == len(expected)
    assert path.read_bytes() == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_records_larger_than_the_buffer(tmp_path: Path) -> None:
    data = Random(5).randbytes(5 * MIB + 77)
    assert rearranged(stream_of([(3000, data)]), tmp_path / "file") == len(data) + 3000
    assert (tmp_path / "file").read_bytes() == bytes(3000) + data


@pytest.mark.parametrize("from_pipe", [False, True])
def test_what_follows_the_end_mark_is_left_alone(tmp_path: Path, from_pipe: bool) -> None:
    """As on a raw partition, which is longer."""
    stream = stream_of([(0, b"data")]) + b"junk" * 100_000
    (tmp_path / "stream").write_bytes(stream)
    if from_pipe:
        with piped(stream) as fd:
            rearrange(fd, Target(str(tmp_path / "file")))
            assert os.read(fd, 4) == b"junk"
    else:
        with (tmp_path / "stream").open("rb") as file:
            rearrange(file.fileno(), Target(str(tmp_path / "file")))
            assert file.read(4) == b"junk"
    assert (tmp_path / "file").read_bytes() == b"data"


def test_holes_stay_holes(tmp_path: Path) -> None:
    records = [(0, b"first"), (1 << 33, b"x" * 4096), (1 << 34, b"last")]
    assert rearranged(stream_of(records), tmp_path / "file") == (1 << 34) + 4
    assert (tmp_path / "file").stat().st_blocks * 512 < MIB


def is_marked(path: Path, start: bytes) -> bool:
    """Whether the file, which is to begin with ``start``, does not pass for a whole one."""
    head = path.read_bytes()[: len(start)]
    if not head.strip(b"\0"):
        return True
    at, bit = (424, 8) if start == KDUMP_START else (48, 1)
    return bool(head[at] & bit)


USABLE_FROM = {KDUMP_START: 432, ELF_START: 52}
"""How much of the start of a dump it takes to know one: up to what is marked."""


@pytest.mark.parametrize("start", [KDUMP_START, ELF_START, b"a format unheard of"])
def test_a_stream_that_ends_early(tmp_path: Path, start: bytes) -> None:
    """After any byte: an error at once, and whatever came is in the file, which is marked."""
    records = [(0, start), (9000, b"data"), (5000, b"more"), (0, start)]
    stream, path = stream_of(records), tmp_path / "file"
    for size in range(len(stream)):
        if 100 < size < 4000:
            continue
        path.unlink(missing_ok=True)
        with pytest.raises(FormatError) as caught:
            rearranged(stream[:size], path)
        assert size < 16 or isinstance(caught.value, TruncatedError)
        there = size >= 4112 + USABLE_FROM.get(start, len(start))
        assert path.exists() == there
        if there:
            assert is_marked(path, start), size
            expected = file_of(come(records, size))
            assert path.stat().st_size == len(expected)
            assert path.read_bytes()[4096:] == expected[4096:]
            kept = (
                "marked incomplete" if start in USABLE_FROM else "but without the start of a dump"
            )
            assert f"; what came is kept, {kept}" in str(caught.value)
        elif size >= 4096:
            assert "nothing that is of use has come, and no file was written" in str(caught.value)


@pytest.mark.parametrize("from_pipe", [False, True])
def test_a_disk_that_nobody_wrote_on_is_not_read_to_its_end(
    tmp_path: Path, from_pipe: bool
) -> None:
    """Which would take hours, 16 bytes at a time."""
    records = [(0, KDUMP_START), (5000, b"data")]
    stream = stream_of(records)[:-16] + bytes(50_000)
    path = tmp_path / "stream"
    path.write_bytes(stream)
    with piped(stream) if from_pipe else closing_fd(path) as fd:
        with pytest.raises(TruncatedError, match="found zeros; its sender was stopped; what came"):
            rearrange(fd, Target(str(tmp_path / "file")))
        assert len(os.read(fd, 1 << 20)) > 0
    assert is_marked(tmp_path / "file", KDUMP_START)
    assert (tmp_path / "file").read_bytes()[5000:] == b"data"


@contextmanager
def closing_fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [4096, 4100, 4112, 4112 + 431])
def test_what_is_there_survives_a_stream_with_nothing_of_use(tmp_path: Path, size: int) -> None:
    stream, path = stream_of([(0, KDUMP_START), (5000, b"data")]), tmp_path / "file"
    path.write_bytes(b"precious")
    with pytest.raises(TruncatedError, match="no file was written"):
        rearranged(stream[:size], path)
    assert path.read_bytes() == b"precious"


def test_a_process_killed_at_any_time(tmp_path: Path) -> None:
    """Whatever is in the file then is marked: seen from inside, where it may stop for good."""
    path = tmp_path / "file"
    records = [(0, KDUMP_START), *((5000 + i, b"x") for i in range(5)), (0, KDUMP_START)]
    seen = []

    class AlwaysTold:
        """Progress without its pauses."""

        def __init__(self, progress: object) -> None:
            del progress

        def __call__(self, step: str, done: int, total: int) -> None:
            assert (step, total) == ("rearranging", done if done == len(stream) else 0)
            seen.append(is_marked(path, KDUMP_START))

    stream = stream_of(records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pydumpfile.rearrange.Throttled", AlwaysTold)
        rearranged(stream, path)
    assert seen == [True] * len(records) + [False]
    assert path.read_bytes() == file_of(records)


def damaged(change: Callable[[bytearray], object]) -> bytes:
    stream = bytearray(stream_of([(0, KDUMP_START), (5000, b"data")]))
    change(stream)
    return bytes(stream)


SECOND = 4096 + 16 + len(KDUMP_START)


@pytest.mark.parametrize(
    "numbers", [(-1, 4), (-2, -1), (5000, -1), (1 << 62, 4), (0, 1 << 62), (1 << 62, 1 << 62)]
)
def test_absurd_records_are_refused(tmp_path: Path, numbers: tuple[int, int]) -> None:
    stream = damaged(lambda stream: struct.pack_into(">qq", stream, SECOND, *numbers))
    with pytest.raises(FormatError, match=f"{SECOND:#x}"):
        rearranged(stream, tmp_path / "file")
    assert is_marked(tmp_path / "file", KDUMP_START)
    assert (tmp_path / "file").stat().st_size < 5000


@given(seed=st.integers(0, 1 << 32))
def test_damage_is_an_error_or_another_file(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "file"
    rng = Random(seed)
    stream = damaged(
        lambda stream: stream.__setitem__(rng.randrange(len(stream)), rng.randrange(256))
    )
    try:
        size = rearranged(stream, path)
    except PydumpfileError:
        assert not path.exists() or is_marked(path, KDUMP_START)
    else:
        assert size == path.stat().st_size


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", FormatError),
        (b"KDUMP   " + bytes(5000), FormatError),
        (HEADER[:16] + struct.pack(">qq", 1, 2) + HEADER[32:] + END_MARK, UnsupportedError),
    ],
)
def test_what_is_no_stream_touches_nothing(
    tmp_path: Path, stream: bytes, error: type[PydumpfileError]
) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(error, match="standard input"):
        rearranged(stream, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"precious"


class TestTheFile:
    """Where it goes."""

    def test_an_existing_one_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"precious")
        with piped(stream_of([])) as fd, pytest.raises(OutputError) as caught:
            rearrange(fd, Target(str(tmp_path / "file")))
        assert caught.value.errno == errno.EEXIST
        assert (tmp_path / "file").read_bytes() == b"precious"

    def test_never_the_input(self, tmp_path: Path) -> None:
        path = tmp_path / "stream"
        path.write_bytes(stream_of([(0, b"data")]))
        with path.open("rb") as stream, pytest.raises(UsageError, match="input itself"):
            rearrange(stream.fileno(), Target(str(path), overwrite=True))
        assert path.read_bytes() == stream_of([(0, b"data")])

    @pytest.mark.parametrize("target", [Target("x", flattened=True), Target("x", fd=1)])
    def test_only_a_file(self, target: Target) -> None:
        with piped(stream_of([])) as fd, pytest.raises(UsageError, match="into a file"):
            rearrange(fd, target)

    def test_that_has_no_room(self, tmp_path: Path) -> None:
        (tmp_path / "stream").write_bytes(stream_of([(0, KDUMP_START), (5000, bytes(MIB))]))
        code = (
            "import sys\n"
            "from pydumpfile.rearrange import rearrange\n"
            "from pydumpfile.sinks import Target\n"
            "from pydumpfile.errors import OutputError\n"
            "try:\n    rearrange(0, Target(sys.argv[1]))\n"
            "except OutputError as error:\n    sys.exit(str(error))\n"
        )

        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

        with (tmp_path / "stream").open("rb") as stream:
            done = subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / "file")],
                check=False, stdin=stream, capture_output=True, text=True, timeout=60,
                preexec_fn=limited,
            )  # fmt: skip
        assert done.returncode == 1
        assert "File too large" in done.stderr
        assert is_marked(tmp_path / "file", KDUMP_START)


def test_an_input_that_cannot_be_read(tmp_path: Path) -> None:
    for opened, number in [(os.open(tmp_path, os.O_RDONLY), errno.EISDIR), (1 << 20, errno.EBADF)]:
        with pytest.raises(InputError) as caught:
            rearrange(opened, Target(str(tmp_path / "file")))
        assert caught.value.errno == number
        if opened < 1 << 20:
            os.close(opened)
    assert not (tmp_path / "file").exists()


def test_an_input_that_does_not_block(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    stream = stream_of([(0, b"data"), (77, b"more")])

    def trickle() -> None:
        with open(writing, "wb", buffering=0) as pipe:
            for at in range(0, len(stream), 999):
                pipe.write(stream[at : at + 999])

    writer = threading.Thread(target=trickle)
    writer.start()
    assert rearrange(reading, Target(str(tmp_path / "file"))) == 81
    writer.join()
    os.close(reading)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A stream of 64 MiB, in one record, in a process that may not grow by as much."""
    (tmp_path / "stream").write_bytes(stream_of([(0, bytes(64 * MIB))]))
    code = (
        "import resource, sys\n"
        "from pydumpfile.rearrange import rearrange\n"
        "from pydumpfile.sinks import Target\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rearrange(0, Target(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    with (tmp_path / "stream").open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "file")],
            check=True, stdin=stream, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert int(done.stdout) < 8 << 10  # KiB
