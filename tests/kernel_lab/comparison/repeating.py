# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a guest that is booted a second time gives the same ratios.

A ratio is what a way takes over what the first way of its step takes, in the same boot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydumpfile.comparison.result import Comparison
from pydumpfile.comparison.rounds import spread


class Repeated(NamedTuple):
    """A ratio in both boots."""

    way: str
    first: float
    second: float

    @property
    def apart(self) -> float:
        """By which share of the first the second differs from it."""
        return abs(self.second / self.first - 1)


def repeated_ratios(first: Comparison, second: Comparison, step: str) -> Iterator[Repeated]:
    """Of each way of ``step`` but the first, if it is in both boots."""
    medians = _medians(first, step), _medians(second, step)
    ways = [way for way in medians[0] if way in medians[1]]
    for way in ways[1:]:
        yield Repeated(way, *(one[way] / one[ways[0]] for one in medians))


def _medians(comparison: Comparison, step: str) -> dict[str, float]:
    return {
        one.way: spread(one.ns).median for one in comparison.found if one.step == step and one.ns
    }
