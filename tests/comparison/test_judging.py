# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel is asked before it is to judge, and how it is told to copy."""

from __future__ import annotations

import hashlib
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydumpfile.bitmap import Bitmap
from pydumpfile.comparison import bitmaps, judging
from pydumpfile.filter import pfnlists


def test_no_kernel_filter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pfnlists, "PATH", str(tmp_path / "none"))
    assert "has no" in judging.kernel_filter_missing("/proc/vmcore")


def test_a_file_is_not_the_kernels_to_judge(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lists").touch()
    monkeypatch.setattr(pfnlists, "PATH", str(tmp_path / "lists"))
    assert "/proc/vmcore alone" in judging.kernel_filter_missing(str(tmp_path / "core"))
    assert judging.kernel_filter_missing("/proc/vmcore") == ""


def test_windows_are_hashed_one_by_one_while_the_clock_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    alive: weakref.WeakSet[Bitmap] = weakref.WeakSet()

    class Window(Bitmap):
        def __init__(self, first_pfn: int, end_pfn: int) -> None:
            super().__init__(first_pfn, end_pfn)
            self.set_ranges([(first_pfn, end_pfn)])
            alive.add(self)

    def judge() -> Iterator[Bitmap]:
        nonlocal now
        now += 1
        for i in range(5):
            now += 10
            yield Window(64 * i, 64 * i + 64)
            assert len(alive) <= 1
        now += 100

    class Hashed(bitmaps.Kept):
        def _add(self, off: int, piece: bytes) -> None:
            nonlocal now
            now += 1000
            super()._add(off, piece)

    monkeypatch.setattr(bitmaps, "Kept", Hashed)
    ns, sha256 = judging.time_windows(judge)
    assert ns == 1 + 5 * 10 + 100
    assert sha256 == hashlib.sha256(b"\xff" * 40).hexdigest()


@pytest.mark.parametrize(("before", "direct"), [("Y", True), ("Y", False), ("N", True)])
def test_the_switch_is_put_back(
    before: str, direct: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    switch.write_text(f"{before}\n")
    monkeypatch.setattr(judging, "SWITCH", str(switch))
    seen = []

    def measure() -> int:
        seen.append(judging.direct_mapping())
        raise OSError

    with pytest.raises(OSError):
        judging.switched(direct, measure)
    assert seen == [direct]
    assert switch.read_text()[0] == before


def test_without_a_switch_nothing_is_switched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(judging, "SWITCH", str(tmp_path / "none"))
    assert judging.direct_mapping() is None
    assert judging.switched(True, lambda: 5) == 5
    assert str(tmp_path) in judging.switch_missing()
    assert not (tmp_path / "none").exists()
