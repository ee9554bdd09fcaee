# SPDX-License-Identifier: GPL-2.0-or-later
"""The VMCOREINFO note of the imitated kernel, in the order the kernel writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Union

from .layouts import Layout

Value = Union[int, str]

CRASHTIME = 1700000000
BUILD_ID = "0123456789abcdef0123456789abcdef01234567"


def page_keys(layout: Layout, hwpoison: bool) -> dict[str, Value]:
    """What `layout` exports about struct page (kernel/crash_core.c, kernel/vmcore_info.c)."""
    offsets, flags = layout.offsets, layout.flags
    keys: dict[str, Value] = {"SIZE(page)": layout.size}
    for name in ("flags", "_refcount", "mapping", "lru", "_mapcount", "private"):
        keys[f"OFFSET(page.{name})"] = offsets[name]
    if layout.compound == "page_dtor":
        keys["OFFSET(page.compound_dtor)"] = layout.dtor_off
        keys["OFFSET(page.compound_order)"] = layout.order_off
    elif layout.compound == "folio_dtor":
        keys["OFFSET(folio._folio_dtor)"] = layout.size + layout.dtor_off
        keys["OFFSET(folio._folio_order)"] = layout.size + layout.order_off
    keys[f"OFFSET(page.{layout.compound_word})"] = offsets["lru"]
    exported = ["lru", "private", "swapcache", "swapbacked", "slab"]
    if hwpoison:
        exported.append("hwpoison")
    for name in exported:
        if name in flags:
            keys[f"NUMBER(PG_{name})"] = flags[name]
    keys["NUMBER(PG_head_mask)"] = 1 << flags["head"]
    for name in layout.exported_types:
        keys[f"NUMBER(PAGE_{name.upper()}_MAPCOUNT_VALUE)"] = layout.types[name]
    if layout.pg_hugetlb is not None:
        keys["NUMBER(PG_hugetlb)"] = layout.pg_hugetlb
    for name, number in layout.extra_numbers.items():
        keys[f"NUMBER({name})"] = number
    return keys


def render(keys: Mapping[str, Value], final_newline: bool) -> str:
    """The note's text; CRASHTIME is the last of `keys`."""
    text = "".join(f"{key}={value}\n" for key, value in keys.items())
    return text if final_newline else text[:-1]
