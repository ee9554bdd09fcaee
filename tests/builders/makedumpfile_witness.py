# SPDX-License-Identifier: GPL-2.0-or-later
"""An installed makedumpfile as a witness: the bitmaps it computes for a core."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple, Optional

_BLOCK_SIZE = 4096
_MAX_MAPNR_64_OFF = _BLOCK_SIZE + 96  # struct kdump_sub_header


def find_makedumpfile() -> Optional[str]:
    """Path of the installed makedumpfile, None if there is none."""
    return shutil.which("makedumpfile") or shutil.which("makedumpfile", path="/usr/sbin:/sbin")


class Bitmaps(NamedTuple):
    """Bitmaps of a kdump-compressed file, cut to max_mapnr bits."""

    max_mapnr: int
    exists: bytes
    dumpable: bytes


def dump_bitmaps(makedumpfile: str, core: Path, level: int, output: Path) -> Bitmaps:
    """Dump `core` at `level` and read the two bitmaps of the output.

    :raises RuntimeError: makedumpfile failed; its own words are in the message.
    """
    result = subprocess.run(
        [makedumpfile, "-f", "-d", str(level), "--message-level", "31", str(core), str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"makedumpfile -d {level} failed: {result.stdout[-2000:]}")
    return read_bitmaps(output)


def read_bitmaps(path: Path) -> Bitmaps:
    """Bitmaps of a kdump-compressed file with 4 KiB blocks, header version 6."""
    with open(path, "rb") as dump:
        header = dump.read(464)
        if header[:8] != b"KDUMP   ":
            raise ValueError(f"{path}: signature {header[:8]!r}, expected b'KDUMP   '")
        block_size, sub_blocks, bitmap_blocks = struct.unpack_from("<iiI", header, 428)
        if block_size != _BLOCK_SIZE:
            raise ValueError(f"{path}: block size {block_size}, expected {_BLOCK_SIZE}")
        dump.seek(_MAX_MAPNR_64_OFF)
        (max_mapnr,) = struct.unpack("<Q", dump.read(8))
        dump.seek((1 + sub_blocks) * _BLOCK_SIZE)
        half = bitmap_blocks // 2 * _BLOCK_SIZE
        size = -(-max_mapnr // 8)
        return Bitmaps(max_mapnr, dump.read(half)[:size], dump.read(half)[:size])
