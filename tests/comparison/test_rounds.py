# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns, medians, paired ratios: with figures that nobody has to measure."""

from __future__ import annotations

import pytest

from pydumpfile.comparison.rounds import Spread, paired_ratio, spread, take_turns
from pydumpfile.comparison.ways import Way, measure_in_turns


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], Spread(5, 5, 5)),
        ([3, 1], Spread(2, 1, 3)),
        ([9, 1, 2], Spread(2, 1, 9)),
        ([4, 1, 3, 2], Spread(2.5, 1, 4)),
    ],
)
def test_spread(values: list[float], expected: Spread) -> None:
    assert spread(values) == expected


def test_a_ratio_is_taken_within_a_round() -> None:
    """Both became three times slower in the last round, which changes nothing between them."""
    assert paired_ratio([10, 20, 30], [5, 10, 15]) == Spread(2, 2, 2)


def test_turns_alternate_and_the_first_does_not_count() -> None:
    order: list[str] = []

    def turn(name: str) -> int:
        order.append(name)
        return len(order)

    rounds = take_turns({"a": lambda: turn("a"), "b": lambda: turn("b")}, n_rounds=2, n_warm=1)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert rounds == [{"a": 4, "b": 3}, {"a": 5, "b": 6}]


def test_what_is_not_here_says_so_between_the_others() -> None:
    ways = {"a": Way(lambda: 7), "b": Way(None, "no b here"), "c": Way(lambda: 9)}
    told: list[str] = []
    found = list(measure_in_turns("step", ways, 3, told.append, n_warm=1))
    assert [(one.way, one.ns, one.missing) for one in found] == [
        ("a", (7, 7, 7), ""),
        ("b", (), "no b here"),
        ("c", (9, 9, 9), ""),
    ]
    assert len(told) == 2 * (3 + 1)
