# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured, by guest: medians, spreads, and lines over the sizes of memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from pydumpfile.comparison.result import Comparison, Found
from pydumpfile.comparison.rounds import Spread, spread

from .boots import Guest, Measured
from .fit import Line, fit_line

Way = tuple[str, str]
"""The step and the way of a Found."""


class Place(NamedTuple):
    """A kernel, and what is counted in it."""

    base: str
    kernel: str
    unit: str


class Figures:
    """All boots, at most one of each guest: the newest."""

    def __init__(self, boots: Iterable[Measured] = ()) -> None:
        self._boots = {one.guest: one for one in boots}

    @classmethod
    def load(cls, path: Path) -> Figures:
        """What :meth:`save` wrote; nothing if there is no such file."""
        if not path.exists():
            return cls()
        return cls(map(Measured.from_fields, json.loads(path.read_text("utf-8"))["boots"]))

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        boots = [one.to_fields() for one in self]
        path.write_text(json.dumps({"boots": boots}, indent=1) + "\n", "utf-8")

    def add(self, measured: Measured) -> None:
        """In place of what was measured in that guest before."""
        self._boots[measured.guest] = measured

    def __iter__(self) -> Iterator[Measured]:
        return iter(sorted(self._boots.values(), key=lambda one: one.guest))

    def places(self) -> list[Place]:
        """Every kernel and unit that something was measured in."""
        return sorted({Place(one.base, one.kernel, one.unit) for one in self._boots})

    def sizes(self, place: Place) -> list[int]:
        """Sizes of its guests in MiB, ascending."""
        return sorted(guest.memory_mib for guest in self._boots if _place(guest) == place)

    def comparison(self, place: Place, memory_mib: int) -> Comparison:
        """Of one guest; KeyError if it was not measured."""
        return self._boots[Guest(place.base, place.kernel, memory_mib, place.unit)].comparison

    def found(self, place: Place, memory_mib: int, way: Way) -> Optional[Found]:
        """One figure of one guest, if it was measured and the way was there."""
        measured = self._boots.get(Guest(place.base, place.kernel, memory_mib, place.unit))
        found = measured.comparison.of(*way) if measured else None
        return found if found and found.ns else None

    def spread(self, place: Place, memory_mib: int, way: Way) -> Optional[Spread]:
        """Likewise, over its rounds: nanoseconds, or instructions."""
        found = self.found(place, memory_mib, way)
        return spread(found.ns) if found else None

    def median(self, place: Place, memory_mib: int, way: Way) -> Optional[float]:
        """Its median."""
        over_rounds = self.spread(place, memory_mib, way)
        return over_rounds.median if over_rounds else None

    def ways(self, place: Place) -> list[Way]:
        """All that any of its guests had, in the order of the command's own table."""
        ways: dict[Way, None] = {}
        for memory_mib in self.sizes(place):
            for found in self.comparison(place, memory_mib).found:
                ways.setdefault((found.step, found.way))
        return list(ways)

    def line(self, place: Place, way: Way) -> Optional[Line]:
        """Over pages of memory, through the median of each boot; None for fewer than three."""
        points = []
        for memory_mib in self.sizes(place):
            median = self.median(place, memory_mib, way)
            if median is not None:
                points.append((float(self.comparison(place, memory_mib).pages), median))
        return fit_line(points) if len(points) > 2 else None

    def widest(self, place: Place) -> float:
        """The largest spread of any figure there, as a share of its median."""
        widths = [0.0]
        for memory_mib in self.sizes(place):
            for way in self.ways(place):
                over_rounds = self.spread(place, memory_mib, way)
                if over_rounds:
                    widths.append((over_rounds.high - over_rounds.low) / over_rounds.median)
        return max(widths)


def _place(guest: Guest) -> Place:
    return Place(guest.base, guest.kernel, guest.unit)
