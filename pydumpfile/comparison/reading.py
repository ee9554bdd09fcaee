# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading mem_map out of an ELF vmcore: by read(2) with blocks of a size, or through mmap windows.

What is read lands in one buffer of this process either way, as nothing else looks at it here.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Callable

from pydumpfile.comparison.result import READING, Found
from pydumpfile.comparison.ways import Progress, Way, measure_in_turns
from pydumpfile.errors import FormatError, UnsupportedError
from pydumpfile.filter.pfnlists import Extent, locate
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.filebytes import FileBytes, ReadFile
from pydumpfile.sources.image import FileImage

BLOCK_SIZES = {"4K": 4 << 10, "64K": 64 << 10, "1M": 1 << 20, "4M": 4 << 20}
WINDOW_SIZES = {"64K": 64 << 10, "1M": 1 << 20, "4M": 4 << 20}
_GRANULE = mmap.ALLOCATIONGRANULARITY


def mem_map_extents(vmcore: Vmcore) -> list[Extent]:
    """Where in the file the struct pages are that are read, what lies together as one.

    :raises UnsupportedError: the file is no ELF vmcore.
    """
    source = vmcore.source
    if not isinstance(source, ElfSource):
        raise UnsupportedError(f"{source.path}: comparing ways to read what is no ELF vmcore")
    size = os.stat(source.path).st_size
    extents: list[Extent] = []
    for piece in vmcore.mem_map:
        if not piece.online:
            continue
        located = locate(piece, vmcore.mem_map.struct_page_size, vmcore.memory, source.loads)
        for extent in located.extents:
            if extent.off + extent.size > size:
                continue  # of nothing
            if extents and extents[-1].off + extents[-1].size == extent.off:
                extents[-1] = Extent(extents[-1].off, extents[-1].size + extent.size)
            else:
                extents.append(extent)
    return extents


def measure_reading(
    path: str, extents: Sequence[Extent], n_rounds: int, progress: Progress
) -> Iterator[Found]:
    """Every way there is.

    :raises OSError: the file cannot be read.
    """
    size = sum(extent.size for extent in extents)
    whole_buffer = memoryview(bytearray(max(*BLOCK_SIZES.values(), *WINDOW_SIZES.values())))

    def timed(read: Callable[[str, Iterable[Extent], memoryview], int], block_size: int) -> int:
        buffer = whole_buffer[:block_size]
        begin = time.monotonic_ns()
        n_bytes = read(path, extents, buffer)
        end = time.monotonic_ns()
        if n_bytes != size:
            raise FormatError(path, 0, f"{size} bytes of mem_map", f"{n_bytes}")
        return end - begin

    by_read = {
        f"read {name}": Way(partial(timed, read_by_blocks, block_size))
        for name, block_size in BLOCK_SIZES.items()
    }
    by_mmap = {
        f"mmap {name}": Way(partial(timed, read_by_mmap, window_size))
        for name, window_size in WINDOW_SIZES.items()
    }
    yield from measure_in_turns(READING, {**by_read, **by_mmap}, n_rounds, progress)


def read_by_blocks(path: str, extents: Iterable[Extent], buffer: memoryview) -> int:
    """Read all of ``extents`` by read(2) of as much as ``buffer`` takes; how many bytes there were.

    :raises OSError: the file cannot be read.
    """
    block_size, total = len(buffer), 0
    with open(path, "rb", buffering=0) as file:
        for off, size in extents:
            file.seek(off)
            n_blocks, rest = divmod(size, block_size)
            # No line of Python for each block: at 4K that would cost as much as the call itself.
            total += sum(map(file.readinto, repeat(buffer, n_blocks)))
            total += file.readinto(buffer[:rest]) if rest else 0
    return total


def read_by_mmap(path: str, extents: Iterable[Extent], buffer: memoryview) -> int:
    """Copy all of ``extents`` to ``buffer``, from mappings of its size; how many bytes there were.

    :raises OSError: the file cannot be mapped.
    """
    window_size, total = len(buffer), 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for off, size in extents:
            end = off + size
            while off < end:
                start = off - off % _GRANULE
                stop = min(end, start + window_size)
                _copy_from_map(fd, start, off - start, buffer[: stop - off])
                total += stop - off
                off = stop
    except ValueError as error:  # the file has become shorter
        raise OSError(errno.EFAULT, "the file ends here") from error
    finally:
        os.close(fd)
    return total


def _copy_from_map(fd: int, start_off: int, skip: int, buffer: memoryview) -> None:
    """Fill ``buffer`` from a mapping made for it, which starts ``skip`` bytes before."""
    size = skip + len(buffer)
    window = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ, offset=start_off)
    with window, memoryview(window) as seen:
        buffer[:] = seen[skip:]


class BlockImage(FileImage):
    """A file that is read, never mapped, with at most ``block_size`` bytes a call."""

    def __init__(self, path: str, block_size: int) -> None:
        super().__init__(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)
        self._block_size = block_size

    def windows(self, use_mmap: bool) -> FileBytes:
        del use_mmap
        return _BlockFile(self._fd, self._block_size)


class _BlockFile(ReadFile):
    """By read(2) with blocks, into one buffer."""

    def __init__(self, fd: int, block_size: int) -> None:
        super().__init__(fd)
        self._block_size = block_size
        self._blocks = io.FileIO(fd, closefd=False)

    def read_into(self, off: int, buffer: memoryview) -> None:
        n_blocks = len(buffer) // self._block_size
        whole = n_blocks * self._block_size
        self._blocks.seek(off)
        ends = range(self._block_size, whole + 1, self._block_size)
        blocks = map(buffer.__getitem__, map(slice, range(0, whole, self._block_size), ends))
        if sum(map(self._blocks.readinto, blocks)) != whole:
            raise OSError(errno.EFAULT, "the file ends here")
        if whole < len(buffer):
            super().read_into(off + whole, buffer[whole:])
