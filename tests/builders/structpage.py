# SPDX-License-Identifier: GPL-2.0-or-later
"""One struct page as the builders remember it, and its bytes in a given layout."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from .layouts import Layout

WORD_MASK = (1 << 64) - 1
# Section, node, zone and last CPU fill the top of `flags`; no rule may look at them.
NODE_ZONE_BITS = 0x17FFFFC000000000


class StructPage(NamedTuple):
    """The words of one struct page; unsigned 64-bit but for the two signed 32-bit counters."""

    flags: int = NODE_ZONE_BITS
    lru_next: int = 0  # compound_head or compound_info of a tail page
    lru_prev: int = 0  # compound_dtor, compound_order of the first tail page until 6.5
    mapping: int = 0
    pgoff: int = 0  # the kernel calls it index, which a tuple has already
    private: int = 0
    mapcount: int = -1  # the page type word
    refcount: int = 1
    memcg_data: int = 0


_FORMAT = {"_mapcount": "i", "_refcount": "i"}


class Encoder:
    """Packs StructPage records the way `layout` lays them out."""

    def __init__(self, layout: Layout) -> None:
        offsets = dict(layout.offsets)
        offsets["pgoff"] = offsets.pop("index")
        offsets["lru_next"] = offsets.pop("lru")
        offsets["lru_prev"] = offsets["lru_next"] + 8
        names = sorted(offsets, key=lambda name: offsets[name])
        self._struct = struct.Struct("<" + "".join(_FORMAT.get(name, "Q") for name in names))
        self._fields = itemgetter(*(StructPage._fields.index(name.lstrip("_")) for name in names))
        if self._struct.size != layout.size:
            raise ValueError(f"fields take {self._struct.size} bytes, SIZE(page) is {layout.size}")

    def encode(self, pages: Iterable[StructPage]) -> bytes:
        """The pages' bytes, one after the other."""
        pack, fields = self._struct.pack, self._fields
        return b"".join([pack(*fields(page)) for page in pages])
