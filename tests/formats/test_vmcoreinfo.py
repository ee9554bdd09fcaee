# SPDX-License-Identifier: GPL-2.0-or-later
"""The VMCOREINFO text."""

from __future__ import annotations

import pytest

from pydumpfile.formats import vmcoreinfo


def test_lines() -> None:
    text = b"OSRELEASE=6.12.0\nEMPTY=\nA=b=c\nno equals sign\n\nCRASHTIME=17"
    assert vmcoreinfo.parse(text) == {
        "OSRELEASE": "6.12.0", "EMPTY": "", "A": "b=c", "CRASHTIME": "17",
    }  # fmt: skip


def test_the_first_line_of_a_key_counts() -> None:
    assert vmcoreinfo.parse(b"A=1\nB=2\nA=3\n") == {"A": "1", "B": "2"}


def test_padding_and_foreign_bytes() -> None:
    assert vmcoreinfo.parse(b"A=1\n\0\0\0") == {"A": "1"}
    assert vmcoreinfo.parse(b"A=\xff\xfe\nB=2")["B"] == "2"
    assert vmcoreinfo.parse(b"") == {}


@pytest.mark.parametrize(
    ("key", "value", "number"),
    [
        ("SYMBOL(init_top_pgt)", "ffffffff82410000", 0xFFFFFFFF82410000),
        ("KERNELOFFSET", "1c000000", 0x1C000000),
        ("KERNELOFFSET", "10", 16),
        ("SIZE(page)", "64", 64),
        ("OFFSET(page.flags)", "0", 0),
        ("LENGTH(mem_section)", "2048", 2048),
        ("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "-268435456", -268435456),
        ("NUMBER(kimage_voffset)", "0xffff7fff80000000", 0xFFFF7FFF80000000),
        ("NUMBER(x)", "-0x10", -16),
        ("NUMBER(x)", "010", 10),
        ("CRASHTIME", "1700000000", 1700000000),
        ("PAGESIZE", "4096", 4096),
    ],
)
def test_numbers(key: str, value: str, number: int) -> None:
    assert vmcoreinfo.to_number(key, value) == number


@pytest.mark.parametrize(
    ("key", "value"),
    [("NUMBER(x)", "abc"), ("SIZE(page)", ""), ("SIZE(page)", "1.5"), ("SYMBOL(x)", "nowhere"),
     ("NUMBER(x)", "0x"), ("NUMBER(x)", "12 13")],
)  # fmt: skip
def test_what_is_no_number(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        vmcoreinfo.to_number(key, value)
