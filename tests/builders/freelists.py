# SPDX-License-Identifier: GPL-2.0-or-later
"""The buddy allocator's free lists: node, zones and circular lists through struct pages."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Callable, Union

from .layouts import Layout
from .physmem import PhysicalMemory
from .structpage import StructPage

# struct sizes and offsets of a typical x86_64 build; only the note gives them a meaning.
SIZE_ZONE = 1664
SIZE_PGLIST_DATA = 0x5000
_OFF_SPANNED_PAGES = 104
_OFF_FREE_AREA = 192
_OFF_VM_STAT = 1472
_OFF_NODE_ZONES = 0
_OFF_NR_ZONES = 0x4E00
_SIZE_LIST_HEAD = 16
_ZONES = ("DMA", "DMA32", "Normal", "Movable")
_DMA_END_PFN, _DMA32_END_PFN = 1 << 12, 1 << 20


def _zone_of(pfn: int) -> int:
    return 0 if pfn < _DMA_END_PFN else 1 if pfn < _DMA32_END_PFN else 2


class FreeLists:
    """Links the free blocks of one node and writes its pglist_data.

    :ivar reachable: (pfn, order) of the blocks that a walk which keeps the pages of broken lists
        finds.
    """

    def __init__(
        self,
        layout: Layout,
        rng: Random,
        *,
        blocks: Sequence[tuple[int, int]],
        pgdat_vaddr: int,
        page_vaddr: Callable[[int], int],
        broken: bool,
    ) -> None:
        """:param blocks: (pfn, order) of every sane free block."""
        self._layout = layout
        self._pgdat_vaddr = pgdat_vaddr
        self._page_vaddr = page_vaddr
        self._size_free_area = layout.migrate_types * _SIZE_LIST_HEAD + 8
        self._lists: dict[tuple[int, int, int], list[int]] = {}
        for pfn, order in blocks:
            key = (_zone_of(pfn), order, rng.randrange(layout.migrate_types))
            self._lists.setdefault(key, []).append(pfn)
        for pfns in self._lists.values():
            rng.shuffle(pfns)
        self._broken = max(self._lists, key=lambda key: len(self._lists[key])) if broken else None
        self.reachable = [
            (pfn, key[1]) for key in self._lists if key != self._broken for pfn in self._lists[key]
        ]

    def _head_off(self, zone: int, order: int, migrate_type: int) -> int:
        area = _OFF_FREE_AREA + order * self._size_free_area + migrate_type * _SIZE_LIST_HEAD
        return _OFF_NODE_ZONES + zone * SIZE_ZONE + area

    def link(self, page_of: Callable[[int], StructPage]) -> dict[int, StructPage]:
        """The struct pages of listed blocks with their lru links set, by pfn."""
        linked: dict[int, StructPage] = {}
        for key, pfns in self._lists.items():
            chain = self._chain(key, pfns)
            for at, pfn in enumerate(pfns, 1):
                prev = chain[at - 1]
                if key == self._broken and at == 1:
                    prev = chain[at] ^ 0x100000
                linked[pfn] = page_of(pfn)._replace(lru_next=chain[at + 1], lru_prev=prev)
        return linked

    def _chain(self, key: tuple[int, int, int], pfns: Sequence[int]) -> list[int]:
        head = self._pgdat_vaddr + self._head_off(*key)
        lru = self._layout.offsets["lru"]
        return [head, *(self._page_vaddr(pfn) + lru for pfn in pfns), head]

    def store(self, memory: PhysicalMemory, pgdat_paddr: int, max_pfn: int) -> None:
        """Write pglist_data with its zones and list heads."""
        ends = (min(_DMA_END_PFN, max_pfn), min(_DMA32_END_PFN, max_pfn), max_pfn, max_pfn)
        start = 1
        for zone, end in enumerate(ends):
            zone_paddr = pgdat_paddr + _OFF_NODE_ZONES + zone * SIZE_ZONE
            memory.write_word(zone_paddr + _OFF_SPANNED_PAGES, max(0, end - start))
            start = max(start, end)
            for order in range(self._layout.free_area_length):
                for migrate_type in range(self._layout.migrate_types):
                    key = (zone, order, migrate_type)
                    chain = self._chain(key, self._lists.get(key, []))
                    head_paddr = pgdat_paddr + self._head_off(*key)
                    memory.write_word(head_paddr, chain[1])
                    memory.write_word(head_paddr + 8, chain[-2])
        memory.write(pgdat_paddr + _OFF_NR_ZONES, len(_ZONES).to_bytes(4, "little"))

    def keys(self) -> dict[str, Union[int, str]]:
        """VMCOREINFO keys of nodes, zones and lists."""
        return {
            "SIZE(pglist_data)": SIZE_PGLIST_DATA,
            "SIZE(zone)": SIZE_ZONE,
            "SIZE(free_area)": self._size_free_area,
            "SIZE(list_head)": _SIZE_LIST_HEAD,
            "SIZE(nodemask_t)": 128,
            "OFFSET(pglist_data.node_zones)": _OFF_NODE_ZONES,
            "OFFSET(pglist_data.nr_zones)": _OFF_NR_ZONES,
            "OFFSET(zone.free_area)": _OFF_FREE_AREA,
            "OFFSET(zone.vm_stat)": _OFF_VM_STAT,
            "OFFSET(zone.spanned_pages)": _OFF_SPANNED_PAGES,
            "OFFSET(free_area.free_list)": 0,
            "OFFSET(list_head.next)": 0,
            "OFFSET(list_head.prev)": 8,
            "LENGTH(zone.free_area)": self._layout.free_area_length,
            "LENGTH(free_area.free_list)": self._layout.migrate_types,
            "NUMBER(NR_FREE_PAGES)": 0,
        }
