# SPDX-License-Identifier: GPL-2.0-or-later
"""cpio archives in the "newc" format that the kernel unpacks as initramfs: written, and listed.

The same files always give the same bytes: sorted, owned by root, of the year 1970. Source:
Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

_MAGIC = b"070701"
_MAGICS = (_MAGIC, b"070702")
_N_FIELDS = 13
_HEADER_SIZE = len(_MAGIC) + 8 * _N_FIELDS
_MODE, _FILE_SIZE, _NAME_SIZE = 1, 6, 11
_TRAILER = "TRAILER!!!"
_ALIGNMENT = 512
_LARGEST_NAME = 4096


class Entry(NamedTuple):
    """A file or symbolic link: ``mode`` with its type, and the content or the link's target."""

    mode: int
    content: bytes

    @classmethod
    def file(cls, content: bytes, permissions: int = 0o644) -> Entry:
        return cls(stat.S_IFREG | permissions, content)

    @classmethod
    def link(cls, target: str) -> Entry:
        return cls(stat.S_IFLNK | 0o777, target.encode())


def archive(entries: Mapping[str, Entry]) -> bytes:
    """The archive of ``entries``, which are named from the root without a slash in front.

    Folders are added by themselves.
    """
    folders = {parent: Entry(stat.S_IFDIR | 0o755, b"") for parent in _parents(entries)}
    pieces = [
        _entry(inode, name, entry)
        for inode, (name, entry) in enumerate(sorted({**folders, **entries}.items()), 1)
    ]
    pieces.append(_entry(0, _TRAILER, Entry(0, b"")))
    size = sum(map(len, pieces))
    return b"".join(pieces) + bytes(-size % _ALIGNMENT)


def _parents(names: Mapping[str, Entry]) -> set[str]:
    return {name[:at] for name in names for at, letter in enumerate(name) if letter == "/"}


def _entry(inode: int, name: str, entry: Entry) -> bytes:
    n_links = 2 if stat.S_ISDIR(entry.mode) else 1
    raw_name = name.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, n_links, 0, len(entry.content), 0, 0, 0, 0, len(raw_name), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + raw_name
    return head + bytes(-len(head) % 4) + entry.content + bytes(-len(entry.content) % 4)


def names(stream: BinaryIO) -> Iterator[str]:
    """Names of what is in the archives that ``stream`` starts with, one behind the other.

    Stops, with the stream behind what it looked at last, where something else follows: the end, or
    another compressed archive.
    """
    while True:
        magic = b"\0" * 4
        while magic == b"\0" * 4:  # between archives
            magic = stream.read(4)
        header = magic + stream.read(_HEADER_SIZE - 4)
        if len(header) < _HEADER_SIZE or header[: len(_MAGIC)] not in _MAGICS:
            return
        try:
            fields = [int(header[i : i + 8], 16) for i in range(len(_MAGIC), _HEADER_SIZE, 8)]
        except ValueError:
            return
        if fields[_NAME_SIZE] > _LARGEST_NAME:
            return
        padded_size = fields[_NAME_SIZE] + -(_HEADER_SIZE + fields[_NAME_SIZE]) % 4
        raw_name = stream.read(padded_size)
        if len(raw_name) < padded_size:
            return
        left = fields[_FILE_SIZE] + -fields[_FILE_SIZE] % 4
        while left:
            piece = stream.read(min(left, 1 << 20))
            if not piece:
                return
            left -= len(piece)
        name = raw_name[: fields[_NAME_SIZE] - 1].decode("utf-8", "replace")
        if name != _TRAILER:
            yield name
