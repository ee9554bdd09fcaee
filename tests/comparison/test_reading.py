# SPDX-License-Identifier: GPL-2.0-or-later
"""mem_map found in a file and read, each way."""

from __future__ import annotations

import io
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

import pydumpfile
from pydumpfile.comparison import reading
from pydumpfile.comparison.reading import BlockImage, mem_map_extents
from pydumpfile.errors import UnsupportedError
from pydumpfile.filter.pfnlists import Extent
from tests.builders import BuiltCore

PAGE = mmap.PAGESIZE


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "file"
    path.write_bytes(os.urandom(40 * PAGE))
    return path


EXTENTS = [Extent(3 * PAGE, 7 * PAGE + 24), Extent(20 * PAGE + 8, 16), Extent(39 * PAGE, PAGE)]
TOTAL = sum(extent.size for extent in EXTENTS)


@pytest.mark.parametrize("size", [PAGE, 4 * PAGE, 64 * PAGE])
@pytest.mark.parametrize("read", [reading.read_by_blocks, reading.read_by_mmap])
def test_all_of_it_is_read(read: object, size: int, file: Path) -> None:
    assert callable(read)
    buffer = memoryview(bytearray(size))
    assert read(str(file), EXTENTS, buffer) == TOTAL
    assert buffer[:PAGE] == file.read_bytes()[39 * PAGE :]


@pytest.mark.parametrize("block_size", [PAGE, 3 * PAGE, 64 * PAGE])
@pytest.mark.parametrize(("off", "size"), [(0, 40 * PAGE), (17, 5 * PAGE), (PAGE, 100)])
def test_views_by_blocks_are_the_file(block_size: int, off: int, size: int, file: Path) -> None:
    image = BlockImage(str(file), block_size)
    assert image.windows(True).view(off, size) == file.read_bytes()[off : off + size]
    image.close()


@pytest.mark.parametrize(("block_size", "n_blocks"), [(PAGE, 40), (4 * PAGE, 10), (64 * PAGE, 0)])
def test_views_are_read_in_blocks(
    block_size: int, n_blocks: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Noted(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            sizes.append(len(buffer))
            return super().readinto(buffer) or 0

    monkeypatch.setattr(reading.io, "FileIO", Noted)
    image = BlockImage(str(file), block_size)
    image.windows(True).view(0, 40 * PAGE)
    image.close()
    assert sizes == [block_size] * n_blocks


def test_a_view_past_the_end_is_an_error(file: Path) -> None:
    image = BlockImage(str(file), PAGE)
    with pytest.raises(OSError, match="ends here"):
        image.windows(True).view(39 * PAGE, 2 * PAGE)
    image.close()


def test_extents_hold_all_struct_pages(small: BuiltCore) -> None:
    with pydumpfile.open(small.path) as vmcore:
        extents = mem_map_extents(vmcore)
        n_pages = sum(piece.end_pfn - piece.first_pfn for piece in vmcore.mem_map if piece.online)
        size = vmcore.mem_map.struct_page_size
        piece = next(iter(vmcore.mem_map))
        first = vmcore.memory.read(piece.vaddr, size)
    assert 0 < sum(extent.size for extent in extents) <= n_pages * size
    assert small.path.read_bytes()[extents[0].off :][:size] == first
    ends = [extent.off + extent.size for extent in extents]
    assert all(extent.off not in ends for extent in extents)


def test_a_dump_has_no_places_to_read(small: BuiltCore, tmp_path: Path) -> None:
    pydumpfile.dump(small.path, tmp_path / "dump", 31, "none")
    with pydumpfile.open(tmp_path / "dump") as vmcore:  # noqa: SIM117
        with pytest.raises(UnsupportedError, match="no ELF vmcore"):
            mem_map_extents(vmcore)
