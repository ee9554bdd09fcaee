# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of ``--profile``: what each step of a dump spent its time on."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.dump import COPYING_STAGES, JUDGING_STAGES, Statistics
from pydumpfile.stopwatch import Spent, Stopwatch


def profile(statistics: Statistics, stopwatch: Stopwatch) -> str:
    """The whole table, lines without a newline at the end."""
    return "\n".join(_lines(statistics, stopwatch))


def _lines(statistics: Statistics, stopwatch: Stopwatch) -> Iterator[str]:
    yield f"{'where the time went':<38}{'wall s':>8}{'CPU s':>8}{'calls':>9}"
    yield f"{'starting Python, importing':<38}{'':>8}{stopwatch.start_cpu_seconds:>8.3f}"
    yield from _step("judging pages", statistics.scan_seconds, JUDGING_STAGES, stopwatch)
    yield from _step("copying pages", statistics.copy_seconds, COPYING_STAGES, stopwatch)


def _step(
    name: str, wall_seconds: float, stages: tuple[str, ...], stopwatch: Stopwatch
) -> Iterator[str]:
    """One step: its stages on the main thread add up to it, those of other threads run beside."""
    yield f"{name:<38}{wall_seconds:>8.3f}"
    here = {stage: stopwatch.here[stage] for stage in stages if stage in stopwatch.here}
    for stage, spent in here.items():
        yield _row(stage, spent)
    rest_seconds = wall_seconds - sum(spent.wall_seconds for spent in here.values())
    beside = {stage: stopwatch.elsewhere[stage] for stage in stages if stage in stopwatch.elsewhere}
    rest = "waiting for threads, the rest" if beside else "the rest"
    yield f"  {rest:<36}{max(rest_seconds, 0):>8.3f}"
    for stage, spent in beside.items():
        yield _row(f"on threads: {stage}", spent)


def _row(stage: str, spent: Spent) -> str:
    return f"  {stage:<36}{spent.wall_seconds:>8.3f}{spent.cpu_seconds:>8.3f}{spent.calls:>9}"
