# SPDX-License-Identifier: GPL-2.0-or-later
"""An output that cannot be had is refused before a word is said of the dump."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile import cli
from tests.builders import BuiltCore


@pytest.fixture
def dump(small: BuiltCore, tmp_path: Path) -> Path:
    """A dump that was filtered, so that there is something to be said of its level."""
    path = tmp_path / "first"
    pydumpfile.dump(small.path, path, 1)
    return path


def refused(capsys: pytest.CaptureFixture[str], program: str, arguments: Sequence[object]) -> str:
    """The one line that is said."""
    assert cli.main([str(argument) for argument in arguments], program) != 0
    captured = capsys.readouterr()
    assert captured.out == ("\nmakedumpfile Failed.\n" if program == "makedumpfile" else "")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("program", ["pydumpfile", "makedumpfile"])
@pytest.mark.parametrize(
    ("options", "reason"),
    [("-d 31", "File exists; give -f"), ("-D -d 31", "File exists"),
     ("--compress=auto", "File exists"), ("--vtop ffffffff81000000", "File exists"),
     ("--split -f", "the output needs another name"), ("-D --dump-dmesg", "File exists")],
)  # fmt: skip
def test_by_the_output(
    dump: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, reason: str,
    program: str,
) -> None:  # fmt: skip
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    more = [dump] if "--split" in options else []
    assert reason in refused(capsys, program, [*options.split(), dump, there, *more])
    assert there.read_bytes() == b"precious"


def test_a_dry_run_is_not(dump: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"precious")
    assert cli.main(["--dry-run", str(dump), str(tmp_path / "there")]) == 0


def test_by_a_terminal(dump: Path) -> None:
    leader, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pydumpfile", "-F", "-d", "31", str(dump)],
            check=False, stdout=terminal, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(leader)
    assert done.returncode == 1
    assert done.stderr == (
        "pydumpfile: STDOUT is a terminal; send the dump to a file or through a pipe\n"
    )


def test_a_log_goes_to_a_terminal(small: BuiltCore) -> None:
    """Which is no dump: what stops it here is that this core has none."""
    leader, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pydumpfile", "-F", "--dump-dmesg", str(small.path)],
            check=False, stdout=terminal, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(leader)
    assert "terminal" not in done.stderr


def test_rearranging_does_not_wait_for_a_stream(tmp_path: Path) -> None:
    """Whoever writes into the pipe may take long, or never come."""
    (tmp_path / "there").write_bytes(b"precious")
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pydumpfile", "-R", str(tmp_path / "there")],
            check=False, stdin=reading, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 10
    assert "File exists; give -f to overwrite it" in done.stderr
    assert (tmp_path / "there").read_bytes() == b"precious"
