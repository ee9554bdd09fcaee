# SPDX-License-Identifier: GPL-2.0-or-later
"""The measured parts of docs/comparison.md as Markdown: what was found, and where it leads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from pydumpfile.comparison.judging import BY_COPYING, BY_MMAP, BY_SCALAR, IN_PLACE
from pydumpfile.comparison.result import DUMPING, JUDGING, READING
from pydumpfile.comparison.rounds import paired_ratio
from tests.bench.gates import table

from .boots import INSTRUCTIONS, PATCHED, STOCK, TIME
from .figures import Figures, Place, Way
from .fit import Estimate
from .repeating import repeated_ratios

BIG_TIB = (1, 16, 64)
PAGES_PER_TIB = 1 << 28
_NONE = "-"
_SCALE = {INSTRUCTIONS: ("million instructions", 1e6), TIME: ("ms under emulation", 1e6)}
_HEADINGS = {READING: "Reading all of mem_map", JUDGING: "Judging all pages", DUMPING: "Whole dump"}
_READ_4K = (JUDGING, "user space, read 4K")
_READ_1M = (JUDGING, "user space, read 1M")
_MMAP = (JUDGING, BY_MMAP)
_SCALAR = (JUDGING, BY_SCALAR)
_IN_PLACE = (JUDGING, IN_PLACE)
_BY_COPYING = (JUDGING, BY_COPYING)
_ANSWERS = (
    ("user space, read 4K, stock kernel", STOCK, _READ_4K),
    ("user space, read 1M, stock kernel", STOCK, _READ_1M),
    ("user space, mmap, stock kernel", STOCK, _MMAP),
    ("user space, read 4K, direct mapping", PATCHED, _READ_4K),
    ("user space, read 1M, direct mapping", PATCHED, _READ_1M),
    ("kernel, by copying", PATCHED, _BY_COPYING),
    ("kernel, in place (direct mapping)", PATCHED, _IN_PLACE),
    ("user space, mmap, scalar loop as the kernel's", PATCHED, _SCALAR),
)
"""What it is called, the kernel and the way."""


def sections(figures: Figures, again: Figures) -> Mapping[str, str]:
    """What goes between the marks of each name.

    :param again: second boots of some of the guests.
    """
    return {
        "answer": answer(figures),
        "instructions": "\n\n".join(measured_tables(figures, INSTRUCTIONS)) or "Not measured.",
        "growth": "\n\n".join(growth_tables(figures)) or "Not measured.",
        "time": "\n\n".join(measured_tables(figures, TIME)) or "Not measured.",
        "bitmaps": bitmaps_table(figures),
        "repeat": repeat_table(figures, again),
        "boots": boots_table(figures, again),
    }


def measured_tables(figures: Figures, unit: str) -> Iterator[str]:
    """For each base and step: ways by size of memory, stock kernel and patched one side by side."""
    for base in sorted({place.base for place in figures.places() if place.unit == unit}):
        places = [Place(base, kernel, unit) for kernel in (STOCK, PATCHED)]
        columns = [(place, mib) for place in places for mib in figures.sizes(place)]
        name, scale = _SCALE[unit]
        widest = max(figures.widest(place) for place in places)
        yield f"**Linux {base}, {name}**; largest spread of a figure {widest:.1%}"
        ways = list(dict.fromkeys(way for place in places for way in figures.ways(place)))
        for step, heading in _HEADINGS.items():
            head = [heading, *(f"{place.kernel}, {_size(mib)}" for place, mib in columns)]
            of_step = [way for way in ways if way[0] == step]
            rows = []
            for way in of_step:
                cells = [_number(figures.median(*column, way), scale) for column in columns]
                if unit == TIME and way != of_step[0]:
                    first = of_step[0]
                    ratios = (_times_as_fast(figures, *one, first, way) for one in columns)
                    cells = [f"{cell}{ratio}" for cell, ratio in zip(cells, ratios)]
                rows.append([way[1], *cells])
            if rows:
                yield table(head, rows)


def _times_as_fast(figures: Figures, place: Place, mib: int, first: Way, way: Way) -> str:
    """Than ``first`` in the same boot, with the range over its rounds; for behind a figure."""
    slow, fast = figures.found(place, mib, first), figures.found(place, mib, way)
    return f"; {paired_ratio(slow.ns, fast.ns)}" if slow and fast else ""


def growth_tables(figures: Figures) -> Iterator[str]:
    """Lines through what was counted, and what they say of machines nobody measured here."""
    head = ["", "fixed, M", "per page", *(f"{size} TiB, 10⁹" for size in BIG_TIB)]
    for place in figures.places():
        if place.unit != INSTRUCTIONS:
            continue
        rows = []
        for way in figures.ways(place):
            line = figures.line(place, way)
            if line is None:
                continue
            estimates = [line.at(size * PAGES_PER_TIB) for size in BIG_TIB]
            rows.append([
                f"{_HEADINGS[way[0]].split()[0].lower()}: {way[1]}",
                f"{line.fixed / 1e6:.1f}",
                f"{line.per_x:.1f}",
                *(_with_margin(one, 1e9) for one in estimates),
            ])  # fmt: skip
        if rows:
            head[0] = f"Linux {place.base}, {place.kernel}"
            yield table(head, rows)


def answer(figures: Figures) -> str:
    """What judging takes in the largest guests, and by how much that is better than the first."""
    head, columns = ["judging all pages"], []
    for base in sorted({place.base for place in figures.places()}):
        places = {kernel: Place(base, kernel, INSTRUCTIONS) for kernel in (STOCK, PATCHED)}
        both = set(figures.sizes(places[STOCK])) & set(figures.sizes(places[PATCHED]))
        mib = max(both, default=0)
        first = figures.median(places[STOCK], mib, _READ_4K)
        if first is None:
            continue
        pages = figures.comparison(places[STOCK], mib).pages
        medians = [figures.median(places[kernel], mib, way) for _, kernel, way in _ANSWERS]
        head += [f"{base}, {_size(mib)}: instructions a page", "times as fast"]
        columns.append([_number(median, pages, 1) for median in medians])
        columns.append([_NONE if not median else f"{first / median:.1f}" for median in medians])
    rows = [[told, *cells] for (told, *_), *cells in zip(_ANSWERS, *columns)]
    return table(head, rows) if columns else "Not measured."


def bitmaps_table(figures: Figures) -> str:
    """Whether all ways agreed, boot by boot."""
    rows = []
    for one in figures:
        theirs = [found for found in one.comparison.found if found.differing is not None]
        n_ways = sum(1 for found in one.comparison.found if found.bitmap) - len(theirs)
        rows.append([
            f"{one.guest.base} {one.guest.kernel}, {_size(one.guest.memory_mib)}, {one.guest.unit}",
            str(one.comparison.pages),
            str(one.comparison.kept),
            f"{n_ways} {'the same' if one.comparison.same_bitmaps else '**not the same**'}",
            ", ".join(sorted({str(found.differing) for found in theirs})) or _NONE,
        ])  # fmt: skip
    head = ("guest", "pages", "kept at level 31", "bitmaps of pydumpfile's",
            "pages makedumpfile judges otherwise")  # fmt: skip
    return table(head, rows) if rows else "Not measured."


def repeat_table(figures: Figures, again: Figures) -> str:
    """How far apart the ratios of two boots of a guest are, step by step."""
    rows = []
    first_boots = {one.guest: one for one in figures}
    for second in again:
        first = first_boots.get(second.guest)
        if first is None:
            continue
        for step, heading in _HEADINGS.items():
            ratios = list(repeated_ratios(first.comparison, second.comparison, step))
            if ratios:
                worst = max(ratios, key=lambda one: one.apart)
                rows.append([
                    str(second.guest), heading, str(len(ratios)), f"{worst.apart:.2%}",
                    f"{worst.way}: {worst.first:.4f}, {worst.second:.4f}",
                ])  # fmt: skip
    head = ("guest", "step", "ratios", "apart, at most", "the one furthest apart, in both boots")
    return table(head, rows) if rows else "Not measured."


def boots_table(figures: Figures, again: Figures) -> str:
    """When, how long, how wide."""
    boots = [(str(one.guest), one) for one in figures]
    boots += [(f"{one.guest}, again", one) for one in again]
    rows = [
        [name, one.when, f"{one.seconds / 60:.1f}",
         str(max((len(found.ns) for found in one.comparison.found), default=0))]
        for name, one in boots
    ]  # fmt: skip
    total = sum(one.seconds for _, one in boots) / 60
    text = table(("guest", "ended", "whole boot, min", "rounds"), rows)
    return f"{text}\n\nAll of them: {total:.0f} minutes."


def _size(mib: int) -> str:
    return f"{mib >> 10} GiB" if mib >= 1024 else f"{mib} MiB"


def _number(value: Optional[float], scale: float, digits: Optional[int] = None) -> str:
    if value is None:
        return _NONE
    scaled = value / scale
    if digits is None:
        digits = 0 if scaled >= 1000 else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f}"


def _with_margin(estimate: Estimate, scale: float) -> str:
    digits = 0 if estimate.value / scale >= 100 else 1 if estimate.value / scale >= 10 else 2
    return f"{estimate.value / scale:.{digits}f} ± {100 * estimate.share:.1f} %"


def shares(
    figures: Figures, place: Place, mib: int, ways: Sequence[Way], of: float
) -> list[tuple[str, float]]:
    """Each way's median over ``of``, for a drawing."""
    found = ((way[1], figures.median(place, mib, way)) for way in ways)
    return [(name, median / of) for name, median in found if median is not None]
