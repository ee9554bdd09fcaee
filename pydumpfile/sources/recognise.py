# SPDX-License-Identifier: GPL-2.0-or-later
"""What a file that is no memory image pydumpfile reads can be: refused by its name."""

from __future__ import annotations

from typing import NamedTuple, Optional


class _Other(NamedTuple):
    """A format known by its first bytes, and what can be done about it."""

    magic: bytes
    off: int
    name: str
    advice: str = ""


_UNPACK = "unpack it first"
_OTHERS = (
    _Other(b"DISKDUMP", 0, "a diskdump, which kernels before 2.6.13 wrote"),
    _Other(b"sadump\0\0", 0, "a Fujitsu sadump", "makedumpfile can convert it"),
    _Other(b"sadump\0\0", 4096, "a Fujitsu sadump on backup media", "makedumpfile can convert it"),
    _Other(bytes.fromhex("ed238f61730119a8"), 0, "an LKCD dump"),
    _Other(bytes.fromhex("cd238f61730119a8"), 0, "a live LKCD dump"),
    _Other(bytes.fromhex("a8190173618f23ed"), 0, "a big-endian LKCD dump"),
    _Other(b"QEVM", 0, "a saved state of QEMU", "ask QEMU for dump-guest-memory"),
    _Other(b"LibvirtQemudSave", 0, "a saved state of libvirt", "virsh dump --memory-only"),
    _Other(b"PAGEDU", 0, "a dump of a Windows kernel"),
    *(
        _Other(bytes.fromhex(magic), 0, "a saved state of VMware", "vmss2core can convert it")
        for magic in ("d0bed0be", "d2bed2be", "d3bed3be", "d1bad1ba")
    ),
    _Other(b"\x1f\x8b\x08", 0, "a gzip file", _UNPACK),
    _Other(b"\x28\xb5\x2f\xfd", 0, "a zstd file", _UNPACK),
    _Other(b"\xfd7zXZ\0", 0, "an xz file", _UNPACK),
    _Other(b"BZh", 0, "a bzip2 file", _UNPACK),
)

LONGEST = max(other.off + len(other.magic) for other in _OTHERS)
"""Bytes that are needed to tell."""


def recognise(start: bytes) -> Optional[tuple[str, str]]:
    """Name and advice for a file that begins with ``start``; None if it is nothing known."""
    for other in _OTHERS:
        if start.startswith(other.magic, other.off):
            return other.name, other.advice
    return None
