# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of `pydumpfile compare`."""

from __future__ import annotations

from pydumpfile.comparison.result import JUDGING, READING, Found
from pydumpfile.report.comparison import comparison_table
from tests.comparison.test_result import SAMPLE


def lines_with(text: str, table: str) -> list[str]:
    return [line for line in table.splitlines() if text in line]


def test_rows_have_medians_ranges_and_paired_ratios() -> None:
    ms = 1_000_000
    found = (
        Found(READING, "read 4K", (40 * ms, 20 * ms, 60 * ms)),
        Found(READING, "mmap 4M", (10 * ms, 10 * ms, 15 * ms)),
    )
    table = comparison_table(SAMPLE._replace(found=found))
    (first,) = lines_with("read 4K", table)
    assert first.split() == ["read", "4K", "40.00", "20.00", "60.00"]
    (second,) = lines_with("mmap 4M", table)
    assert second.split()[2:] == ["10.00", "10.00", "15.00", "4.00", "(2.00-4.00)"]


def test_what_is_not_here_is_a_row() -> None:
    (line,) = lines_with("kernel, in place", comparison_table(SAMPLE))
    assert line.endswith("not here: there is none")


def test_bitmaps_are_told_of() -> None:
    table = comparison_table(SAMPLE)
    assert lines_with("All ways of judging give the same bitmap.", table)
    assert lines_with("makedumpfile, mmap: 1 pages differ", table)
    odd = SAMPLE._replace(found=(*SAMPLE.found, Found(JUDGING, "odd", (1,), "xyz")))
    assert lines_with("do NOT give the same bitmap", comparison_table(odd))


def test_nothing_measured_still_has_a_head() -> None:
    table = comparison_table(SAMPLE._replace(found=()))
    assert "Linux 6.1.0, 4.0 GiB, mem_map 64.0 MiB in 2 places" in table
