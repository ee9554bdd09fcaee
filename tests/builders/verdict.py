# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages each dump level keeps: the rules of makedumpfile, spelled out page by page.

Plain and slow on purpose, and written from the rules alone: it is the other opinion in tests of
the filter.  It looks at the builder's records, never at the core file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

from .memmap import GROUP_PAGES
from .structpage import StructPage

NON_PRIVATE_CACHE, ALL_CACHE, USER, FREE = 2, 4, 8, 16  # bits of the dump level
KINDS = ("free", "cache", "cache_private", "user", "hwpoison", "offline")

Keys = Mapping[str, Union[int, str]]


class Traits(NamedTuple):
    """What the predicates say about one page, whatever the level."""

    tail: bool = False
    buddy_order: Optional[int] = None  # private of a page with the buddy type
    unaccepted: bool = False
    cache: bool = False
    private: bool = False
    anon: bool = False
    hugetlb: bool = False
    hwpoison: bool = False
    offline: bool = False
    order: int = 0


_TAIL = Traits(tail=True)


@dataclass(frozen=True)
class MemMapPages:
    """The struct pages of one mem_map range, `pages[0]` is that of `start_pfn`."""

    start_pfn: int
    pages: Sequence[StructPage]


class Predicates:
    """The predicates, set up from what VMCOREINFO says."""

    def __init__(self, keys: Keys, slab_may_be_anon: bool) -> None:

        def number(name: str) -> Optional[int]:
            value = keys.get(f"NUMBER({name})")
            return None if value is None else int(value)

        def has_offset(name: str) -> bool:
            return f"OFFSET({name})" in keys

        def page_type(name: str) -> Optional[int]:
            if not has_offset("page._mapcount"):
                return None
            return number(f"PAGE_{name}_MAPCOUNT_VALUE")

        for name in ("flags", "_refcount", "mapping"):
            if not has_offset(f"page.{name}"):
                raise ValueError(f"no verdict without OFFSET(page.{name})")
        self.slab_may_be_anon = slab_may_be_anon
        self.tails_known = has_offset("page.compound_head") or has_offset("page.compound_info")
        lru, swapcache = number("PG_lru"), number("PG_swapcache")
        private, swapbacked = number("PG_private"), number("PG_swapbacked")
        self.lru_bit = 5 if lru is None else lru
        self.swapcache_bit = 15 if swapcache is None else swapcache
        self.private_bit = 11 if private is None else private
        if swapbacked is None and self.swapcache_bit < self.private_bit:
            swapbacked = self.private_bit + 6
        self.swapbacked_bit = swapbacked
        self.slab_type = page_type("SLAB")
        self.slab_bit = number("PG_slab")
        if self.slab_bit is None and "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)" not in keys:
            self.slab_bit = 7  # the default for kernels older than the export
        head_mask = number("PG_head_mask")
        self.head_mask = 1 << 14 if head_mask is None else head_mask
        self.hwpoison_bit = number("PG_hwpoison")
        self.buddy_type = page_type("BUDDY") if has_offset("page.private") else None
        self.offline_type = page_type("OFFLINE")
        self.unaccepted_type = page_type("UNACCEPTED")
        self.hugetlb_type = number("PAGE_HUGETLB_MAPCOUNT_VALUE")
        self.hugetlb_bit = number("PG_hugetlb")
        self.hugetlb_dtor = number("HUGETLB_PAGE_DTOR")
        self.order_byte = has_offset("folio._folio_order") or has_offset("page.compound_order")
        self.dtor_byte = has_offset("folio._folio_dtor") or has_offset("page.compound_dtor")
        length = keys.get("LENGTH(zone.free_area)")
        self.free_area_length = None if length is None else int(length)

    def traits(self, pfn: int, page: StructPage, following: Optional[StructPage]) -> Traits:
        """Everything about one page.

        :param following: the next struct page; needed unless `pfn` ends a group of 512.
        """

        def bit(number: Optional[int]) -> bool:
            return number is not None and bool(page.flags >> number & 1)

        if self.tails_known and page.lru_next & 1:
            return _TAIL
        slab = bit(self.slab_bit) or (
            self.slab_type is not None and page.mapcount == self.slab_type
        )
        swapbacked = self.swapbacked_bit is None or bit(self.swapbacked_bit)
        buddy = not slab and self.buddy_type is not None and page.mapcount == self.buddy_type
        order, hugetlb = self._compound(pfn, page, following)
        return Traits(
            buddy_order=page.private if buddy else None,
            unaccepted=(
                self.unaccepted_type is not None
                and self.free_area_length is not None
                and page.mapcount == self.unaccepted_type
            ),
            cache=bit(self.lru_bit) or (bit(self.swapcache_bit) and swapbacked),
            private=bit(self.private_bit),
            anon=bool(page.mapping & 1) and (self.slab_may_be_anon or not slab),
            hugetlb=hugetlb,
            hwpoison=bit(self.hwpoison_bit),
            offline=(
                self.offline_type is not None and not slab and page.mapcount == self.offline_type
            ),
            order=order,
        )

    def _compound(
        self, pfn: int, page: StructPage, following: Optional[StructPage]
    ) -> tuple[int, bool]:
        """(order, is hugetlb); (0, False) for what is no head."""
        if not page.flags & self.head_mask or pfn % GROUP_PAGES == GROUP_PAGES - 1:
            return 0, False
        assert following is not None
        if self.hugetlb_type is not None:
            order = following.flags & 0xFF
            hugetlb = page.mapcount == self.hugetlb_type
        elif self.hugetlb_bit is not None:
            order = following.flags & 0xFF
            hugetlb = bool(following.flags >> self.hugetlb_bit & 1)
        else:
            order = following.lru_prev >> 8 & 0xFF if self.order_byte else 0
            dtor = following.lru_prev & 0xFF if self.dtor_byte else None
            hugetlb = dtor is not None and dtor == self.hugetlb_dtor
        if order >= 64 or pfn % (1 << order):
            order = 0
        return order, hugetlb


class Verdict:
    """The expected second bitmaps of one core.

    Bitmaps are LSB-first, one bit a pfn.

    :param start: the second bitmap before any page is looked at.
    :param data: pfns with bytes in the file; others are not looked at.
    :param unreadable: half-open pfn ranges whose struct pages cannot be read: kept.
    :param free_blocks: (pfn, order) that a walk of the free lists finds.
    :param keys: VMCOREINFO, None if there is no such note.
    :param slab_may_be_anon: the rule of makedumpfile before 1.7.3, which did not know that slab
        memory may have an odd number in `mapping`.
    """

    def __init__(
        self,
        keys: Optional[Keys],
        ranges: Sequence[MemMapPages],
        *,
        max_mapnr: int,
        start: bytes,
        data: bytes,
        unreadable: Sequence[tuple[int, int]] = (),
        free_blocks: Sequence[tuple[int, int]] = (),
        slab_may_be_anon: bool = False,
    ) -> None:
        self._predicates = None if keys is None else Predicates(keys, slab_may_be_anon)
        self._ranges = ranges
        self._max_mapnr = max_mapnr
        self._start = start
        self._data = data
        self._unreadable = unreadable
        self._free_blocks = free_blocks
        self._traits: dict[int, list[Optional[Traits]]] = {}
        self._results: dict[int, tuple[bytes, dict[str, int]]] = {}

    def bitmap(self, level: int) -> bytes:
        """The second bitmap of `level`."""
        return self._result(level)[0]

    def counts(self, level: int) -> dict[str, int]:
        """How many bits each kind of page cleared at `level`."""
        return dict(self._result(level)[1])

    def _result(self, level: int) -> tuple[bytes, dict[str, int]]:
        if not 0 <= level <= 31:
            raise ValueError(f"dump levels are 0 to 31, not {level}")
        level &= ~1  # zero pages keep their bit
        if level not in self._results:
            bitmap = bytearray(self._start)
            counts = dict.fromkeys(KINDS, 0)
            self._apply(level, bitmap, counts)
            self._results[level] = bytes(bitmap), counts
        return self._results[level]

    def _apply(self, level: int, bitmap: bytearray, counts: dict[str, int]) -> None:
        rules = self._predicates
        if rules is None:
            if level:
                raise ValueError("without VMCOREINFO only levels 0 and 1 are possible")
            return
        free_by_type = rules.buddy_type is not None
        scan = (
            level & (NON_PRIVATE_CACHE | ALL_CACHE | USER)
            or (level & FREE and free_by_type)
            or rules.hwpoison_bit is not None
        )
        if scan:
            for mem_map in self._ranges:
                self._scan(mem_map, level, bitmap, counts)
        if level & FREE and not free_by_type:
            for pfn, order in self._free_blocks:
                self._clear(bitmap, counts, "free", pfn, 1 << order)

    def _scan(
        self, mem_map: MemMapPages, level: int, bitmap: bytearray, counts: dict[str, int]
    ) -> None:
        traits = self._traits_of(mem_map)
        at = 0
        while at < len(traits):
            page = traits[at]
            drop = None if page is None else self._decide(page, level)
            if drop is None:
                at += 1
                continue
            kind, n_pages = drop
            self._clear(bitmap, counts, kind, mem_map.start_pfn + at, n_pages)
            at += n_pages

    def _decide(self, page: Traits, level: int) -> Optional[tuple[str, int]]:
        """(kind, number of pages) to drop, or None to keep; the first rule that matches counts."""
        rules = self._predicates
        assert rules is not None
        if page.tail:
            return None
        if level & FREE and page.buddy_order is not None:
            length = rules.free_area_length
            if length is not None and page.buddy_order >= length:
                return None
            return "free", 1 << min(page.buddy_order, 63)
        if level & FREE and page.unaccepted:
            assert rules.free_area_length is not None
            return "free", 1 << (rules.free_area_length - 1)
        n_pages = 1 << page.order
        if level & NON_PRIVATE_CACHE and page.cache and not page.private and not page.anon:
            return "cache", n_pages
        if level & ALL_CACHE and page.cache and not page.anon:
            return "cache_private" if page.private else "cache", n_pages
        if level & USER and (page.anon or page.hugetlb):
            return "user", n_pages
        if page.hwpoison:
            return "hwpoison", n_pages
        if page.offline:
            return "offline", n_pages
        return None

    def _traits_of(self, mem_map: MemMapPages) -> list[Optional[Traits]]:
        """The traits of each page of the range; None for those that are not looked at."""
        known = self._traits.get(mem_map.start_pfn)
        if known is not None:
            return known
        rules = self._predicates
        assert rules is not None
        traits: list[Optional[Traits]] = []
        pages = mem_map.pages
        for at, page in enumerate(pages):
            pfn = mem_map.start_pfn + at
            if not self._is_looked_at(pfn):
                traits.append(None)
                continue
            following = pages[at + 1] if at + 1 < len(pages) else None
            traits.append(rules.traits(pfn, page, following))
        self._traits[mem_map.start_pfn] = traits
        return traits

    def _is_looked_at(self, pfn: int) -> bool:
        if pfn >= self._max_mapnr or not self._data[pfn >> 3] >> (pfn & 7) & 1:
            return False
        return not any(first <= pfn < end for first, end in self._unreadable)

    def _clear(
        self, bitmap: bytearray, counts: dict[str, int], kind: str, pfn: int, n_pages: int
    ) -> None:
        for at in range(pfn, min(pfn + n_pages, self._max_mapnr)):
            mask = 1 << (at & 7)
            if bitmap[at >> 3] & mask:
                bitmap[at >> 3] &= ~mask
                counts[kind] += 1
