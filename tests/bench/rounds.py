# SPDX-License-Identifier: GPL-2.0-or-later
"""Paired measuring: contestants take turns, and ratios are taken within a round.

A machine whose speed drifts then favours nobody, which a comparison of two medians cannot say of
itself. The first round is not counted: it warms caches for all alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

Figures = Mapping[str, float]
"""What one run gave: ``wall_s``, ``cpu_s``, ``peak_mib``, ``dump_mib``, and more by section."""
Round = Mapping[str, Figures]
"""One turn of each contestant, by name."""


class Spread(NamedTuple):
    """A figure over several rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def take_turns(
    contestants: Mapping[str, Callable[[], Figures]], n_rounds: int, n_warm: int = 1
) -> list[dict[str, Figures]]:
    """``n_rounds`` rounds of every contestant, after ``n_warm`` that are not counted.

    Every other round goes backwards, so that nobody always runs behind the same neighbour.
    """
    rounds = []
    for i in range(n_warm + n_rounds):
        names = list(contestants) if i % 2 == 0 else list(contestants)[::-1]
        figures = {name: contestants[name]() for name in names}
        if i >= n_warm:
            rounds.append({name: figures[name] for name in contestants})
    return rounds


def spread(values: Sequence[float]) -> Spread:
    """Median and range of ``values``."""
    return Spread(statistics.median(values), min(values), max(values))


def figure(rounds: Sequence[Round], who: str, what: str) -> Spread:
    """One figure of one contestant over all rounds."""
    return spread([turn[who][what] for turn in rounds])


def ratio(rounds: Sequence[Round], ours: Sequence[str], theirs: Sequence[str], what: str) -> Spread:
    """Of each round the best of ``ours`` over the best of ``theirs``; names not there count not.

    The best is the smallest: figures are seconds and sizes.
    """
    return spread([_best(turn, ours, what) / _best(turn, theirs, what) for turn in rounds])


def _best(turn: Round, names: Sequence[str], what: str) -> float:
    return min(turn[name][what] for name in names if name in turn)
