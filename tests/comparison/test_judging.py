# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel is asked before it is to judge, and how it is told to copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydumpfile.comparison import judging
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
