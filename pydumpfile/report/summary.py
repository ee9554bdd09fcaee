# SPDX-License-Identifier: GPL-2.0-or-later
"""The table at the end of a dump: pages by kind, kept and left out, size, time."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.dump import Statistics

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_size(n_bytes: float) -> str:
    """``n_bytes`` with the unit that leaves at most four digits before the point."""
    unit = 0
    while n_bytes >= 1024 and unit < len(_UNITS) - 1:
        n_bytes /= 1024
        unit += 1
    return f"{n_bytes:.0f} B" if unit == 0 else f"{n_bytes:.1f} {_UNITS[unit]}"


def summary(statistics: Statistics) -> str:
    """The whole table, lines without a newline at the end."""
    return "\n".join(_lines(statistics))


def _lines(statistics: Statistics) -> Iterator[str]:
    yield f"{'pages':>34} {'memory':>12} {'share':>7}"
    for label, pages in _rows(statistics):
        share = 100 * pages / statistics.existing if statistics.existing else 0.0
        size = format_size(pages * statistics.page_size)
        yield f"{label:<22}{pages:>12} {size:>12} {share:>6.1f}%"
    seconds = statistics.scan_seconds + statistics.copy_seconds
    written = "would be written, found" if statistics.dry_run else "written"
    yield (
        f"{format_size(statistics.bytes_written)} {written} in {seconds:.2f} s "
        f"({statistics.scan_seconds:.2f} s judging, {statistics.copy_seconds:.2f} s copying), "
        f"level {statistics.level}, compression {statistics.compressor}"
    )


def _rows(statistics: Statistics) -> Iterator[tuple[str, int]]:
    yield "the machine's memory", statistics.existing
    for kind, pages in statistics.left_out.items():
        if pages:
            yield f"- {kind.label}", pages
    if statistics.filtered_before:
        yield "- not in the source", statistics.filtered_before
    if statistics.lost:
        yield "- could not be read", statistics.lost
    if statistics.zero:
        yield "- zero", statistics.zero
    yield "= stored", statistics.stored
