# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines: through points whose line is known, with intervals that can be looked up."""

from __future__ import annotations

import math

import pytest

from .fit import fit_line


def test_a_line_is_found_exactly() -> None:
    line = fit_line([(1, 5), (4, 11), (16, 35)])
    assert line.fixed == pytest.approx(3)
    assert line.per_x == pytest.approx(2)
    assert line.deviation == pytest.approx(0)
    estimate = line.at(1000)
    assert estimate.value == pytest.approx(2003)
    assert estimate.margin == pytest.approx(0, abs=1e-9)


def test_least_squares_and_the_prediction_interval() -> None:
    """Worked by hand: residuals 1/3, -2/3, 1/3 around y = 2/3 + 2 x; t(0.975, 1) = 12.706."""
    line = fit_line([(0, 1), (1, 2), (2, 5)])
    assert line.per_x == pytest.approx(2)
    assert line.fixed == pytest.approx(2 / 3)
    assert line.deviation == pytest.approx(math.sqrt(6 / 9))
    margin = 12.706 * math.sqrt(6 / 9) * math.sqrt(1 + 1 / 3 + (10 - 1) ** 2 / 2)
    assert line.at(10).margin == pytest.approx(margin)
    assert line.at(10).value == pytest.approx(20 + 2 / 3)


def test_the_interval_widens_with_the_distance() -> None:
    line = fit_line([(1, 1.0), (2, 2.1), (3, 2.9), (4, 4.2)])
    assert line.at(2.5).margin < line.at(10).margin < line.at(100).margin
    assert line.at(100).share == pytest.approx(line.at(100).margin / line.at(100).value)


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (2, 2)]])
def test_two_points_are_too_few(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="takes three"):
        fit_line(points)


def test_points_on_top_of_each_other_make_no_line() -> None:
    with pytest.raises(ValueError, match="no line"):
        fit_line([(2, 1), (2, 2), (2, 3)])
