# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads where there is no processor for them: they must not hurt, nor change a byte."""

from __future__ import annotations

import contextlib
import filecmp
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .contest import Contest
from .gates import Gate, Report, table
from .inputs import Lab
from .process import run
from .rounds import figure, ratio, spread, take_turns

TITLE = "Threads never hurt"
CORE = Lab("6.1-cloud", "4G")
_ONE, _TWO = "pydumpfile, 1 thread", "pydumpfile, 2 threads"
_CODECS = ("-l", "-c")
_COUNTS = (1, 2, 3, 8)
_THEIR_LIMIT_S = 30


def measure(contest: Contest) -> dict[str, Any]:
    """On one processor; beside a busy process; the bytes."""
    core = contest.inputs.lab(CORE)
    first, *others = sorted(os.sched_getaffinity(0))
    found: dict[str, Any] = {"pinned": {}, "beside": {}}
    for codec in _CODECS:
        found["pinned"][codec] = _one_and_two(contest, core, codec, [first])
    if others:
        with _busy(others[0]):
            for codec in _CODECS:
                pair = [first, others[0]]
                found["beside"][codec] = _one_and_two(contest, core, codec, pair)
    theirs = contest.run_theirs(core, "-d 31 -l", [first])
    threaded = contest.run_theirs(
        core, "-d 31 -l --num-threads 2", [first], time_limit_s=_THEIR_LIMIT_S
    )
    found["theirs"] = {"none": theirs.wall_s, "two": threaded.wall_s, "done": threaded.in_time}
    found["differ"] = _counts_that_differ(contest, core)
    return found


def _one_and_two(contest: Contest, core: Path, codec: str, cpus: list[int]) -> Any:
    options = f"-d 31 {codec} --num-threads"
    contestants = {
        _ONE: contest.ours(core, f"{options} 1", cpus),
        _TWO: contest.ours(core, f"{options} 2", cpus),
    }
    return take_turns(contestants, contest.n_rounds)


@contextlib.contextmanager
def _busy(cpu: int) -> Iterator[None]:
    """A process that uses all of one processor."""
    text = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", text])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _counts_that_differ(contest: Contest, core: Path) -> list[int]:
    """Numbers of threads whose dump is not that of one thread, byte for byte."""
    one, other = contest.folder / "one", contest.folder / "other"
    differ = []
    for count in _COUNTS:
        output = one if count == 1 else other
        options = ["-d", "31", "-l", "--num-threads", str(count)]
        run([sys.executable, "-m", "pydumpfile", *options, str(core), str(output)], output)
        if output is other and not filecmp.cmp(one, other, shallow=False):
            differ.append(count)
    one.unlink()
    other.unlink()
    return differ


def report(found: dict[str, Any]) -> Report:
    """Two threads over one, in both tight places."""
    gates, rows = [], []
    for place, told in (("pinned", "on one CPU"), ("beside", "a busy process on the other CPU")):
        for codec, rounds in found[place].items():
            slower = ratio(rounds, [_TWO], [_ONE], "wall_s")
            gates.append(Gate(f"`-d 31 {codec}`, {told}: two threads / one", 1.1, slower))
            rows += [
                [f"{who} `-d 31 {codec}`, {told}", f"{figure(rounds, who, 'wall_s').median:.2f}"]
                for who in (_ONE, _TWO)
            ]
    differ = spread([float(len(found["differ"]))])
    counts = ", ".join(map(str, _COUNTS))
    gates.append(Gate(f"dumps that differ, of {counts} threads", 0, differ))
    theirs = found["theirs"]
    rows.append(["makedumpfile `-d 31 -l`, on one CPU", f"{theirs['none']:.2f}"])
    two = f"{theirs['two']:.2f}" if theirs["done"] else f"not done after {theirs['two']:.0f}"
    rows.append(["makedumpfile `-d 31 -l --num-threads 2`, on one CPU", two])
    return Report(gates, [table(("", "wall, s"), rows)])
