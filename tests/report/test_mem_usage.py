# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of --mem-usage, which scripts pick apart by columns."""

from __future__ import annotations

from pydumpfile.filter.level import Kind
from pydumpfile.mem_usage import MemUsage
from pydumpfile.report.mem_usage import table

USAGE = MemUsage(
    page_size=4096,
    existing=3156098,
    left_out={
        **dict.fromkeys(Kind, 0),
        Kind.CACHE: 445120,
        Kind.CACHE_PRIVATE: 35,
        Kind.USER: 99234,
        Kind.FREE: 2234567,
    },
    zero=7,
    kept=377135,
    doubts=[],
)


def test_the_whole_table() -> None:
    assert (
        table(USAGE)
        == """\
TYPE            PAGES                   EXCLUDABLE      DESCRIPTION
----------------------------------------------------------------------
ZERO            7                       yes             pages of zeros
NON_PRI_CACHE   445120                  yes             page cache without private data
PRI_CACHE       35                      yes             page cache with private data
USER            99234                   yes             memory of processes
FREE            2234567                 yes             free pages
KERN_DATA       377135                  no              the kernel's own memory

page size:              4096
Total pages on system:  3156098
Total size on system:   12927377408 Byte"""
    )


def test_rows_that_are_only_there_if_there_is_something_in_them() -> None:
    left_out = {**USAGE.left_out, Kind.HWPOISON: 3, Kind.OFFLINE: 32768}
    some = USAGE._replace(left_out=left_out, gone=11)
    rows = [line.split()[:3] for line in table(some).splitlines()]
    assert ["HWPOISON", "3", "yes"] in rows
    assert ["OFFLINE", "32768", "yes"] in rows
    assert ["LEFT_OUT", "11", "yes"] in rows
    assert rows.index(["KERN_DATA", "377135", "no"]) == 10
