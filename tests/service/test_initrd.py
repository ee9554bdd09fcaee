# SPDX-License-Identifier: GPL-2.0-or-later
"""Finished initramfs images, as the builders of distributions lay them out."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from pydumpfile.service import cpio, initrd
from pydumpfile.service.cpio import Entry


def archive(*names: str) -> bytes:
    return cpio.archive({name: Entry.file(name.encode() * 100) for name in names})


EARLY, MAIN, ADDED = archive("kernel/microcode"), archive("init", "bin/sh"), archive("added")


def _by(program: str) -> Callable[[bytes], bytes]:
    options = ["-l"] if program == "lz4" else []  # the kernel's own format

    def compress(content: bytes) -> bytes:
        if shutil.which(program) is None:
            pytest.skip(f"{program}(1) is not installed")
        done = subprocess.run(
            [program, *options, "-c", "-q"], input=content, check=True, stdout=subprocess.PIPE
        )
        return done.stdout

    return compress


def look(tmp_path: Path, image: bytes) -> initrd.Contents:
    path = tmp_path / "initrd"
    path.write_bytes(image)
    return initrd.look_into(str(path))


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, lambda c: lzma.compress(c, check=lzma.CHECK_CRC32), bz2.compress,
     _by("zstd"), _by("lz4")],
    ids=["plain", "gzip", "xz", "bzip2", "zstd", "lz4"],
)  # fmt: skip
def test_an_image_of_three_archives(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """Microcode for early boot, the image itself, and what was appended to the finished file."""
    middle = compress(MAIN)
    image = EARLY + middle + bytes(-len(EARLY + middle) % 4) + ADDED
    contents = look(tmp_path, image)
    assert contents.obstacle == ""
    assert {"kernel/microcode", "init", "bin/sh", "added"} <= contents.names
    lengths = sum(map(len, (EARLY, MAIN, ADDED)))
    assert lengths - 3 * 512 < contents.unpacked <= lengths


def test_names_with_a_dot_in_front(tmp_path: Path) -> None:
    assert "usr/bin/tool" in look(tmp_path, archive("./usr/bin/tool")).names


def test_an_archive_that_is_damaged(tmp_path: Path) -> None:
    contents = look(tmp_path, EARLY + gzip.compress(MAIN)[:2] + b"\xff" * 100)
    assert "kernel/microcode" in contents.names
    assert "cannot be unpacked" in contents.obstacle


def test_something_unknown(tmp_path: Path) -> None:
    assert "no compression known here" in look(tmp_path, b"\x01\x02\x03\x04" * 100).obstacle


def test_a_squashed_image_inside(tmp_path: Path) -> None:
    assert "squashed image" in look(tmp_path, archive("squash-root.img", "init")).obstacle


def test_an_empty_file(tmp_path: Path) -> None:
    assert look(tmp_path, b"") == initrd.Contents(frozenset(), 0, "")
