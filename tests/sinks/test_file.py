# SPDX-License-Identifier: GPL-2.0-or-later
"""The regular file as output: created with care, its errors named."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from pydumpfile.errors import OutputError, UsageError
from pydumpfile.sinks.base import check_creatable
from pydumpfile.sinks.file import OutputFile


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "vmcore"
    path.write_bytes(b"memory")
    return path


def test_is_private_whatever_the_umask(core: Path, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        OutputFile(str(tmp_path / "dump"), False, str(core)).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "dump").stat().st_mode) == 0o600


def test_writes_extends_and_reads_back(core: Path, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    output = OutputFile(str(path), False, str(core))
    output.write_at(10, b"0123456789")
    output.write_at(2, memoryview(b"ab"))
    output.write_at(0, b"")
    output.extend(100)
    assert output.read_at(0, 20) == b"\0\0ab" + bytes(6) + b"0123456789"
    with pytest.raises(OutputError) as caught:
        output.read_at(90, 20)
    assert caught.value.errno == errno.EIO
    output.sync()
    output.close()
    assert path.stat().st_size == 100


def test_an_existing_file_is_refused_and_not_touched(core: Path, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="-f") as caught:
        OutputFile(str(path), False, str(core))
    assert (caught.value.errno, caught.value.path) == (errno.EEXIST, str(path))
    assert path.read_bytes() == b"precious"


def test_overwriting_leaves_nothing_of_the_old(core: Path, tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(b"precious" * 1000)
    path.chmod(0o644)
    OutputFile(str(path), True, str(core)).close()
    assert path.read_bytes() == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("way", ["same", "hard link", "symlink", "other spelling"])
def test_the_input_is_never_the_output(
    core: Path, tmp_path: Path, overwrite: bool, way: str
) -> None:
    target = tmp_path / "dump"
    if way == "hard link":
        os.link(core, target)
    elif way == "symlink":
        target.symlink_to(core)
    elif way == "same":
        target = core
    else:
        target = tmp_path / ".." / tmp_path.name / "vmcore"
    with pytest.raises(UsageError, match="input itself"):
        OutputFile(str(target), overwrite, str(core))
    assert core.read_bytes() == b"memory"


@pytest.mark.parametrize(("fd", "stream"), [(1, "standard output"), (2, "standard error")])
@pytest.mark.parametrize("name", ["dump", "link"])
def test_never_where_messages_go(
    core: Path, tmp_path: Path, fd: int, stream: str, name: str
) -> None:
    """They would end up in the dump, if only that it is saved."""
    target, link = tmp_path / "dump", tmp_path / "link"
    target.write_bytes(b"precious")
    link.symlink_to("dump")
    before = os.dup(fd)
    try:
        with target.open("ab") as messages:
            os.dup2(messages.fileno(), fd)
        for step in (check_creatable, OutputFile):
            with pytest.raises(UsageError, match=f"{name} is where {stream} goes"):
                step(str(tmp_path / name), True, str(core))
    finally:
        os.dup2(before, fd)
        os.close(before)
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "kind"),
    [("fifo", "a pipe"), ("/dev/null", "a character device"), ("socket", "a socket"),
     ("directory", "a directory")],
)  # fmt: skip
def test_only_regular_files(
    core: Path, tmp_path: Path, name: str, kind: str, overwrite: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nothing else is so much as opened, nor is what a link leads to."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    os.mkdir("directory")
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind("socket")
    os.symlink(name, "link")
    monkeypatch.setattr(os, "open", None)
    for target in (name, "link"):
        with pytest.raises(UsageError, match=f"{target} is {kind}"):
            OutputFile(target, overwrite, str(core))


def test_a_file_that_becomes_another(
    core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it was looked at: the one that was opened counts."""
    target = tmp_path / "dump"
    open_file = os.open

    def exchanged(path: str, flags: int, mode: int) -> int:
        os.mkfifo(path)
        return open_file(path, flags, mode)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(UsageError, match="is a pipe"):
        OutputFile(str(target), True, str(core))


@pytest.mark.parametrize(
    ("name", "number"), [("no/such/directory", errno.ENOENT), ("vmcore/x", errno.ENOTDIR)]
)
def test_places_that_are_not_there(core: Path, tmp_path: Path, name: str, number: int) -> None:
    with pytest.raises(OutputError) as caught:
        OutputFile(str(tmp_path / name), False, str(core))
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("flags", "number", "advice"),
    [(os.ST_RDONLY, errno.EROFS, "remount,rw"), (0, errno.EACCES, "Permission denied")],
)
def test_a_directory_that_cannot_be_written(
    tmp_path: Path, flags: int, number: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before anything is done, and which of the two it is."""
    fields = [*os.statvfs(tmp_path)]
    fields[8] = flags
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match=advice) as caught:
        check_creatable(str(tmp_path / "dump"), False)
    assert caught.value.errno == number


def test_a_full_disk(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = OutputFile(str(tmp_path / "dump"), False, str(core))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    for call, act in [
        ("pwrite", lambda: output.write_at(0, b"x")),
        ("ftruncate", lambda: output.extend(10)),
        ("pread", lambda: output.read_at(0, 10)),
        ("fsync", output.sync),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(OutputError, match="No space left") as caught:
                act()
        assert caught.value.errno == errno.ENOSPC
        assert "marked incomplete" in str(caught.value)
        assert "; make room, or give another target;" in str(caught.value)
        assert "-d 31" not in str(caught.value)  # it may be no dump that is filtered
    output.close()


def test_short_writes_go_on(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dump"
    output = OutputFile(str(path), False, str(core))
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, off: write(fd, data[:7], off))
    output.write_at(3, bytes(range(100)))
    output.close()
    assert path.read_bytes() == bytes(3) + bytes(range(100))
