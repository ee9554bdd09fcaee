# SPDX-License-Identifier: GPL-2.0-or-later
"""Free pages from the zones' free lists, for kernels whose struct pages do not tell them.

Source: ``include/linux/mmzone.h`` (pglist_data, zone, free_area), ``mm/page_alloc.c``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Optional

from pydumpfile.errors import FaultError, MissingFactError
from pydumpfile.filter.tally import Tally
from pydumpfile.kernel.facts import Facts
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.pfn import Range

_POINTER_SIZE = 8
# More than any kernel has: of what is read from the dead kernel nothing may run away.
_MAX_NODES = 8192
_MAX_ZONES = 16
_MAX_TYPES = 64


class FreeLists:
    """The free lists of all zones of all nodes.

    :raises MissingFactError: the kernel does not say where they are.
    """

    def __init__(self, vmcore: Vmcore) -> None:
        facts = vmcore.need_facts()
        self._memory = vmcore.memory
        self._max_blocks = vmcore.mem_map.end_pfn
        self._zones_off = facts.offset("pglist_data", "node_zones")
        self._nr_zones_off = facts.offset("pglist_data", "nr_zones")
        self._zone_size = facts.size("zone")
        self._spanned_off = facts.offset("zone", "spanned_pages")
        self._areas_off = facts.offset("zone", "free_area")
        self._area_size = facts.size("free_area")
        self._lists_off = facts.offset("free_area", "free_list")
        self._list_size = facts.size("list_head")
        self._next_off = facts.offset("list_head", "next")
        self._prev_off = facts.offset("list_head", "prev")
        self._lru_off = facts.offset("page", "lru")
        facts.need("LENGTH(zone.free_area)")
        self._n_orders = facts.within("LENGTH(zone.free_area)", 1, 63) or 0
        self._n_types = facts.within("LENGTH(free_area.free_list)", 1, _MAX_TYPES) or 1
        self._struct_page_size = facts.size("page")
        self._pieces = sorted(vmcore.mem_map, key=lambda piece: piece.vaddr)
        self._piece_vaddrs = [piece.vaddr for piece in self._pieces]
        self._nodes = list(self._online_nodes(facts))

    def blocks(self, tally: Tally) -> Iterator[Range]:
        """All free blocks as pfn ranges, in list order.

        A list that does not hang together is left where it breaks and counted in
        ``tally.broken_lists``.
        """
        broken = 0
        for pgdat_vaddr in self._nodes:
            try:
                heads = list(self._heads(pgdat_vaddr))
            except (_BrokenList, FaultError):
                broken += 1
                continue
            for order, head_vaddr in heads:
                try:
                    for pfn in self._walk(head_vaddr):
                        yield pfn, pfn + (1 << order)
                except _BrokenList:
                    broken += 1
        tally.broken_lists = broken

    def _online_nodes(self, facts: Facts) -> Iterator[int]:
        """Addresses of the ``pglist_data`` of all nodes that are online."""
        node_data = facts.find_symbol("node_data")
        if node_data is None:
            pgdat = facts.find_symbol("contig_page_data")
            if pgdat is None:
                raise MissingFactError("SYMBOL(node_data) or SYMBOL(contig_page_data)",
                                       facts.looked_in, "free pages cannot be found; drop 16 "
                                       "from the dump level")  # fmt: skip
            yield pgdat
            return
        mask_vaddr = facts.find_symbol("node_online_map")
        mask_size = facts.within("SIZE(nodemask_t)", 1, _MAX_NODES // 8) or _POINTER_SIZE
        if mask_vaddr is None:  # an element of node_states since Linux 2.6.24 (13808910713a)
            mask_vaddr = facts.symbol("node_states") + mask_size * facts.need("NUMBER(N_ONLINE)")
        online = int.from_bytes(self._memory.read(mask_vaddr, mask_size), "little")
        for node in range(min(facts.length("node_data") or _MAX_NODES, 8 * mask_size)):
            if online >> node & 1:
                yield self._memory.read_u64(node_data + node * _POINTER_SIZE)

    def _heads(self, pgdat_vaddr: int) -> Iterator[tuple[int, int]]:
        """Order and list head address of every free list of one node."""
        nr_zones = int.from_bytes(self._memory.read(pgdat_vaddr + self._nr_zones_off, 4), "little")
        if nr_zones > _MAX_ZONES:
            raise _BrokenList
        for zone_vaddr in range(
            pgdat_vaddr + self._zones_off,
            pgdat_vaddr + self._zones_off + nr_zones * self._zone_size,
            self._zone_size,
        ):
            if not self._memory.read_u64(zone_vaddr + self._spanned_off):
                continue
            for order in reversed(range(self._n_orders)):
                area = zone_vaddr + self._areas_off + order * self._area_size + self._lists_off
                for migrate_type in range(self._n_types):
                    yield order, area + migrate_type * self._list_size

    def _walk(self, head_vaddr: int) -> Iterator[int]:
        """The pfns on one circular list.

        :raises _BrokenList: it does not lead back to its head by way of struct pages.
        """
        previous = head_vaddr
        for _ in range(self._max_blocks + 1):
            try:
                node = self._memory.read_u64(previous + self._next_off)
                back = self._memory.read_u64(node + self._prev_off)
            except FaultError as error:
                raise _BrokenList from error
            if back != previous:
                raise _BrokenList
            if node == head_vaddr:
                return
            pfn = self._pfn_of(node - self._lru_off)
            if pfn is None:
                raise _BrokenList
            yield pfn
            previous = node
        raise _BrokenList

    def _pfn_of(self, page_vaddr: int) -> Optional[int]:
        """The pfn of the struct page at ``page_vaddr``; None if there is none."""
        at = bisect_right(self._piece_vaddrs, page_vaddr) - 1
        if at < 0:
            return None
        piece = self._pieces[at]
        index, rest = divmod(page_vaddr - piece.vaddr, self._struct_page_size)
        pfn = piece.first_pfn + index
        return pfn if rest == 0 and pfn < piece.end_pfn else None


class _BrokenList(Exception):  # noqa: N818
    """A free list does not hang together; counted, never seen outside."""
