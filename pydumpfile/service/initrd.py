# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in a finished initramfs image: archives one behind the other, compressed or not."""

from __future__ import annotations

import bz2
import lzma
import re
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pydumpfile.service import cpio

# Only these two have no decompressor in the standard library.
_PROGRAMS = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4", b"\x04\x22\x4d\x18": "lz4"}
_GZIP, _XZ, _BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh"
_CPIO = re.compile(rb"07070[12][0-9A-Fa-f]{104}")
_SQUASHED = ("squash-root.img", "squash/root.img", "erofs-root.img")


class Contents(NamedTuple):
    """What could be seen of one image."""

    names: frozenset[str]
    unpacked: int
    """Bytes of the archives, which is what they take in memory."""
    obstacle: str
    """Why there may be more; empty if all was seen."""


def look_into(path: str) -> Contents:
    """List the image at ``path``.

    :raises OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        image = file.read()
    names: set[str] = set()
    unpacked = 0
    obstacle = ""
    for archive in _archives(image):
        with tempfile.TemporaryFile() as plain:
            try:
                _unpack(archive, plain)
            except (OSError, EOFError, subprocess.SubprocessError, zlib.error,
                    lzma.LZMAError) as error:  # fmt: skip
                obstacle = f"an archive in it cannot be unpacked: {error}"
            unpacked += plain.tell()
            plain.seek(0)
            names.update(name.removeprefix("./") for name in cpio.names(plain))
    if not obstacle and any(name.endswith(_SQUASHED) for name in names):
        obstacle = "its files are in a squashed image inside"
    return Contents(frozenset(names), unpacked, obstacle)


def _archives(image: bytes) -> Iterator[bytes]:
    """The pieces of ``image``: plain archives, and what lies between them.

    Plain archives are aligned to 4 bytes and begin with a header that does not occur by chance.
    """
    start = 0
    while start < len(image):
        if image[start : start + 4] == b"\0\0\0\0":
            start += 4
            continue
        if _CPIO.match(image, start):
            end = _end_of_plain(image, start)
        else:
            end = len(image)
            for match in _CPIO.finditer(image, start):
                if match.start() % 4 == 0:
                    end = match.start()
                    break
        yield image[start:end]
        start = end


def _end_of_plain(image: bytes, start: int) -> int:
    """Where the plain archive at ``start`` ends, by its headers."""
    at = start
    while _CPIO.match(image, at):
        size = int(image[at + 54 : at + 62], 16)
        name_size = int(image[at + 94 : at + 102], 16)
        name_off = at + 110
        data_off = name_off + name_size + -(110 + name_size) % 4
        at = data_off + size + -size % 4
        if image[name_off : name_off + name_size - 1] == b"TRAILER!!!":
            break
    return min(at, len(image))


def _unpack(archive: bytes, plain: BinaryIO) -> None:
    """Write ``archive`` to ``plain`` as it was before it was compressed."""
    if _CPIO.match(archive):
        plain.write(archive)
    elif archive.startswith(_GZIP):
        plain.write(zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(archive))
    elif archive.startswith(_XZ):
        plain.write(lzma.LZMADecompressor().decompress(archive))
    elif archive.startswith(_BZIP2):
        plain.write(bz2.BZ2Decompressor().decompress(archive))
    elif archive[:4] in _PROGRAMS:
        program = _PROGRAMS[archive[:4]]
        # What pads the archive is no archive; the program says so after it has done its work.
        done = subprocess.run(
            [program, "-dc", "-q"], input=archive, stdout=plain, stderr=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        plain.seek(0, 2)
        if done.returncode and not plain.tell():
            raise OSError(f"{program} ended with exit status {done.returncode}")
    else:
        raise OSError(f"it starts with {archive[:6].hex()}, which is no compression known here")
