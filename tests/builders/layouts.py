# SPDX-License-Identifier: GPL-2.0-or-later
"""What struct page looks like in each kernel release the builders can imitate: data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Optional

# enum pageflags, include/linux/page-flags.h.  Only the flags that a rule or a trap needs.
_FLAGS_5_15 = {
    "locked": 0, "referenced": 1, "uptodate": 2, "dirty": 3, "lru": 4, "active": 5,
    "waiters": 7, "slab": 9, "swapcache": 10, "reserved": 12, "private": 13, "writeback": 15,
    "head": 16, "swapbacked": 19, "unevictable": 20, "hwpoison": 23,
}  # fmt: skip
# 6.6 moved PG_writeback and PG_head into the bottom byte, so that the order of a compound page
# could move to the bottom byte of the second page's flags.
_FLAGS_6_6 = {
    "locked": 0, "writeback": 1, "referenced": 2, "uptodate": 3, "dirty": 4, "lru": 5,
    "head": 6, "waiters": 7, "active": 8, "slab": 11, "swapcache": 12, "reserved": 14,
    "private": 15, "swapbacked": 19, "unevictable": 20, "hwpoison": 23,
}  # fmt: skip
# 6.10 dropped PG_slab, 6.12 has dropped PG_error, PG_mappedtodisk and PG_uncached as well.
_FLAGS_6_12 = {
    "locked": 0, "writeback": 1, "referenced": 2, "uptodate": 3, "dirty": 4, "lru": 5,
    "head": 6, "waiters": 7, "active": 8, "swapcache": 10, "reserved": 13, "private": 14,
    "swapbacked": 17, "unevictable": 18, "hwpoison": 20,
}  # fmt: skip

# Offsets of the fields; `lru` is two words, the first doubles as compound_head of a tail page and
# the second holds compound_dtor and compound_order of the first tail page up to 6.5.
_OFFSETS_64 = {
    "flags": 0, "lru": 8, "mapping": 24, "index": 32, "private": 40,
    "_mapcount": 48, "_refcount": 52, "memcg_data": 56,
}  # fmt: skip
# No kernel has this order: it catches readers that know offsets by heart.
_OFFSETS_56 = {
    "flags": 0, "_mapcount": 8, "_refcount": 12, "lru": 16, "mapping": 32, "private": 40,
    "index": 48,
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One release's struct page and what its VMCOREINFO says about it.

    :ivar size: SIZE(page) in bytes.
    :ivar offsets: field name -> byte offset in struct page.
    :ivar flags: lower-case page flag name -> bit number in `flags`.
    :ivar types: "buddy", "offline", "hugetlb", "slab", "unaccepted", "table" -> signed 32-bit value
        of the word at `_mapcount`.
    :ivar exported_types: the types with a NUMBER(PAGE_*_MAPCOUNT_VALUE) line.
    :ivar compound: where the order of a compound page and its hugetlb mark are:
        "page_dtor" (bytes of the second struct page, OFFSET(page.compound_*)), "folio_dtor" (same
        bytes, OFFSET(folio._folio_*)), "tail_flag" (second page's flags, mark PG_hugetlb there),
        "head_type" (order in the second page's flags, mark in the head's type word).
    :ivar pg_hugetlb: NUMBER(PG_hugetlb), only with "tail_flag".
    :ivar slab_in_mapping: struct slab overlays `mapping` with a number that may be odd (6.2).
    :ivar compound_word: name of the tail's link, "compound_head" or "compound_info".
    :ivar compound_mask: the link holds an address mask, not a pointer (7.1).
    :ivar fake_heads: a hugetlb page with optimised vmemmap repeats its head every 64 pages
        (5.18 until 7.0).
    """

    release: str
    size: int
    offsets: Mapping[str, int]
    flags: Mapping[str, int]
    types: Mapping[str, int]
    exported_types: tuple[str, ...]
    compound: str
    pg_hugetlb: Optional[int] = None
    slab_in_mapping: bool = True
    compound_word: str = "compound_head"
    compound_mask: bool = False
    fake_heads: bool = True
    mem_section_size: int = 16
    free_area_length: int = 11
    migrate_types: int = 6
    extra_numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def dtor_off(self) -> int:
        """Offset, in the second struct page, of the byte that names the destructor (until 6.5)."""
        return self.offsets["lru"] + 8

    @property
    def order_off(self) -> int:
        """Offset, in the second struct page, of the byte that holds the order (until 6.5)."""
        return self.offsets["lru"] + 9


def _top_byte(number: int) -> int:
    """Page type of 6.12 and later: the number in the top byte of a signed 32-bit word."""
    return (number << 24) - (1 << 32)


_FLAG_TYPES = {"buddy": ~0x80, "offline": ~0x100, "table": ~0x200}
_BYTE_TYPES = {
    "buddy": _top_byte(0xF0), "offline": _top_byte(0xF1), "table": _top_byte(0xF2),
    "hugetlb": _top_byte(0xF4), "slab": _top_byte(0xF5), "unaccepted": _top_byte(0xF7),
}  # fmt: skip

_V5_15 = Layout(
    release="5.15.0",
    size=64,
    offsets=_OFFSETS_64,
    flags=_FLAGS_5_15,
    types=_FLAG_TYPES,
    exported_types=("buddy", "offline"),
    compound="page_dtor",
    slab_in_mapping=False,
    fake_heads=False,
    mem_section_size=32,
    extra_numbers={"HUGETLB_PAGE_DTOR": 2},
)
_V6_1 = replace(_V5_15, release="6.1.0", fake_heads=True, mem_section_size=16)
_V6_4 = replace(_V6_1, release="6.4.0", compound="folio_dtor", slab_in_mapping=True)
_V6_6 = replace(
    _V6_4,
    release="6.6.0",
    flags=_FLAGS_6_6,
    compound="tail_flag",
    pg_hugetlb=_FLAGS_6_6["active"],
    extra_numbers={},
)
_V6_9 = replace(
    _V6_6,
    release="6.9.0",
    types={**_FLAG_TYPES, "hugetlb": ~0x800},
    exported_types=("buddy", "offline", "hugetlb"),
    compound="head_type",
    pg_hugetlb=None,
)
_V6_12 = replace(
    _V6_9,
    release="6.12.0",
    flags=_FLAGS_6_12,
    types={name: value for name, value in _BYTE_TYPES.items() if name != "unaccepted"},
    exported_types=("buddy", "offline", "hugetlb", "slab"),
)
_V6_16 = replace(
    _V6_12,
    release="6.16.0",
    types=_BYTE_TYPES,
    exported_types=("buddy", "offline", "hugetlb", "slab", "unaccepted"),
)
_V7_1 = replace(
    _V6_16,
    release="7.1.0",
    compound_word="compound_info",
    compound_mask=True,
    fake_heads=False,
)

LAYOUTS: dict[str, Layout] = {
    "5.15": _V5_15,
    "6.1": _V6_1,
    "6.4": _V6_4,
    "6.6": _V6_6,
    "6.9": _V6_9,
    "6.12": _V6_12,
    "6.16": _V6_16,
    "7.1": _V7_1,
}

# Invented, kept out of LAYOUTS so that a test over LAYOUTS meets real kernels only.
ODD_LAYOUTS: dict[str, Layout] = {
    "6.1-odd": replace(_V6_1, size=56, offsets=_OFFSETS_56),
    "6.12-odd": replace(_V6_12, size=56, offsets=_OFFSETS_56),
}


def layout_named(name: str) -> Layout:
    """The layout called `name` in LAYOUTS or ODD_LAYOUTS."""
    layout = LAYOUTS.get(name) or ODD_LAYOUTS.get(name)
    if layout is None:
        known = ", ".join([*LAYOUTS, *ODD_LAYOUTS])
        raise ValueError(f"unknown struct page layout {name!r}; known: {known}")
    return layout
