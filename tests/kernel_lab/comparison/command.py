# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m tests.kernel_lab compare``: boots all guests, and writes docs/comparison.md.

Each boot is stored as soon as it is over, and the document filled from what is stored, so that a
run that was stopped goes on with --missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from pydumpfile.comparison.judging import BY_COPYING, BY_MMAP, BY_SCALAR, IN_PLACE
from pydumpfile.comparison.result import JUDGING
from pydumpfile.report.comparison import comparison_table
from tests.bench.document import fill
from tests.bench.plot import plot
from tests.kernel_lab.series import BASES

from .boots import INSTRUCTIONS, KERNELS, PATCHED, SIZES_GIB, STOCK, TIME, Guest, measure
from .document import sections, shares
from .drawing import growth_drawing
from .figures import Figures, Place

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "comparison.md"
_UNITS = (INSTRUCTIONS, TIME)
_TWICE = tuple(Guest(base, PATCHED, SIZES_GIB[0] << 10, INSTRUCTIONS) for base in BASES)
"""Booted a second time, to see what repeats."""
_QUICK = Guest(BASES[0], PATCHED, 1024, INSTRUCTIONS)
_BAR_WAYS = tuple(
    (JUDGING, way)
    for way in (
        "user space, read 4K", "user space, read 1M", BY_MMAP, BY_SCALAR, IN_PLACE, BY_COPYING
    )
)  # fmt: skip


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the lab's."""
    parser = commands.add_parser("compare", help="filtering in the kernel against user space")
    parser.add_argument("bases", nargs="*", default=BASES, metavar="BASE", help="6.1, 6.12")
    parser.add_argument("--kernel", choices=KERNELS, action="append", help="(default: both)")
    parser.add_argument("--unit", choices=_UNITS, action="append", help="(default: both)")
    sizes = ", ".join(map(str, SIZES_GIB))
    parser.add_argument("--gib", type=int, action="append", metavar="GIB",
                        help=f"memory of a guest (default: {sizes})")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one small guest, printed only")
    parser.add_argument("--missing", action="store_true", help="only what is not stored yet")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--document", type=Path, default=DOCUMENT,
                        help="its figures lie beside it (default: %(default)s)")  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, logs: Path) -> int:
    """Boot, store, render; 1 if bitmaps differed, or a dump failed."""
    if options.quick:
        measured = measure(_QUICK, logs, quick=True)
        print(comparison_table(measured.comparison))
        print(f"({measured.guest}: {measured.seconds} s)")
        return 0 if measured.comparison.succeeded else 1
    failed = []
    for guest, stored in [] if options.render else boots(options):
        if options.missing and any(one.guest == guest for one in Figures.load(stored)):
            continue
        print(f"compare: {guest}", file=sys.stderr, flush=True)
        measured = measure(guest, logs)
        figures = Figures.load(stored)
        figures.add(measured)
        figures.save(stored)
        print(f"compare: {guest}: {measured.seconds} s", file=sys.stderr, flush=True)
        if not measured.comparison.succeeded:
            failed.append(str(guest))
        render(options.document)
    render(options.document)
    print(f"compare: {options.document} is written")
    for name in failed:
        print(f"compare: {name}: bitmaps differ, or a dump failed")
    return 1 if failed else 0


def guests(options: argparse.Namespace) -> Iterator[Guest]:
    """What counts instructions first, small ones before large ones."""
    for unit in _UNITS:
        for base in options.bases:
            for gib in options.gib or SIZES_GIB:
                for kernel in KERNELS:
                    if unit in (options.unit or _UNITS) and kernel in (options.kernel or KERNELS):
                        yield Guest(base, kernel, gib << 10, unit)


def boots(options: argparse.Namespace) -> Iterator[tuple[Guest, Path]]:
    """Each guest, and what its figures are added to; some come again, for a file of their own."""
    for guest in guests(options):
        yield guest, stored_at(options.document)
        if guest in _TWICE:
            yield guest, stored_again_at(options.document)


def stored_at(document: Path) -> Path:
    """Where the figures that ``document`` is made of are."""
    return document.with_suffix(".json")


def stored_again_at(document: Path) -> Path:
    """Where those of second boots are."""
    return document.with_name(f"{document.stem}-again.json")


def render(document: Path) -> None:
    """Fill ``document`` from the figures beside it, and draw."""
    figures = Figures.load(stored_at(document))
    again = Figures.load(stored_again_at(document))
    text = document.read_text("utf-8")
    for name, section in sections(figures, again).items():
        text = fill(text, name, section)
    document.write_text(text, "utf-8")
    for base in sorted({place.base for place in figures.places()}):
        stock, patched = (Place(base, kernel, INSTRUCTIONS) for kernel in (STOCK, PATCHED))
        growth = growth_drawing(
            f"Judging all pages, Linux {base}",
            figures,
            [
                ("read 4K, stock", stock, (JUDGING, "user space, read 4K")),
                ("read 1M, stock", stock, (JUDGING, "user space, read 1M")),
                ("kernel, by copying", patched, (JUDGING, BY_COPYING)),
                ("read 4K, direct mapping", patched, (JUDGING, "user space, read 4K")),
                ("read 1M, direct mapping", patched, (JUDGING, "user space, read 1M")),
                ("mmap, stock", stock, (JUDGING, BY_MMAP)),
                ("kernel, in place", patched, (JUDGING, IN_PLACE)),
            ],
        )
        _beside(document, f"growth-{base}").write_text(growth, "utf-8")
        _beside(document, f"winners-{base}").write_text(_winners(figures, stock, patched), "utf-8")


def _winners(figures: Figures, stock: Place, patched: Place) -> str:
    """Bars at the largest size both kernels have: judging, as shares of mmap in a stock kernel."""
    sizes = sorted(set(figures.sizes(stock)) & set(figures.sizes(patched)))
    groups = []
    title = f"Linux {stock.base}: nothing measured with both kernels"
    unit = figures.median(stock, sizes[-1], (JUDGING, BY_MMAP)) if sizes else None
    if unit:
        mib = sizes[-1]
        title = f"Judging all pages, Linux {stock.base}, {mib >> 10} GiB: user space by mmap = 1"
        by_kernel = {
            place.kernel: dict(shares(figures, place, mib, _BAR_WAYS, unit))
            for place in (stock, patched)
        }
        groups = [
            (way, [(kernel, found[way]) for kernel, found in by_kernel.items() if way in found])
            for _, way in _BAR_WAYS
        ]
    longest = max((share for _, bars in groups for _, share in bars), default=1.0)
    return plot(title, [group for group in groups if group[1]], most=longest)


def _beside(document: Path, name: str) -> Path:
    return document.with_name(f"{document.stem}-{name}.svg")
