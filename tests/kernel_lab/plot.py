# SPDX-License-Identifier: GPL-2.0-or-later
"""Draw saved tables as SVG: speed over block size, a panel for each table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from .measure import Table

_WIDTH, _HEIGHT, _GAP = 420, 300, 70
_LEFT, _TOP, _BOTTOM = 70, 50, 60
_STEPS = 5
_COLOURS = {"ioremap": "#b5482a", "direct": "#1f6fa8", "ceiling": "#777777"}


def plot(paths: Sequence[Path], output: Path) -> None:
    """One panel for each table in `paths`, side by side, into `output`."""
    tables = [Table.load(path) for path in paths]
    width = _LEFT + len(tables) * (_WIDTH + _GAP)
    height = _TOP + _HEIGHT + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, table in enumerate(tables):
        parts += _panel(table, _LEFT + i * (_WIDTH + _GAP))
    output.write_text("\n".join([*parts, "</svg>", ""]), "utf-8")


def _panel(table: Table, left: int) -> list[str]:
    blocks = list(table.ioremap)
    top_rate = _round_up(max(*table.direct.values(), table.ceiling))
    unit = "bytes per 1000 instructions" if table.icount else "MB/s under emulation"

    def x(i: int) -> float:
        return left + _WIDTH * i / (len(blocks) - 1)

    def y(rate: float) -> float:
        return _TOP + _HEIGHT * (1 - rate / top_rate)

    title = escape(f"Linux {table.base}: {unit}")
    parts = [f'<text x="{left}" y="{_TOP - 22}" font-size="14">{title}</text>']
    for step in range(_STEPS + 1):
        rate = top_rate * step / _STEPS
        parts.append(_line(left, y(rate), left + _WIDTH, y(rate), "#dddddd"))
        parts.append(
            f'<text x="{left - 6}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:.0f}</text>'
        )
    for i, kib in enumerate(blocks):
        name = f"{kib}K" if kib < 1024 else f"{kib // 1024}M"
        parts.append(
            f'<text x="{x(i):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{name}</text>'
        )
    for label, rates in (("ioremap", table.ioremap), ("direct", table.direct)):
        points = " ".join(f"{x(i):.1f},{y(rates[kib]):.1f}" for i, kib in enumerate(blocks))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[label]}" '
            'stroke-width="2.5"/>'
        )
    ceiling = y(table.ceiling)
    parts.append(_line(left, ceiling, left + _WIDTH, ceiling, _COLOURS["ceiling"], "6 4"))
    for i, (label, colour) in enumerate(_COLOURS.items()):
        at = left + i * 110
        below = _TOP + _HEIGHT + 42
        parts.append(_line(at, below - 4, at + 24, below - 4, colour))
        parts.append(f'<text x="{at + 30}" y="{below}">{label}</text>')
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="1.5"{dashed}/>'
    )


def _round_up(rate: float) -> float:
    return -(-rate // 1000) * 1000.0
