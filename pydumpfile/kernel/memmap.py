# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the dead kernel keeps its mem_map: the arrays of ``struct page``, piece by piece.

SPARSEMEM (with and without vmemmap, one- and two-level) and FLATMEM. Source:
``include/linux/mmzone.h`` and ``mm/sparse.c``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import repeat
from struct import Struct
from typing import NamedTuple, Optional

from pydumpfile.errors import FaultError, MissingFactError
from pydumpfile.kernel.facts import Facts
from pydumpfile.memory.space import AddressSpace

_SECTION_PRESENT = 1 << 0
_SECTION_ONLINE = 1 << 2  # Linux 4.13 (2d070eab2e82); before, always clear
_SECTION_EARLY = 1 << 3  # there since boot: Linux 5.3 (326e1b8f83a4)
_SECTION_ZONE_DEVICE = 1 << 4  # shared with device memory: Linux 5.12 (1f90a3477df3)
# section_mem_map carries flags in its low bits: present, has-mem-map, online (4.13), early (5.3),
# taint-zone-device (5.12), vmemmap-preinit (6.15). The kernel leaves at least SECTION_MAP_LAST_BIT
# = 6 bits free, and mem_map itself is aligned to 64 bytes or more.
_SECTION_FLAGS = 0x3F
# Not exported before Linux 5.9 and 5.13 (1d50e5d0c505, 4f5aecdff25f); x86_64 values since 2.6.31.
_SECTION_SIZE_BITS = 27
_MAX_PHYSMEM_BITS = {4: 46, 5: 52}
_U64 = Struct("<Q")


class MemMapPiece(NamedTuple):
    """Struct pages of pfns ``[first_pfn, end_pfn)``, an array at virtual address ``vaddr``."""

    first_pfn: int
    end_pfn: int
    vaddr: int
    online: bool
    """False: the kernel had given the memory up, and what its struct pages say means nothing."""


class MemMap:
    """All pieces: each covers ``pages_per_piece`` pfns; ``vaddrs[i]`` is 0 where there is none.

    Eight bytes for each 128 MiB section, however large the machine.
    """

    def __init__(
        self, vaddrs: array[int], pages_per_piece: int, struct_page_size: int, model: str,
        bad_sections: int = 0, offline: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self._vaddrs = vaddrs
        self._pages_per_piece = pages_per_piece
        self.struct_page_size = struct_page_size
        self.model = model
        self._offline = offline
        self.bad_sections = bad_sections
        """Sections that are or may be there, but whose mem_map cannot be found."""
        self.end_pfn = len(vaddrs) * pages_per_piece
        """One past the last pfn that has a struct page, or should."""

    @property
    def describes_pages(self) -> bool:
        """Whether there is any struct page at all."""
        return any(self._vaddrs)

    def within(self, first_pfn: int, end_pfn: int) -> Iterator[MemMapPiece]:
        """The pieces that have a pfn in ``[first_pfn, end_pfn)``, whole, in pfn order."""
        n = self._pages_per_piece
        for i in range(first_pfn // n, min(-(-end_pfn // n), len(self._vaddrs))):
            if self._vaddrs[i]:
                yield MemMapPiece(i * n, (i + 1) * n, self._vaddrs[i], i not in self._offline)

    def __iter__(self) -> Iterator[MemMapPiece]:
        return self.within(0, self.end_pfn)


def find_mem_map(
    facts: Facts,
    space: AddressSpace,
    max_pfn: int,
    page_shift: int,
    levels: int,
    only_system_ram: bool,
) -> MemMap:
    """Locate the struct pages of all pfns below ``max_pfn``.

    :param only_system_ram: no memory of devices is among those pfns. Such memory is not online
        either, so that otherwise only memory there since boot is known to be offline.

    :raises MissingFactError: the description names no memory model, or not where it starts.
    :raises FaultError: the tables that lead to mem_map cannot be read.
    """
    struct_page_size = facts.size("page")
    if facts.find_symbol("mem_section") is not None:
        sparse = _Sparse(facts, space, max_pfn, page_shift, levels, only_system_ram)
        return sparse.find(struct_page_size)
    mem_map = facts.find_symbol("mem_map")
    if mem_map is None:
        raise MissingFactError(
            "SYMBOL(mem_section) or SYMBOL(mem_map)", facts.looked_in,
            "the kernel's memory model is not SPARSEMEM or FLATMEM; -d 0 and -d 1 still work",
        )  # fmt: skip
    return MemMap(array("Q", [space.read_u64(mem_map)]), max_pfn, struct_page_size, "FLATMEM")


class _Sparse:
    """The walk from ``mem_section`` to every section's mem_map."""

    def __init__(
        self,
        facts: Facts,
        space: AddressSpace,
        max_pfn: int,
        page_shift: int,
        levels: int,
        only_system_ram: bool,
    ) -> None:
        self._space = space
        self._only_system_ram = only_system_ram
        section_bits = facts.within("NUMBER(SECTION_SIZE_BITS)", 20, 40) or _SECTION_SIZE_BITS
        physmem_bits = (
            facts.within("NUMBER(MAX_PHYSMEM_BITS)", section_bits, 64) or _MAX_PHYSMEM_BITS[levels]
        )
        self._pages_per_section = 1 << (section_bits - page_shift)
        self._n_sections = -(-max_pfn // self._pages_per_section)
        self._record_size = facts.size("mem_section")
        facts.within("SIZE(mem_section)", _U64.size, 1 << page_shift)
        self._word_off = facts.offset("mem_section", "section_mem_map")
        facts.within("OFFSET(mem_section.section_mem_map)", 0, self._record_size - _U64.size)
        self._per_root = (1 << page_shift) // self._record_size
        self._table_vaddr = facts.symbol("mem_section")
        n_roots = -(-(1 << (physmem_bits - section_bits)) // self._per_root)
        length = facts.length("mem_section")
        self._extreme = length is None or length == n_roots

    def find(self, struct_page_size: int) -> MemMap:
        """Decode the table the symbol names; if it holds no mem_map at all, what it points to.

        The kernel's own note gives the address of the array. A description made from debug
        information gives that of the pointer to it, since mem_section became one in Linux 4.15
        (83e3c48729d9).
        """
        mem_map = self._decode(self._table_vaddr, struct_page_size)
        if not mem_map.describes_pages and self._extreme:
            pointed_to = self._space.read_u64(self._table_vaddr)
            if self._space.is_kernel(pointed_to):
                mem_map = self._decode(pointed_to, struct_page_size)
        if not mem_map.describes_pages:
            raise FaultError(
                self._table_vaddr, "virtual", "should hold mem_section, but no section there has a "
                "mem_map; the core's page tables or VMCOREINFO do not fit its memory",
            )  # fmt: skip
        return mem_map

    def _decode(self, table_vaddr: int, struct_page_size: int) -> MemMap:
        vaddrs = array("Q")
        bad = 0
        offline: set[int] = set()
        marks_online = False
        for section, word in self._section_words(table_vaddr):
            if word is not None and not word & _SECTION_PRESENT:
                continue
            vaddrs.extend(repeat(0, section - len(vaddrs)))
            vaddr = self._mem_map_vaddr(section, word, struct_page_size)
            if word is None or not self._space.is_kernel(vaddr):
                vaddrs.append(0)
                bad += 1
                continue
            vaddrs.append(vaddr)
            marks_online |= bool(word & _SECTION_ONLINE)
            if not word & (_SECTION_ONLINE | _SECTION_ZONE_DEVICE) and (
                self._only_system_ram or word & _SECTION_EARLY
            ):
                offline.add(section)
        # A kernel without a single section online is one that does not mark them.
        return MemMap(
            vaddrs, self._pages_per_section, struct_page_size,
            "SPARSEMEM_EXTREME" if self._extreme else "SPARSEMEM",
            bad, frozenset(offline if marks_online else ()),
        )  # fmt: skip

    def _mem_map_vaddr(self, section: int, word: Optional[int], struct_page_size: int) -> int:
        """What a section's word says, which is the address pfn 0's struct page would have."""
        first_pfn = section * self._pages_per_section
        return ((word or 0) & ~_SECTION_FLAGS) + first_pfn * struct_page_size & (1 << 64) - 1

    def _section_words(self, table_vaddr: int) -> Iterator[tuple[int, Optional[int]]]:
        """Number and ``section_mem_map`` of every section there may be; None: it cannot be read."""
        for first in range(0, self._n_sections, self._per_root):
            n = min(self._per_root, self._n_sections - first)
            records_vaddr = table_vaddr + first * self._record_size
            try:
                if self._extreme:
                    root_vaddr = table_vaddr + first // self._per_root * _U64.size
                    records_vaddr = self._space.read_u64(root_vaddr)
                    if records_vaddr == 0:
                        continue
                records = self._space.read(records_vaddr, n * self._record_size)
            except FaultError:
                yield from ((first + i, None) for i in range(n))
                continue
            for i in range(n):
                (word,) = _U64.unpack_from(records, i * self._record_size + self._word_off)
                yield first + i, word
