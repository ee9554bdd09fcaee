# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of ``pydumpfile compare``: each way, how long it took, and by how much it is better."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.comparison.result import STEPS, Comparison, Found
from pydumpfile.comparison.rounds import paired_ratio, spread
from pydumpfile.report.summary import format_size

_PAGE_SIZE = 4096
_WAY = 30


def comparison_table(comparison: Comparison) -> str:
    """The whole table, lines without a newline at the end."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    memory = format_size(comparison.pages * _PAGE_SIZE)
    mem_map = format_size(comparison.mem_map_size)
    yield (
        f"Linux {comparison.release or 'of unknown release'}, {memory}, mem_map {mem_map} in "
        f"{comparison.mem_map_extents} places; level {comparison.level} keeps {comparison.kept} of "
        f"{comparison.pages} pages"
    )
    yield f"read(2) through the direct mapping: {_DIRECT[comparison.direct_mapping]}"
    for step in STEPS:
        found = [one for one in comparison.found if one.step == step]
        if found:
            yield ""
            yield f"{step:<{_WAY}}{'ms':>11}{'lowest':>11}{'highest':>11}{'times as fast':>15}"
            yield from _rows(found)
    yield ""
    yield (
        "All ways of judging give the same bitmap."
        if comparison.same_bitmaps
        else "The ways of judging do NOT give the same bitmap; that is a bug: please report it."
    )
    yield from _differences(comparison)


_DIRECT = {True: "on", False: "off", None: "this kernel does not know it"}


def _rows(found: list[Found]) -> Iterator[str]:
    """Of one step; how many times as fast as the first of it that is here."""
    first = next((one for one in found if one.ns), None)
    for one in found:
        if not one.ns or first is None:
            yield f"  {one.way:<{_WAY - 2}}  not here: {one.missing}"
            continue
        ms = (f"{ns / 1e6:11.2f}" for ns in spread(one.ns))
        ratio = paired_ratio(first.ns, one.ns)
        times = "" if one is first else f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
        yield f"  {one.way:<{_WAY - 2}}{''.join(ms)}{times:>20}".rstrip()


def _differences(comparison: Comparison) -> Iterator[str]:
    """What makedumpfile keeps otherwise."""
    for one in comparison.found:
        if one.differing is not None:
            told = f"{one.differing} pages differ" if one.differing else "the same bitmap"
            yield f"{one.way}: {told}"
