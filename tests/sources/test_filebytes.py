# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of a file: what is mapped is made sure of before."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from pydumpfile.sources import filebytes
from pydumpfile.sources.filebytes import MappedFile, ReadFile, open_bytes

SIZE = 64 << 10
BAD_OFF = 5 << 12


class NotedMapping(mmap.mmap):
    """A mapping that tells which bytes of it were populated."""

    populated: ClassVar[list[tuple[int, ...]]] = []

    def madvise(self, option: int, *where: int) -> None:
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
