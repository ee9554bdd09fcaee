# SPDX-License-Identifier: GPL-2.0-or-later
"""How each way grows, as SVG: instructions over memory, both by powers of ten.

Dots are measured, lines fitted, dashes what the fit says of machines nobody measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from .document import BIG_TIB, PAGES_PER_TIB
from .figures import Figures, Place, Way

_WIDTH, _HEIGHT = 560, 360
_LEFT, _TOP, _BOTTOM, _RIGHT = 70, 40, 50, 280
_COLOURS = ("#b5482a", "#d88a5b", "#1f6fa8", "#7fb2d6", "#3b7d3b", "#8cbf6a", "#777777", "#aa66aa")
_PAGE_SIZE = 4096

Curve = tuple[str, Place, Way]
"""What it is called, and whose figures it shows."""


def growth_drawing(title: str, figures: Figures, curves: Sequence[Curve]) -> str:
    """The whole file; a curve of fewer than three sizes is left out."""
    drawn = [
        (name, place, way, line)
        for name, place, way in curves
        if (line := figures.line(place, way)) is not None
    ]
    measured = [
        (figures.comparison(place, mib).pages, median)
        for _, place, way, _ in drawn
        for mib in figures.sizes(place)
        if (median := figures.median(place, mib, way)) is not None
    ]
    last_x = BIG_TIB[-1] * PAGES_PER_TIB
    highest = max((line.at(last_x).value for *_, line in drawn), default=10.0)
    axes = _Axes(
        min((x for x, _ in measured), default=1), last_x,
        min((y for _, y in measured), default=1), highest,
    )  # fmt: skip
    parts = [*axes.frame()]
    for i, (name, place, way, line) in enumerate(drawn):
        colour = _COLOURS[i % len(_COLOURS)]
        xs = [figures.comparison(place, mib).pages for mib in figures.sizes(place)]
        parts.append(axes.path([(x, line.at(x).value) for x in xs], colour))
        beyond = [xs[-1], *(size * PAGES_PER_TIB for size in BIG_TIB)]
        parts.append(axes.path([(x, line.at(x).value) for x in beyond], colour, "5 4"))
        for x, mib in zip(xs, figures.sizes(place)):
            median = figures.median(place, mib, way)
            if median is not None:
                parts.append(axes.dot(x, median, colour))
        y = _TOP + 18 * i + 8
        at = _LEFT + _WIDTH + 20
        parts.append(f'<rect x="{at}" y="{y - 8}" width="12" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{at + 18}" y="{y}">{escape(name)}</text>')
    width, height = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>',
        *parts,
        "</svg>",
        "",
    ])  # fmt: skip


class _Axes:
    """Both logarithmic."""

    def __init__(self, x0: float, x1: float, y0: float, y1: float) -> None:
        self._x0, self._x1 = math.log10(x0), math.log10(x1)
        self._y0, self._y1 = math.floor(math.log10(y0)), math.ceil(math.log10(y1))

    def x(self, pages: float) -> float:
        return _LEFT + _WIDTH * (math.log10(pages) - self._x0) / (self._x1 - self._x0)

    def y(self, value: float) -> float:
        share = (math.log10(max(value, 1)) - self._y0) / (self._y1 - self._y0)
        return _TOP + _HEIGHT * (1 - share)

    def frame(self) -> Iterator[str]:
        for power in range(self._y0, self._y1 + 1):
            y = self.y(10.0**power)
            yield (
                f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDTH}" y2="{y:.1f}" '
                'stroke="#dddddd"/>'
            )
            yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">1e{power}</text>'
        for gib in (4, 16, 64, 256, 1024, 4096, 16384, 65536):
            x = self.x(max(10**self._x0, gib * 2**30 / _PAGE_SIZE))
            name = f"{gib} GiB" if gib < 1024 else f"{gib >> 10} TiB"
            yield (
                f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{name}</text>'
            )
        yield (
            f'<text x="{_LEFT}" y="{_TOP + _HEIGHT + 38}">memory of the machine that crashed; '
            "instructions upwards</text>"
        )

    def path(self, points: Sequence[tuple[float, float]], colour: str, dashes: str = "") -> str:
        text = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'

    def dot(self, x: float, y: float, colour: str) -> str:
        return f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.5" fill="{colour}"/>'
