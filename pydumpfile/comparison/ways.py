# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways to do one step, measured in turns; those that are not here are told of as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Callable, NamedTuple, Optional

from pydumpfile.comparison.result import Found
from pydumpfile.comparison.rounds import take_turns

Progress = Callable[[str], None]
"""Told what comes next."""


class Way(NamedTuple):
    """How to do a step."""

    measure: Optional[Callable[[], int]] = None
    """Does it, and gives the nanoseconds it took; None: it cannot be done here."""
    missing: str = ""
    """Why not."""


def measure_in_turns(
    step: str, ways: Mapping[str, Way], n_rounds: int, progress: Progress, n_warm: int = 0
) -> Iterator[Found]:
    """``n_rounds`` rounds of all ``ways`` that are here; one :class:`Found` for each, in order.

    :param n_warm: rounds before those, which do not count.
    """
    here = {name: way.measure for name, way in ways.items() if way.measure is not None}

    def told(name: str) -> int:
        progress(f"{step}: {name}")
        return here[name]()

    rounds = take_turns({name: partial(told, name) for name in here}, n_rounds, n_warm)
    for name, way in ways.items():
        ns = tuple(one[name] for one in rounds if name in here)
        yield Found(step, name, ns, missing=way.missing)
