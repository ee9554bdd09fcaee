# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts and level folded into a plan; what is missing and what cannot be."""

from __future__ import annotations

import pytest

import pydumpfile
from pydumpfile import loops
from pydumpfile.errors import FormatError, MissingFactError, UsageError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import MAX_LEVEL, Kind, Level
from pydumpfile.filter.native import NativeClassifier
from pydumpfile.filter.plan import (
    NEVER,
    PageTest,
    field_test,
    make_plan,
    needs_scan,
    tells_slab,
)
from pydumpfile.filter.reference import ReferenceClassifier
from pydumpfile.filter.scan import make_classifier
from pydumpfile.kernel.facts import Facts
from tests.builders import LAYOUTS
from tests.builders.vmcoreinfo import page_keys
from tests.conftest import Describer


def facts_of(layout: str, hwpoison: bool = True, **changes: object) -> Facts:
    """What the kernel of ``layout`` says of struct page; a change to None takes a line away."""
    lines = {key: str(value) for key, value in page_keys(LAYOUTS[layout], hwpoison).items()}
    lines["LENGTH(zone.free_area)"] = "11"
    for key, value in changes.items():
        lines.pop(key, None)
        if value is not None:
            lines[key] = str(value)
    return Facts(lines, "the test")


def test_levels() -> None:
    assert [Level.of(number).value for number in range(32)] == list(range(32))
    assert Level.of(31) == Level.ZERO | Level.CACHE | Level.CACHE_PRIVATE | Level.USER | Level.FREE
    for number in (-1, 32, 1 << 40):
        with pytest.raises(UsageError, match=str(number)):
            Level.of(number)
    assert MAX_LEVEL == 31
    assert len({kind.label for kind in Kind}) == len(Kind) == 7


def test_level_bits_of_the_plan() -> None:
    facts = facts_of("6.16")
    for number in range(32):
        plan = make_plan(facts, Level.of(number))
        assert plan.drop_cache == bool(number & 6)
        assert plan.drop_cache_private == bool(number & 4)
        assert plan.drop_user == bool(number & 8)
        assert (plan.buddy != NEVER) == bool(number & 16)
        assert (plan.unaccepted != NEVER) == bool(number & 16)
        assert NEVER not in (plan.hwpoison, plan.offline)


@pytest.mark.parametrize(
    ("hwpoison", "buddy", "scanned"),
    [
        (True, True, set(range(32))),
        (False, True, set(range(2, 32))),
        (False, False, set(range(2, 16)) | set(range(18, 32))),
    ],
)
def test_when_struct_pages_matter(hwpoison: bool, buddy: bool, scanned: set[int]) -> None:
    changes = {} if buddy else {"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": None}
    facts = facts_of("6.12", hwpoison, **changes)
    assert {n for n in range(32) if needs_scan(facts, Level.of(n))} == scanned


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slab_is_what_the_kernel_says(layout: str) -> None:
    """Bit 7, the default of old tools, is PG_waiters on kernels without PG_slab."""
    plan = make_plan(facts_of(layout), Level.of(31))
    flags, types = LAYOUTS[layout].flags, LAYOUTS[layout].types
    expected = PageTest(0, 1 << flags["slab"], 1 << flags["slab"]) if "slab" in flags else NEVER
    assert plan.slab_flag == expected
    assert (plan.slab_type != NEVER) == ("slab" in types)


def test_slab_of_a_kernel_too_old_to_say() -> None:
    old = dict.fromkeys(("NUMBER(PG_slab)", "NUMBER(PG_head_mask)", "OFFSET(page.compound_head)"))
    assert make_plan(facts_of("5.15", **old), Level.of(31)).slab_flag == PageTest(0, 1 << 7, 1 << 7)
    # Linux 6.10 and 6.11: neither flag nor type, if the type's number is not exported.
    no_type = {"NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": None}
    assert make_plan(facts_of("6.12", **no_type), Level.of(31)).slab_flag == NEVER


def test_user_data_is_kept_where_slab_cannot_be_told_from_it() -> None:
    """As makedumpfile's own -g describes Linux 6.12."""
    types = ("SLAB", "BUDDY", "OFFLINE", "HUGETLB")
    lacking = {f"NUMBER(PAGE_{name}_MAPCOUNT_VALUE)": None for name in types}
    unknown = facts_of("6.12", **lacking)
    assert not tells_slab(unknown)
    assert not make_plan(unknown, Level.of(31)).drop_user
    assert make_plan(unknown, Level.of(31)).drop_cache_private
    for layout in LAYOUTS:
        assert tells_slab(facts_of(layout)), layout
    lacking["NUMBER(PG_head_mask)"] = None
    assert not tells_slab(facts_of("6.12", **lacking))
    lacking["OFFSET(page.compound_head)"] = None  # too old to say
    assert tells_slab(facts_of("6.12", **lacking))


def test_compound_pages_of_old_kernels() -> None:
    """4.4 to 4.15 had 16-bit fields; before, the second page's list pointers were used."""
    base = dict.fromkeys(("OFFSET(page.compound_dtor)", "OFFSET(page.compound_order)"))
    wide = {"OFFSET(page.compound_dtor)": 16, "OFFSET(page.compound_order)": 20}
    plan = make_plan(facts_of("5.15", **wide), Level.of(31))
    assert (plan.order_off, plan.order_shift, plan.order_mask) == (16, 32, 0xFFFF)
    assert plan.hugetlb == PageTest(16, 0xFFFF, 2, after=True)
    adjacent = make_plan(facts_of("5.15"), Level.of(31))
    assert (adjacent.order_off, adjacent.order_shift, adjacent.order_mask) == (16, 8, 0xFF)
    assert adjacent.hugetlb == PageTest(16, 0xFF, 2, after=True)
    ancient = {
        **base, "OFFSET(page.compound_head)": None, "OFFSET(page.lru)": 32,
        "OFFSET(list_head.next)": 0, "OFFSET(list_head.prev)": 8,
        "SYMBOL(free_huge_page)": "ffffffff81234560",
    }  # fmt: skip
    plan = make_plan(facts_of("5.15", **ancient), Level.of(31))
    assert (plan.order_off, plan.order_shift, plan.order_mask) == (40, 0, 0xFFFF)
    assert plan.hugetlb == PageTest(32, (1 << 64) - 1, 0xFFFFFFFF81234560, after=True)
    assert plan.tail == NEVER
    unknown = make_plan(facts_of("5.15", **base), Level.of(31))
    assert (unknown.order_mask, unknown.hugetlb) == (0, NEVER)


def test_buddy_pages_of_old_kernels() -> None:
    """PG_buddy was a flag until 2.6.38."""
    changes = {"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": None, "NUMBER(PG_buddy)": 19}
    plan = make_plan(facts_of("5.15", **changes), Level.of(16))
    assert plan.buddy == PageTest(0, 1 << 19, 1 << 19)


def test_swap_cache_needs_swapbacked() -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    assert plan.swapcache_mask == 1 << 10 | 1 << 17
    plan = make_plan(facts_of("6.12", **{"NUMBER(PG_swapbacked)": None}), Level.of(31))
    assert plan.swapcache_mask == 1 << 10 | 1 << 20  # PG_private + 6
    changes = {"NUMBER(PG_swapbacked)": None, "NUMBER(PG_swapcache)": 15}
    plan = make_plan(facts_of("6.12", **changes), Level.of(31))
    assert plan.swapcache_mask == 1 << 15


def test_field_test() -> None:
    assert field_test(48, 4, 0xFFFFFFFF, -1) == PageTest(48, 0xFFFFFFFF, 0xFFFFFFFF)
    assert field_test(52, 4, 0xFFFFFFFF, -129) == PageTest(48, 0xFFFFFFFF << 32, 0xFFFFFF7F << 32)
    assert field_test(17, 1, 0xFF, 0x1FE) == PageTest(16, 0xFF00, 0xFE00)


@pytest.mark.parametrize(
    "key", ["SIZE(page)", "OFFSET(page.flags)", "OFFSET(page.mapping)", "OFFSET(page._refcount)"]
)
def test_the_least_that_is_needed(key: str) -> None:
    with pytest.raises(MissingFactError) as caught:
        make_plan(facts_of("6.12", **{key: None}), Level.of(31))
    assert caught.value.name in (key, "OFFSET(page._count)")
    assert caught.value.looked_in == "the test"


def test_count_is_the_old_name_of_refcount() -> None:
    changes = {"OFFSET(page._refcount)": None, "OFFSET(page._count)": 52}
    assert make_plan(facts_of("5.15", **changes), Level.of(31)).page_size == 64


MEMBERS = ("flags", "mapping", "private", "_mapcount")
BAD_OFFSETS = (-8, 1, 7, 63, 64, 4096, 1 << 31, 1 << 32, 1 << 63, 1 << 64, "x")


@pytest.mark.parametrize(
    ("layout", "key", "values"),
    [
        *(("6.12", f"OFFSET(page.{name})", BAD_OFFSETS) for name in MEMBERS),
        ("6.12", "OFFSET(page.compound_head)", BAD_OFFSETS),
        ("7.1", "OFFSET(page.compound_info)", BAD_OFFSETS),
        ("6.1", "OFFSET(page.compound_order)", (-1, 64, 1 << 31, 1 << 40)),
        ("6.1", "OFFSET(page.compound_dtor)", (-1, 64, 1 << 31, 1 << 40)),
        ("6.4", "OFFSET(folio._folio_order)", (-1, 0, 63, 128, 1 << 40)),
        ("6.4", "OFFSET(folio._folio_dtor)", (-1, 0, 63, 128, 1 << 40)),
        ("6.12", "SIZE(page)", (-64, 0, 7, 8, 60, 1 << 20, 1 << 40)),
        ("6.12", "NUMBER(PG_head_mask)", (-1, 1 << 64, "x")),
        ("6.12", "NUMBER(PG_lru)", (-1, 64, 1 << 40, "x")),
        ("6.12", "NUMBER(PG_hwpoison)", (-1, 64, 1 << 40)),
        ("6.6", "NUMBER(PG_hugetlb)", (-1, 64)),
        ("6.12", "LENGTH(zone.free_area)", (-1, 0, 64, 1000)),
    ],
)
def test_what_cannot_be(layout: str, key: str, values: tuple[object, ...]) -> None:
    for value in values:
        with pytest.raises(FormatError) as caught:
            make_plan(facts_of(layout, **{key: value}), Level.of(31))
        assert caught.value.path == "the test"


WITHOUT_BUDDY = {"NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": None}


@pytest.mark.parametrize(
    "key",
    ["SIZE(zone)", "SIZE(free_area)", "SIZE(list_head)", "OFFSET(zone.free_area)",
     "OFFSET(zone.spanned_pages)", "OFFSET(pglist_data.node_zones)",
     "OFFSET(pglist_data.nr_zones)", "OFFSET(free_area.free_list)", "OFFSET(list_head.next)",
     "OFFSET(list_head.prev)", "OFFSET(page.lru)", "LENGTH(zone.free_area)"],
)  # fmt: skip
def test_what_the_free_lists_need(described: Describer, key: str) -> None:
    with pydumpfile.open(described({**WITHOUT_BUDDY, key: None})) as vmcore:
        with pytest.raises(MissingFactError) as caught:
            PageFilter(vmcore, Level.of(16))
        assert caught.value.name == key
        PageFilter(vmcore, Level.of(15))  # needs no list


def test_no_nodes(described: Describer) -> None:
    with (
        pydumpfile.open(described({**WITHOUT_BUDDY, "SYMBOL(node_data)": None})) as vmcore,
        pytest.raises(MissingFactError, match="node_data"),
    ):
        PageFilter(vmcore, Level.of(16))


class TestDemand:
    """PYDUMPFILE_KERNEL says which loops run, and nothing else does."""

    def test_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plan = make_plan(facts_of("6.12"), Level.of(31))
        monkeypatch.delenv("PYDUMPFILE_KERNEL", raising=False)
        assert not loops.in_python()
        assert isinstance(make_classifier(plan), NativeClassifier)
        monkeypatch.setenv("PYDUMPFILE_KERNEL", "python")
        assert loops.in_python()
        assert isinstance(make_classifier(plan), ReferenceClassifier)

    @pytest.mark.parametrize("name", ["", "C", "rust", "auto"])
    def test_anything_else_is_an_error(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYDUMPFILE_KERNEL", name)
        with pytest.raises(UsageError, match="PYDUMPFILE_KERNEL"):
            loops.in_python()
