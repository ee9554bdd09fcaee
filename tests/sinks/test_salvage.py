# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump for which there is no space: every page whose data is in the file can be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from pydumpfile.dump import dump_vmcore
from pydumpfile.errors import OutputError, SizeLimitError
from pydumpfile.filter.level import Level
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.reassemble import reassemble
from pydumpfile.sinks import Target
from tests.builders import BuiltCore
from tests.sinks.full_disk import BLOCK, Disk
from tests.sinks.kdump_reader import Dump
from tests.test_split import names, split, whole

Job = Callable[[Target], object]


@pytest.fixture(scope="module")
def complete(small: BuiltCore, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    path = tmp_path_factory.mktemp("complete") / "dump"
    whole(small.path, path, level=0)
    return Dump(path)


@pytest.fixture(scope="module", params=["dump", "reassemble"])
def job(
    request: pytest.FixtureRequest, small: BuiltCore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Job]:
    """Either of what writes such a dump."""
    if request.param == "dump":
        with Vmcore.open(str(small.path)) as vmcore:
            yield lambda target: dump_vmcore(vmcore, target, Level(0), "none")
    else:
        parts = names(tmp_path_factory.mktemp("parts"), 3)
        split(small.path, parts, level=0)
        yield lambda target: reassemble(parts, target)


def readable(path: Path, complete: Dump) -> list[int]:
    """The pages that are in the file at ``path``, which have to be the right ones."""
    dump = Dump(path)
    assert dump.incomplete
    pages = {pfn: dump.page(pfn) for pfn in dump.pfns}
    there = [pfn for pfn in dump.pfns if pages[pfn] is not None]
    assert all(pages[pfn] == complete.page(pfn) for pfn in there)
    assert there == dump.pfns[: len(there)]
    return there


@pytest.mark.parametrize("n_pages", [0, 700, 7000])
def test_up_to_the_limit(job: Job, complete: Dump, tmp_path: Path, n_pages: int) -> None:
    """Of ``-L``: to the page, in the first table piece and behind it."""
    limit = complete.descriptors[complete.pfns[n_pages]].offset + BLOCK - 1
    with pytest.raises(SizeLimitError):
        job(Target(str(tmp_path / "dump"), size_limit=limit))
    assert len(readable(tmp_path / "dump", complete)) == n_pages


@pytest.mark.parametrize("n_pages", [100, 7000])
def test_up_to_a_full_disk(
    job: Job, complete: Dump, tmp_path: Path, n_pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the pages that made place for the last descriptors."""
    before = complete.descriptors[complete.pfns[0]].offset // BLOCK
    disk = Disk(before + n_pages)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", disk.pwrite)
        patch.setattr(os, "ftruncate", disk.ftruncate)
        with pytest.raises(OutputError) as caught:
            job(Target(str(tmp_path / "dump")))
    assert caught.value.errno == errno.ENOSPC
    n_readable = len(readable(tmp_path / "dump", complete))
    assert n_pages - 40 < n_readable


def test_interrupted(
    job: Job, complete: Dump, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With space, all that was read by then."""
    pwrite, n_written = os.pwrite, 0

    def interrupted(fd: int, data: memoryview, off: int) -> int:
        nonlocal n_written
        n_written += len(data)
        if n_written > 8 << 20:
            n_written = 0
            raise KeyboardInterrupt
        return pwrite(fd, data, off)

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job(Target(str(tmp_path / "dump")))
    there = readable(tmp_path / "dump", complete)
    assert (8 << 20) // BLOCK - 512 < len(there) < len(complete.pfns)
