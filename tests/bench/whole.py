# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole dumps, process start included, by both programs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from .contest import Contest
from .gates import Gate, Report, table
from .inputs import Lab
from .rounds import Round, figure, ratio, spread, take_turns

TITLE = "Whole dumps"
GATED = Lab("6.1-cloud", "4G")
OTHER = Lab("6.12-cloud", "2G")

_OURS, _OURS_1 = "pydumpfile", "pydumpfile, 1 thread"
_OURS_AT_ONCE = "pydumpfile, 1 thread, a dump on each CPU at once, for each"
_THEIRS, _THEIRS_2 = "makedumpfile", "makedumpfile, 2 threads"
_THREADS_HELP = 1.25  # their threads take part where they are not slower than this
_SLOW_S, _SLOW_ROUNDS = 10, 3


class Case(NamedTuple):
    """What is asked of both, and of ours at most what share of their wall time."""

    ours: str
    theirs: str
    limit: Optional[float] = None
    """Default settings of ours against the best of theirs."""
    limit_1: Optional[float] = None
    """One thread of ours against one process of theirs."""
    size_limit: float = 1.02
    speedup: Optional[float] = None
    """Of two threads of ours over one, at least."""

    @property
    def told(self) -> str:
        return f"`{self.ours}`" if self.ours == self.theirs else f"`{self.ours}` / `{self.theirs}`"


CASES = (
    Case("-d 31 -l", "-d 31 -l", 0.8, 1.0),
    Case("-d 31 -c", "-d 31 -c", 0.25, 0.4),
    Case("-d 31 -z", "-d 31 -l", 1.0, size_limit=1.0),
    Case("-d 31 -z --compress-level 1", "-d 31 -l"),
    Case("-d 0 -l", "-d 0 -l", 0.7, 1.0, speedup=1.6),
    Case("-d 0 -z", "-d 0 -l", speedup=1.6),
    Case("-d 1 -c", "-d 1 -c", 0.25, 0.4),
)
_N_FIRST = 5  # also on the other core, and for a quick look


def measure(contest: Contest) -> list[dict[str, Any]]:
    """All cases on the gated core, some on the other; an interrupt keeps what is done."""
    parts = [(GATED, CASES[:_N_FIRST])]
    if not contest.quick:
        parts += [(OTHER, CASES[:_N_FIRST]), (GATED, CASES[_N_FIRST:])]
    found: list[dict[str, Any]] = []
    try:
        for core, cases in parts:
            for measured in _on_core(contest, core, cases):
                found.append(measured)
    except KeyboardInterrupt:
        print(f"bench: stopped after {len(found)} cases", file=sys.stderr)
    return found


def _on_core(contest: Contest, core: Lab, cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    path = contest.inputs.lab(core)
    for case in cases:
        contestants = {
            _OURS: contest.ours(path, case.ours),
            _OURS_1: contest.ours(path, f"{case.ours} --num-threads 1"),
            _THEIRS: contest.theirs(path, case.theirs),
        }
        if case.speedup:
            contestants[_OURS_AT_ONCE] = contest.ours_at_once(path, f"{case.ours} --num-threads 1")
        alone_s, with_2_s = _their_threads(contest, path, case)
        if with_2_s:
            threaded = f"{case.theirs} --num-threads 2"
            contestants[_THEIRS_2] = contest.theirs(path, threaded)
        slow = alone_s > _SLOW_S  # then what warms up is long done, too
        n_rounds = min(contest.n_rounds, _SLOW_ROUNDS) if slow else contest.n_rounds
        yield {
            "core": str(core),
            "case": CASES.index(case),
            "rounds": take_turns(contestants, n_rounds, n_warm=0 if slow else 1),
        }


def _their_threads(contest: Contest, path: Path, case: Case) -> tuple[float, float]:
    """Seconds that makedumpfile takes without threads, and with two; 0 if those do not help."""
    alone = contest.run_theirs(path, case.theirs)
    limit_s = alone.wall_s * _THREADS_HELP
    threaded = contest.run_theirs(path, f"{case.theirs} --num-threads 2", time_limit_s=limit_s)
    return alone.wall_s, threaded.wall_s if threaded.in_time else 0.0


def report(found: list[dict[str, Any]]) -> Report:
    """A gate for each demand, a table for each core."""
    gates: list[Gate] = []
    rows: dict[str, list[list[str]]] = {}
    for measured in found:
        case, rounds = CASES[measured["case"]], measured["rounds"]
        rows.setdefault(measured["core"], []).extend(_rows(case, rounds))
        if measured["core"] == str(GATED):
            gates += _gates(case, rounds)
    head = (
        "", "wall, s (fastest)", "CPU, s", "peak RSS, MiB", "dump, MiB",
        "wall over makedumpfile's best", "CPU over makedumpfile's",
    )  # fmt: skip
    return Report(gates, [f"{core}\n\n{table(head, lines)}" for core, lines in rows.items()])


def _gates(case: Case, rounds: Sequence[Round]) -> Iterator[Gate]:
    if case.limit is not None:
        wall = ratio(rounds, [_OURS], [_THEIRS, _THEIRS_2], "wall_s")
        yield Gate(f"{case.told}: wall time, default settings / best of theirs", case.limit, wall)
    if case.limit_1 is not None:
        wall = ratio(rounds, [_OURS_1], [_THEIRS], "wall_s")
        yield Gate(f"{case.told}: wall time, one thread / one process", case.limit_1, wall)
    if case.limit is not None:
        size = ratio(rounds, [_OURS], [_THEIRS], "dump_mib")
        yield Gate(f"{case.told}: size of the dump", case.size_limit, size)
    if case.speedup is not None:
        faster = ratio(rounds, [_OURS_1], [_OURS], "wall_s")
        yield Gate(f"`{case.ours}`: two threads over one", case.speedup, faster, at_least=True)


def _rows(case: Case, rounds: Sequence[Round]) -> Iterator[list[str]]:
    for who in rounds[0]:
        options = case.theirs if who in {_THEIRS, _THEIRS_2} else case.ours
        wall = figure(rounds, who, "wall_s")
        share = ratio(rounds, [who], [_THEIRS, _THEIRS_2], "wall_s")
        yield [
            f"{who} `{options}`",
            f"{wall.median:.2f} ({wall.low:.2f})",
            f"{figure(rounds, who, 'cpu_s').median:.2f}",
            _peak(rounds, who),
            f"{figure(rounds, who, 'dump_mib').median:.1f}",
            str(share),
            str(ratio(rounds, [who], [_THEIRS], "cpu_s")),
        ]


def _peak(rounds: Sequence[Round], who: str) -> str:
    """The median; null in figures of old was not known."""
    known = [turn[who]["peak_mib"] for turn in rounds if turn[who]["peak_mib"] is not None]
    return f"{spread(known).median:.0f}" if known else "not known"


def bars(found: list[dict[str, Any]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """What the plot shows of the gated core: per case, shares of makedumpfile's wall time."""
    groups = []
    for measured in found:
        case, rounds = CASES[measured["case"]], measured["rounds"]
        if measured["core"] != str(GATED):
            continue
        shares = [
            (who, ratio(rounds, [who], [_THEIRS, _THEIRS_2], "wall_s").median)
            for who in rounds[0]
            if who != _OURS_AT_ONCE
        ]
        groups.append((case.told.replace("`", ""), shares))
    return groups
