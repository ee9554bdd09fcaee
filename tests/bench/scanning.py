# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging struct pages: the loop in C alone, and from end to end in large cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from .contest import Contest, excluding_seconds, judging_seconds
from .gates import Gate, Report, table
from .inputs import GIB, Synthetic
from .process import run, said_until
from .rounds import Figures, figure, ratio, spread, take_turns

TITLE = "Judging struct pages"
LARGE = Synthetic(256, share_mem_map=False)
BUSY = Synthetic(256, share_mem_map=False, busy_every=1)
FREE = Synthetic(1024, busy_every=1 << 20)
PAGE_SIZE = 4096
_LARGE = {"large": f"{LARGE}, mostly free", "busy": f"{BUSY}, no section free"}
_OURS, _THEIRS = "pydumpfile", "makedumpfile"
_THEIR_SCAN = "-d 31 --dry-run --message-level 25"  # progress and times, but no warnings


def measure(contest: Contest) -> dict[str, Any]:
    """The loops in processes of their own, then both programs on one processor."""
    found: dict[str, Any] = {"loop": _rates("scan"), "zero": _rates("zero")}
    if not contest.quick:
        found["large"] = _contest(contest, LARGE)
        found["busy"] = _judging_alone(contest, BUSY)
    found["free"] = _contest(contest, FREE)
    return found


def _rates(module: str) -> Any:
    command = [sys.executable, "-m", f"tests.bench.{module}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _contest(contest: Contest, core: Synthetic) -> list[dict[str, Figures]]:
    path = contest.inputs.synthetic(core)
    cpu = {min(os.sched_getaffinity(0))}

    def ours() -> Figures:
        done = contest.run_ours(path, "-d 31 -l --num-threads 1", cpu)
        return {**done.figures(), "scan_s": judging_seconds(done.said)}

    def theirs() -> Figures:
        done = contest.run_theirs(path, _THEIR_SCAN, cpu)
        return {**done.figures(), "scan_s": excluding_seconds(done.said)}

    rounds = take_turns({_OURS: ours, _THEIRS: theirs}, contest.n_rounds)
    contest.inputs.drop(core)
    return rounds


def _judging_alone(contest: Contest, core: Synthetic) -> list[dict[str, Figures]]:
    """The same for a core whose pages would take minutes to copy: nobody does."""
    path = contest.inputs.synthetic(core)
    cpu = {min(os.sched_getaffinity(0))}

    def ours() -> Figures:
        done = run([sys.executable, "-m", "tests.bench.judge", str(path)], cpus=cpu)
        return {"scan_s": float(done.said)}

    def theirs() -> Figures:
        pinned = ["stdbuf", "-oL", "taskset", "-c", str(*cpu)]  # its last words are not lost
        pinned += [contest.makedumpfile, *_THEIR_SCAN.split()]
        said = said_until([*pinned, str(path), str(contest.folder / "theirs")], "Copying data")
        return {"scan_s": excluding_seconds(said, to_the_end=False)}

    rounds = take_turns({_OURS: ours, _THEIRS: theirs}, contest.n_rounds)
    contest.inputs.drop(core)
    return rounds


def report(found: dict[str, Any]) -> Report:
    """Rates, and ratios of rates."""
    gates = []
    for mix, seconds in found["loop"]["scan_s"].items():
        rates = spread([found["loop"]["n_pages"] / each / 1e6 for each in seconds])
        gates.append(Gate(f"the loop alone, {mix}", 300, rates, True, " M struct pages/s"))
    for name, told in _LARGE.items():
        if name not in found:
            continue
        rounds = found[name]
        n_pages = LARGE.gib * GIB / PAGE_SIZE
        rates = spread([n_pages / turn[_OURS]["scan_s"] / 1e6 for turn in rounds])
        gates.append(Gate(f"{told}, one CPU", 100, rates, True, " M struct pages/s"))
        faster = ratio(rounds, [_THEIRS], [_OURS], "scan_s")
        gates.append(Gate(f"{told}: over one pass of makedumpfile", 5, faster, True, "x"))
    cpu = figure(found["free"], _OURS, "cpu_s")
    gates.append(Gate(f"{FREE}, all free: CPU time of the whole command", 2, cpu, unit=" s"))
    return Report(gates, [_loop_table(found["loop"]), _zero_table(found["zero"]), _ends(found)])


def _loop_table(loop: dict[str, Any]) -> str:
    rows = []
    for mix, seconds in loop["scan_s"].items():
        scan_s, copy_s = spread(seconds).median, spread(loop["copy_s"][mix]).median
        n_bytes = loop["n_pages"] * loop["struct_page_size"]
        rows.append([
            mix, f"{loop['n_pages'] / scan_s / 1e6:.0f}", f"{n_bytes / scan_s / 1e9:.1f}",
            f"{n_bytes / copy_s / 1e9:.1f}",
        ])  # fmt: skip
    return table(("mem_map", "M struct pages/s", "GB/s of mem_map", "copying it, GB/s"), rows)


def _zero_table(zero: dict[str, Any]) -> str:
    copy_s = spread(zero["copy_s"]).median
    rows = [
        [name, f"{zero['n_bytes'] / spread(seconds).median / 1e9:.1f}",
         f"{copy_s / spread(seconds).median:.1f}"]
        for name, seconds in zero["find_s"].items()
    ]  # fmt: skip
    return table(("zero test of pages of zeros", "GB/s", "over copying them"), rows)


def _ends(found: dict[str, Any]) -> str:
    rows = []
    for name, told in (*_LARGE.items(), ("free", f"{FREE}, all free")):
        for who in found[name][0] if name in found else ():
            rounds = found[name]
            whole = [
                f"{figure(rounds, who, what).median:.2f}" if what in rounds[0][who] else "-"
                for what in ("wall_s", "cpu_s")
            ]
            rows.append([f"{told}, {who}", f"{figure(rounds, who, 'scan_s').median:.2f}", *whole])
    return table(("one CPU, `-d 31`", "judging, s", "whole command, s", "its CPU, s"), rows)
