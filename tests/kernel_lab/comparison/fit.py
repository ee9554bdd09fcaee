# SPDX-License-Identifier: GPL-2.0-or-later
"""A straight line through what was measured, and how far it can be trusted beyond.

Ordinary least squares. The interval is the 95 % prediction interval of one more measurement:
t * s * sqrt(1 + 1/n + (x - mean)^2 / Sxx), with s from n - 2 degrees of freedom. It takes for
granted that the line goes on as it does, which no measurement here shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Student's t, 97.5 %, by degrees of freedom; NIST/SEMATECH e-Handbook of Statistical Methods,
# section 1.3.6.7.2.
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


class Estimate(NamedTuple):
    """What a line says of a place."""

    value: float
    margin: float
    """Half the width of the prediction interval."""

    @property
    def share(self) -> float:
        """The margin as a share of the value."""
        return self.margin / abs(self.value) if self.value else math.inf


class Line(NamedTuple):
    """y = fixed + per_x * x."""

    fixed: float
    per_x: float
    n: int
    deviation: float
    """Standard deviation of the residuals."""
    mean_x: float
    sxx: float
    """Sum of squared distances from the mean."""

    def at(self, x: float) -> Estimate:
        """The line's value there, with its 95 % prediction interval."""
        t = _T_975[min(self.n - 2, len(_T_975)) - 1]
        spread = 1 + 1 / self.n + (x - self.mean_x) ** 2 / self.sxx
        return Estimate(self.fixed + self.per_x * x, t * self.deviation * math.sqrt(spread))


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """The line through ``points`` (x, y).

    :raises ValueError: fewer than three, of which nobody knows how well they fit, or all at one x.
    """
    n = len(points)
    if n < 3:
        raise ValueError(f"{n} points say nothing of how well a line fits; it takes three")
    mean_x = math.fsum(x for x, _ in points) / n
    mean_y = math.fsum(y for _, y in points) / n
    sxx = math.fsum((x - mean_x) ** 2 for x, _ in points)
    if not sxx:
        raise ValueError(f"all {n} points are at {mean_x}: there is no line")
    per_x = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / sxx
    fixed = mean_y - per_x * mean_x
    squares = math.fsum((y - fixed - per_x * x) ** 2 for x, y in points)
    return Line(fixed, per_x, n, math.sqrt(squares / (n - 2)), mean_x, sxx)
