# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of rounds in which contestants took turns, and ratios within those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydumpfile.comparison.rounds import Spread, spread, take_turns

__all__ = ["Figures", "Round", "Spread", "figure", "ratio", "spread", "take_turns"]

Figures = Mapping[str, float]
"""What one run gave: ``wall_s``, ``cpu_s``, ``peak_mib``, ``dump_mib``, and more by section."""
Round = Mapping[str, Figures]
"""One turn of each contestant, by name."""


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
