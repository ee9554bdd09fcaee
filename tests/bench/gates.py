# SPDX-License-Identifier: GPL-2.0-or-later
"""What is demanded, what was found, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .rounds import Spread


class Gate(NamedTuple):
    """One demand on the median of a figure."""

    what: str
    limit: float
    found: Spread
    at_least: bool = False
    unit: str = ""

    @property
    def holds(self) -> bool:
        """A median that is not a number holds nothing."""
        if self.at_least:
            return self.found.median >= self.limit
        return self.found.median <= self.limit

    def row(self) -> list[str]:
        """Cells of :data:`HEAD`."""
        demand = f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"
        return [self.what, demand, _told(self.found, self.limit), "yes" if self.holds else "**no**"]


HEAD = ("gate", "demanded", "found (range)", "holds")


class Report(NamedTuple):
    """One section, ready to be written down."""

    gates: Sequence[Gate]
    tables: Sequence[str] = ()
    """Markdown."""


def gate_table(gates: Iterable[Gate]) -> str:
    """Markdown."""
    return table(HEAD, [gate.row() for gate in gates])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, without a newline at its end."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _told(found: Spread, limit: float) -> str:
    digits = 0 if found.median >= 100 else 1 if found.median >= 20 else 2
    while found.median != limit and round(found.median, digits) == limit:
        digits += 1  # missed by little, or held by little: it shall not look like the limit
    median, low, high = (f"{value:.{digits}f}" for value in found)
    return median if low == high else f"{median} ({low}-{high})"
