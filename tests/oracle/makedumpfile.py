# SPDX-License-Identifier: GPL-2.0-or-later
"""An installed makedumpfile: which pages it keeps of a core, without writing what they hold.

In its flattened output (-F) the headers and both bitmaps come before the first page, so the bitmaps
of a core of any size can be had from a pipe that is closed once they have passed.
"""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import BinaryIO, NamedTuple

from . import pfnset
from .dumpreader import HEADER_SIZE, SUB_HEADER_SIZE, DumpError, Layout, read_layout

_SIGNATURE = b"makedumpfile"
_FLATTENED_HEADER_SIZE = 4096
_RECORD = struct.Struct(">qq")
_BLOCK_SIZE = 4096


class Bitmaps(NamedTuple):
    """Both bitmaps of a dump, as sets of pfns."""

    exists: int
    kept: int


def version(makedumpfile: str) -> str:
    """Such as "1.7.2"."""
    run = subprocess.run([makedumpfile, "-v"], capture_output=True, text=True, check=False)
    match = re.search(r"makedumpfile: version (\S+)", run.stdout + run.stderr)
    if match is None:
        raise RuntimeError(f"{makedumpfile} -v says {run.stdout!r} {run.stderr!r}")
    return match.group(1)


def bitmaps(makedumpfile: str, core: Path, level: int) -> Bitmaps:
    """The bitmaps it computes for `core` at a dump level."""
    # /dev/null as stderr: the pipe is closed early on purpose, which it takes for an error.
    process = subprocess.Popen(
        [makedumpfile, "-F", "-d", str(level), str(core)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        try:
            return read_bitmaps(process.stdout)  # type: ignore[arg-type]
        finally:
            process.kill()


def dump(makedumpfile: str, core: Path, level: int, output: Path, *options: str) -> None:
    """Write an uncompressed dump."""
    run = subprocess.run(
        [makedumpfile, *options, "-f", "-d", str(level), str(core), str(output)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"makedumpfile -d {level} failed: {run.stderr[-1000:]}")


def read_bitmaps(stream: BinaryIO) -> Bitmaps:
    """Both bitmaps from a dump in the flattened format, reading no further than needed."""
    if not _read(stream, _FLATTENED_HEADER_SIZE).startswith(_SIGNATURE):
        raise DumpError("not the flattened format")
    head = bytearray()  # of the file, as far as records have come
    layout: Layout | None = None
    while True:
        off, size = _RECORD.unpack(_read(stream, _RECORD.size))
        if off < 0 or (layout and off >= layout.bitmaps_end):
            break
        data = _read(stream, size)
        head[len(head) : off] = bytes(max(off - len(head), 0))
        head[off : off + size] = data
        if off == _BLOCK_SIZE:  # the sub header, which follows the main header and the notes
            sub_header = bytes(head[_BLOCK_SIZE : _BLOCK_SIZE + SUB_HEADER_SIZE])
            layout = read_layout(bytes(head[:HEADER_SIZE]), sub_header)
    if layout is None or len(head) != layout.bitmaps_end:
        raise DumpError("the stream has pages before the end of the bitmaps")
    second_off = layout.bitmap_off + layout.half_size
    return Bitmaps(
        pfnset.from_bitmap(head[layout.bitmap_off : second_off]),
        pfnset.from_bitmap(head[second_off : layout.bitmaps_end]),
    )


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise DumpError("makedumpfile's output ends early")
    return data
