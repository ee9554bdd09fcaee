# SPDX-License-Identifier: GPL-2.0-or-later
"""Bars as SVG: shares of what is 1, as makedumpfile's time, a group for each case."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

Group = tuple[str, Sequence[tuple[str, float]]]
"""A case, and the share of each contestant in it."""

_LEFT, _TOP, _WIDTH, _BAR, _GAP = 190, 56, 600, 14, 18
_RIGHT = 70
_COLOURS = ("#1f6fa8", "#7fb2d6", "#b5482a", "#dba593")
_MOST = 1.5


def plot(title: str, groups: Sequence[Group], most: float = _MOST) -> str:
    """The whole file.

    :param most: a bar that is longer is cut, and its number says it.
    """
    names = list(dict.fromkeys(name for _, shares in groups for name, _ in shares))
    colours = dict(zip(names, _COLOURS))
    y, parts = float(_TOP), list(_legend(colours))
    for case, shares in groups:
        middle = y + _BAR * len(shares) / 2 + 4
        parts.append(
            f'<text x="{_LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escape(case)}</text>'
        )
        for name, share in shares:
            parts += _bar(y, share / most, share, colours[name])
            y += _BAR
        y += _GAP
    one = _LEFT + _WIDTH / most
    parts.append(
        f'<line x1="{one:.1f}" y1="{_TOP - 6}" x2="{one:.1f}" y2="{y - _GAP + 6:.0f}" '
        'stroke="#777777" stroke-dasharray="5 4"/>'
    )
    width, height = _LEFT + _WIDTH + _RIGHT, y
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height:.0f}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *parts,
        "</svg>",
        "",
    ])  # fmt: skip


def _legend(colours: dict[str, str]) -> list[str]:
    parts = []
    for i, (name, colour) in enumerate(colours.items()):
        x = _LEFT + 160 * i
        parts.append(f'<rect x="{x}" y="31" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 15}" y="40">{escape(name)}</text>')
    return parts


def _bar(y: float, length: float, share: float, colour: str) -> list[str]:
    width = _WIDTH * min(length, 1)
    return [
        f'<rect x="{_LEFT}" y="{y:.0f}" width="{width:.1f}" height="{_BAR - 2}" fill="{colour}"/>',
        f'<text x="{_LEFT + width + 5:.1f}" y="{y + _BAR - 3:.0f}">{share:.2f}</text>',
    ]
