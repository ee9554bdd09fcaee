# SPDX-License-Identifier: GPL-2.0-or-later
"""Formats that are refused by their name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct

import pytest
import zstandard

from pydumpfile.sources.recognise import LONGEST, recognise


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"DISKDUMP", "diskdump"),
        (b"sadump\0\0", "sadump"),
        (bytes(4096) + b"sadump\0\0", "backup media"),
        (struct.pack("<Q", 0xA8190173618F23ED), "LKCD"),
        (struct.pack("<Q", 0xA8190173618F23CD), "LKCD"),
        (struct.pack(">Q", 0xA8190173618F23ED), "LKCD"),
        (b"QEVM\0\0\0\3", "QEMU"),
        (b"LibvirtQemudSave", "libvirt"),
        (b"PAGEDU64", "Windows"),
        (b"PAGEDUMP", "Windows"),
        (struct.pack("<I", 0xBED2BED2), "VMware"),
        (struct.pack("<I", 0xBED3BED3), "VMware"),
        (gzip.compress(b"x"), "gzip"),
        (bz2.compress(b"x"), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (zstandard.ZstdCompressor().compress(b"x"), "zstd"),
    ],
)
def test_by_name(start: bytes, name: str) -> None:
    known = recognise(start.ljust(LONGEST, b"\1"))
    assert known is not None
    assert name in known[0]


@pytest.mark.parametrize(
    "start", [b"", b"\0" * 5000, b"sadump", b"text\n", b"KDUMP   ", b"\x7fELF"]
)
def test_nothing_known(start: bytes) -> None:
    assert recognise(start) is None
