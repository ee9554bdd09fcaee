# SPDX-License-Identifier: GPL-2.0-or-later
"""2nd bitmaps from windows and streams, and how they differ."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pydumpfile.bitmap import Bitmap
from pydumpfile.comparison import bitmaps
from pydumpfile.errors import FormatError, TruncatedError
from tests.builders import BuiltCore


def stream_of(core: Path, *options: str) -> bytes:
    command = [sys.executable, "-m", "pydumpfile", *options, "-F", str(core)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def kept_of(stream: bytes, tmp_path: Path) -> bitmaps.Kept:
    path = tmp_path / "stream"
    path.write_bytes(stream)
    fd = os.open(path, os.O_RDONLY)
    try:
        return bitmaps.Kept(bitmaps.of_stream(fd, "stream"))
    finally:
        os.close(fd)


def sha256(bits: bytes) -> str:
    return hashlib.sha256(bits.rstrip(b"\0")).hexdigest()


@pytest.mark.parametrize("level", [0, 16, 31])
def test_of_a_stream(level: int, small: BuiltCore, tmp_path: Path) -> None:
    kept = kept_of(stream_of(small.path, "-d", str(level)), tmp_path)
    assert kept.sha256 == sha256(small.verdict(level))


def test_a_stream_that_ends_early_is_refused(small: BuiltCore, tmp_path: Path) -> None:
    with pytest.raises(TruncatedError):
        kept_of(stream_of(small.path)[:-16], tmp_path)


def test_what_is_no_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="flattened"):
        kept_of(b"KDUMP   ".ljust(8192, b"\0"), tmp_path)


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, b"\1\0\0\2\0\0")],
        [(0, b"\1\0"), (3, b"\2")],
        [(0, b"\1"), (1, b"\0"), (2, b"\0\2"), (4, b"\0")],
    ],
)
def test_pieces_make_the_same_bitmap(pieces: Sequence[bitmaps.Piece]) -> None:
    kept = bitmaps.Kept(pieces)
    assert kept.sha256 == sha256(b"\1\0\0\2")
    assert kept.bits == b"\1\0\0\2"


def test_pieces_out_of_order_are_refused() -> None:
    with pytest.raises(FormatError, match="in order"):
        bitmaps.Kept([(4, b"\1"), (2, b"\1")])


def test_differing_pages_are_counted() -> None:
    one = bitmaps.Kept([(0, b"\xff\x01")])
    assert one.differing(bitmaps.Kept([(0, b"\xff\x01\0")])) == 0
    assert one.differing(bitmaps.Kept([(0, b"\xfe\x03\x80")])) == 3
    assert one.differing(bitmaps.Kept([])) == 9


def test_large_ones_are_only_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitmaps, "MAX_KEPT_SIZE", 2)
    large = bitmaps.Kept([(0, b"\1\1\1")])
    assert large.differing(bitmaps.Kept([(0, b"\1")])) is None
    assert large.differing(bitmaps.Kept([(0, b"\1\1"), (2, b"\1")])) == 0


def test_windows_leave_gaps() -> None:
    low, high = Bitmap(0, 16), Bitmap(64, 80)
    low.set_ranges([(1, 3)])
    high.set_ranges([(64, 66)])
    kept = bitmaps.Kept(bitmaps.of_windows([low, high]))
    assert kept.sha256 == sha256(b"\x06" + bytes(7) + b"\x03")
