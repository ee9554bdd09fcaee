# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of a file: what is mapped is made sure of before."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import ClassVar

import pytest

from pydumpfile.sources import filebytes
from pydumpfile.sources.filebytes import MappedFile, ReadFile, open_bytes

SIZE = 64 << 10
MIB = 1 << 20
_MADV_POPULATE_READ = 22
BAD_OFF = 5 << 12


class NotedMapping(mmap.mmap):
    """A mapping that tells which bytes of it were populated."""

    populated: ClassVar[list[tuple[int, ...]]] = []

    def madvise(self, option: int, *where: int) -> None:
        if option == _MADV_POPULATE_READ:
            self.populated.append(where)
        super().madvise(option, *where)


@pytest.fixture
def content() -> bytes:
    return Random(1).randbytes(SIZE)


@pytest.fixture
def fd(tmp_path: Path, content: bytes) -> Iterator[int]:
    (tmp_path / "file").write_bytes(content)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def bad_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that cannot be read; and nobody may try to populate it, as that need not end."""
    sendfile = os.sendfile

    def failing(out: int, fd: int, off: int, size: int) -> int:
        if off <= BAD_OFF < off + size:
            if off == BAD_OFF:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            size = BAD_OFF - off
        return sendfile(out, fd, off, size)

    monkeypatch.setattr(filebytes.os, "sendfile", failing)
    monkeypatch.setattr(filebytes, "_populating_ends", lambda: False)
    monkeypatch.setattr(filebytes.mmap, "mmap", NotedMapping)
    monkeypatch.setattr(NotedMapping, "populated", [])


def test_a_file_is_mapped(fd: int, content: bytes) -> None:
    file = open_bytes(fd)
    assert isinstance(file, MappedFile)
    assert bytes(file.view(100, 10000)) == content[100:10100]


def test_a_file_that_does_not_allow_it_is_read(
    fd: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(filebytes.os, "sendfile", refusing)
    file = open_bytes(fd)
    assert isinstance(file, ReadFile)
    assert bytes(file.view(100, 10000)) == content[100:10100]


@pytest.mark.usefixtures("bad_page")
@pytest.mark.parametrize(
    ("off", "size"), [(0, SIZE), (BAD_OFF, 4096), (BAD_OFF - 4096, 8192), (BAD_OFF, 1)]
)
def test_a_bad_page_is_an_error(fd: int, off: int, size: int) -> None:
    file = open_bytes(fd)
    before = list(NotedMapping.populated)
    with pytest.raises(OSError, match="Input/output error"):
        file.view(off, size)
    assert NotedMapping.populated == before


def test_a_bad_page_fails_to_be_populated(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is known to end, nothing is done before."""

    class Failing(mmap.mmap):
        def madvise(self, option: int, *where: int) -> None:
            if where and where[0] <= BAD_OFF < sum(where):
                raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
            super().madvise(option, *where)

    file = open_bytes(fd)
    monkeypatch.setattr(filebytes.mmap, "mmap", Failing)
    monkeypatch.setattr(filebytes, "_populating_ends", lambda: True)
    monkeypatch.delattr(filebytes.os, "sendfile")
    assert len(file.view(0, BAD_OFF)) == BAD_OFF
    with pytest.raises(OSError, match="Bad address"):
        file.view(0, SIZE)


@pytest.mark.parametrize(
    ("release", "ends"),
    [("6.1.0-56-cloud-amd64", False), ("6.8", False), ("6.9.0", True), ("6.12+", False),
     ("7.0-rc1", True), ("6.12.117+deb12-cloud-amd64", True), ("mine", False)],
)  # fmt: skip
def test_since_when_populating_ends(
    release: str, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filebytes.os, "uname", lambda: SimpleNamespace(release=release))
    assert filebytes._populating_ends.__wrapped__() is ends


@pytest.mark.usefixtures("bad_page")
def test_pages_around_a_bad_one(fd: int, content: bytes) -> None:
    file = open_bytes(fd)
    view = file.view(0, SIZE, [(0, BAD_OFF), (BAD_OFF + 4096, SIZE)])
    assert bytes(view[:BAD_OFF]) == content[:BAD_OFF]
    assert bytes(view[BAD_OFF + 4096 :]) == content[BAD_OFF + 4096 :]


@pytest.mark.usefixtures("bad_page")
def test_few_bytes_of_many_are_read(fd: int, content: bytes) -> None:
    file = open_bytes(fd)
    assert isinstance(file, MappedFile)
    before = list(NotedMapping.populated)
    wanted = [(0, 64), (SIZE - 64, SIZE)]
    view = file.view(0, SIZE, wanted)
    assert all(bytes(view[start:end]) == content[start:end] for start, end in wanted)
    assert NotedMapping.populated == before


class TestMemory:
    """What becomes resident, of processes of their own."""

    def grown(self, path: Path, code: str) -> int:
        """Bytes by which a process grows through ``code``, which knows ``file``, 64 MiB of it."""
        path.touch()
        os.truncate(path, 64 * MIB)
        program = (
            "import mmap, os, sys\n"
            "from pydumpfile.sources.filebytes import WINDOW_SIZE, open_bytes, room_for\n"
            "def resident():\n"
            "    return int(open('/proc/self/statm').read().split()[1]) * mmap.PAGESIZE\n"
            "def use(code):\n"
            "    file = open_bytes(os.open(sys.argv[1], os.O_RDONLY))\n"
            "    file.view(0, 1), file.view(0, 1 << 20, [(0, 1)])\n"
            "    before = resident()\n"
            "    scope = {**globals(), 'file': file}\n"
            "    exec(code, scope)\n"
            "    return resident() - before\n"
            "print(use(sys.argv[2]))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), code],
            check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return int(done.stdout)

    def test_room_is_taken_by_what_is_touched(self, tmp_path: Path) -> None:
        code = "room = room_for(WINDOW_SIZE)\nroom[5 << 20] = 1\n"
        assert self.grown(tmp_path / "file", code) < MIB

    def test_few_bytes_of_many_stay_few(self, tmp_path: Path) -> None:
        """Every time at other places, so that at last every page of the buffer was in use."""
        code = (
            "for place in range(2048):\n"
            "    at = place << 12\n"
            "    view = file.view(0, WINDOW_SIZE, [(at, at + 64)])\n"
        )
        assert self.grown(tmp_path / "file", code) < 3 * MIB

    def test_a_window_and_few_bytes_are_not_held_at_once(self, tmp_path: Path) -> None:
        code = (
            "file.view(0, WINDOW_SIZE, [(0, 64), (WINDOW_SIZE - 64, WINDOW_SIZE)])\n"
            "for off in range(0, 64 << 20, WINDOW_SIZE):\n"
            "    view = file.view(off, WINDOW_SIZE)\n"
        )
        assert 7 * MIB < self.grown(tmp_path / "file", code) < 10 * MIB

    def test_dropped_views_take_nothing(self, tmp_path: Path) -> None:
        code = "file.view(0, WINDOW_SIZE)\nfile.drop_views()\n"
        assert self.grown(tmp_path / "file", code) < MIB
        code += "view = file.view(0, WINDOW_SIZE)\n"
        assert self.grown(tmp_path / "file", code) > 7 * MIB


def test_more_than_there_may_be_is_no_memory() -> None:
    with pytest.raises(MemoryError, match="no room for"):
        filebytes.room_for(1 << 60)
