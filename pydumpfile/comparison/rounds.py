# SPDX-License-Identifier: GPL-2.0-or-later
"""Paired measuring: contestants take turns, and ratios are taken within a round.

A machine whose speed drifts then favours nobody, which a comparison of two medians cannot say of
itself. The module statistics is not used: it would bring much of Python into a crash kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple, TypeVar

Result = TypeVar("Result")


class Spread(NamedTuple):
    """A figure over several rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def take_turns(
    contestants: Mapping[str, Callable[[], Result]], n_rounds: int, n_warm: int = 1
) -> list[dict[str, Result]]:
    """``n_rounds`` rounds of every contestant, after ``n_warm`` that are not counted.

    Every other round goes backwards, so that nobody always runs behind the same neighbour.
    """
    rounds = []
    for i in range(n_warm + n_rounds):
        names = list(contestants) if i % 2 == 0 else list(contestants)[::-1]
        results = {name: contestants[name]() for name in names}
        if i >= n_warm:
            rounds.append({name: results[name] for name in contestants})
    return rounds


def spread(values: Sequence[float]) -> Spread:
    """Median and range of ``values``, of which there is at least one."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2
    return Spread(median, ordered[0], ordered[-1])


def paired_ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """``values`` over ``others``, which were measured in the same rounds."""
    return spread([value / other for value, other in zip(values, others)])
