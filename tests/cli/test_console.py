# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages by level, and progress."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from pydumpfile.cli import console
from pydumpfile.cli.console import Console, ProgressReport
from pydumpfile.errors import UsageError


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = ProgressReport()
    for step in ("judging pages", "copying pages"):
        for done in (0, 30, 100):
            progress(step, done, 100)
            bars = progress._bar
            assert bars is not None and bars._bar is not None
            assert (bars._bar.desc.rstrip(": "), bars._bar.n, bars._bar.total) == (step, done, 100)
            bars._bar.refresh()
    progress.close()
    shown = stderr.getvalue()
    assert "judging pages:  30%" in shown and "copying pages: 100%" in shown
    assert shown.endswith("\r"), "nothing of the bar is left on the screen"
    progress.close()  # twice is once


def test_lines_on_a_serial_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line every five seconds; the clock is the test's."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = ProgressReport()
    for done in range(0, 101, 10):
        progress("copying pages", done, 100)
        now[0] += 1
    progress.close()
    assert stderr.getvalue().splitlines() == [
        "copying pages: 50 %, 5 s to go",
        "copying pages: 100 %",
    ]


def test_lines_where_nobody_knows_how_much_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    progress = ProgressReport()
    now[0] += 6
    progress("rearranging", 3 << 20, 0)
    assert stderr.getvalue() == "rearranging: 3.0 MiB\n"


def test_a_crash_kernel_gets_lines_even_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its console is one, at 960 bytes a second."""
    monkeypatch.setattr(console, "CRASH_KERNEL_ONLY", str(tmp_path))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert ProgressReport()._bar is None


class TestConsole:
    """Which message goes where."""

    @pytest.mark.parametrize("level", range(16))
    def test_levels(self, capsys: pytest.CaptureFixture[str], level: int) -> None:
        speaker = Console(level)
        speaker.say("said")
        speaker.detail("detail")
        speaker.fail(UsageError("failed"))
        speaker.warn("warned")
        out, err = capsys.readouterr()
        said = ["said"] if level & 2 else []
        assert out.splitlines() == said + (["detail"] if level & 8 else [])
        failed = ["pydumpfile: failed"] if level & 4 else []
        assert err.splitlines() == [*failed, "pydumpfile: warning: warned"]
        assert (speaker.progress() is not None) == bool(level & 1)

    def test_data_on_standard_output_stays_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        speaker = Console(31, data_on_stdout=True)
        speaker.say("said")
        speaker.detail("detail")
        out, err = capsys.readouterr()
        assert (out, err) == ("", "said\ndetail\n")
