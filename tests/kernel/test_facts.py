# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts by name, and what is said of missing and impossible ones."""

from __future__ import annotations

import pytest

from pydumpfile.errors import FormatError, MissingFactError
from pydumpfile.kernel.facts import Facts

TEXT = (
    b"OSRELEASE=6.12.0\nSIZE(page)=64\nOFFSET(page.flags)=0\nNUMBER(PG_lru)=5\n"
    b"LENGTH(mem_section)=2048\nSYMBOL(init_top_pgt)=ffffffff82410000\nNUMBER(bad)=x\n"
    b"NUMBER(minus)=-129\nSIZE(huge)=99999999999999\nOFFSET(page.minus)=-8\nSIZE(none)=0\n"
)


@pytest.fixture
def facts() -> Facts:
    return Facts.from_vmcoreinfo(TEXT, "/proc/vmcore")


def test_found(facts: Facts) -> None:
    assert facts.release == "6.12.0"
    assert facts.size("page") == 64
    assert facts.offset("page", "flags") == facts.find_offset("page", "flags") == 0
    assert facts.number("PG_lru") == 5
    assert facts.number("minus") == -129
    assert facts.length("mem_section") == 2048
    assert facts.symbol("init_top_pgt") == 0xFFFFFFFF82410000
    assert facts.within("NUMBER(PG_lru)", 5, 5) == 5


def test_missing(facts: Facts) -> None:
    assert facts.find("SIZE(zone)") is None
    assert facts.number("PG_slab") is None
    assert facts.length("zone.free_area") is None
    assert facts.find_offset("page", "private") is None
    assert facts.find_symbol("mem_map") is None
    assert facts.within("NUMBER(x)", 0, 1) is None
    assert Facts({}, "nothing").release == ""


@pytest.mark.parametrize(
    ("ask", "key"),
    [
        (lambda facts: facts.size("zone"), "SIZE(zone)"),
        (lambda facts: facts.offset("page", "lru"), "OFFSET(page.lru)"),
        (lambda facts: facts.symbol("mem_section"), "SYMBOL(mem_section)"),
        (lambda facts: facts.need("NUMBER(x)"), "NUMBER(x)"),
    ],
)
def test_missing_but_needed(facts: Facts, ask: object, key: str) -> None:
    with pytest.raises(MissingFactError) as caught:
        ask(facts)  # type: ignore[operator]
    assert caught.value.name == key
    assert caught.value.looked_in == "VMCOREINFO of /proc/vmcore"
    assert key in str(caught.value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda facts: facts.number("bad"),
        lambda facts: facts.need("NUMBER(bad)"),
        lambda facts: facts.size("huge"),
        lambda facts: facts.size("none"),
        lambda facts: facts.offset("page", "minus"),
        lambda facts: facts.find_offset("page", "minus"),
        lambda facts: facts.within("NUMBER(PG_lru)", 6, 63),
        lambda facts: facts.within("NUMBER(PG_lru)", 0, 4),
    ],
)
def test_impossible(facts: Facts, ask: object) -> None:
    with pytest.raises(FormatError, match="VMCOREINFO of /proc/vmcore"):
        ask(facts)  # type: ignore[operator]
