# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumpers as processes: their bitmap, their time, their failures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydumpfile.comparison import bitmaps, dumping, judging
from pydumpfile.comparison.dumping import Commands, Dumper, DumperFailedError, measure_dumping
from pydumpfile.errors import FormatError
from tests.builders import BuiltCore

OWN = (sys.executable, "-m", "pydumpfile")


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_ours_gives_a_bitmap_and_a_time(small: BuiltCore) -> None:
    dumper = Dumper((*OWN, "-d", "31", "-F", str(small.path)))
    assert dumper.bitmap().bits == small.verdict(31).rstrip(b"\0")
    assert dumper.time() > 0


@pytest.mark.parametrize(
    ("script", "told"),
    [("echo no; exit 3", "ended with 3: no"), ("kill -9 $$", "ended with -9"), ("exit 1", "word")],
)
def test_a_failure_says_what_was_said(script: str, told: str) -> None:
    dumper = Dumper(("sh", "-c", f"exec >&2; {script}"))
    with pytest.raises(DumperFailedError, match=told):
        dumper.time()
    with pytest.raises(DumperFailedError, match=told):
        dumper.bitmap()


def test_what_writes_no_dump_has_no_bitmap() -> None:
    with pytest.raises(FormatError):
        Dumper(("echo", "hello")).bitmap()


def test_what_is_not_there_cannot_be_started() -> None:
    with pytest.raises(DumperFailedError, match="No such file"):
        Dumper(("/no/such/program",)).time()


def test_all_ways_are_told_of(small: BuiltCore) -> None:
    commands = Commands(str(small.path), 31, OWN, "no-such-makedumpfile")
    ours = bitmaps.Kept([(0, small.verdict(31))])
    found = {one.way: one for one in measure_dumping(commands, ours, 1, lambda _: None)}
    for way in ("judged in user space, read", "judged in user space, mmap"):
        assert found[way].bitmap == ours.sha256
        assert len(found[way].ns) == 1
    in_kernel = [way for way in found if way.startswith("judged in kernel")]
    assert len(in_kernel) == 3
    for way in in_kernel:
        assert "no /proc/vmcore_pfn_lists" in found[way].missing
    for way in ("makedumpfile, read", "makedumpfile, mmap"):
        assert found[way].missing == "there is no no-such-makedumpfile"


def test_the_direct_mapping_is_off_for_what_copies(
    small: BuiltCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dumper says what it found; the stream it writes is that of any other."""
    switch, seen = tmp_path / "switch", tmp_path / "seen"
    switch.write_text("Y")
    own = tmp_path / "own"
    own.write_text(f'#!/bin/sh\necho "$(cat {switch}) $*" >> {seen}\n'
                   f'exec {sys.executable} -m pydumpfile "$@" --filter-in user\n')  # fmt: skip
    own.chmod(0o755)
    monkeypatch.setattr(judging, "SWITCH", str(switch))
    monkeypatch.setattr(dumping, "kernel_filter_missing", lambda _: "")
    commands = Commands(str(small.path), 31, (str(own),), "no-such-makedumpfile")
    found = {one.way: one for one in measure_dumping(commands, bitmaps.Kept([]), 1, print)}
    assert len(found["judged in kernel by copying, mmap"].ns) == 1
    lines = seen.read_text().splitlines()
    assert [line[0] for line in lines].count("N") == 2  # its bitmap, and its time
    assert all("--filter-in kernel" in line for line in lines if line[0] == "N")
    assert switch.read_text() == "Y"


def test_a_dumper_that_fails_is_told_of_and_not_timed(small: BuiltCore, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("#!/bin/sh\necho I will not >&2\nexit 1\n")
    theirs.chmod(0o755)
    commands = Commands(str(small.path), 31, OWN, str(theirs))
    found = list(measure_dumping(commands, bitmaps.Kept([]), 1, lambda _: None))
    failed = [one for one in found if one.way.startswith("makedumpfile")]
    assert len(failed) == 2
    assert all(one.missing.startswith("failed: ") and "I will not" in one.missing for one in failed)
    assert not any(one.ns for one in failed)
