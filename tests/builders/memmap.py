# SPDX-License-Identifier: GPL-2.0-or-later
"""Where struct pages live: the three memory models, with or without a vmemmap area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Union

from .layouts import Layout
from .physmem import PAGE_SHIFT, PAGE_SIZE, Allocator, PhysicalMemory, round_up
from .spec import CoreSpec
from .structpage import WORD_MASK

SECTION_SIZE_BITS = 27
PAGES_PER_SECTION = 1 << (SECTION_SIZE_BITS - PAGE_SHIFT)
GROUP_PAGES = 512  # the unit in which struct pages are read
SECTION_PRESENT = 1
_SECTION_FLAGS = 0x3F
_ABSENT_GAP = 1 << 30  # absent memory starts this far behind the last byte of RAM


def present_sections(spec: CoreSpec) -> list[int]:
    """Numbers of the sections that have RAM and are not in `missing_sections`."""
    numbers: set[int] = set()
    for paddr, size in spec.ram():
        last = (paddr + size - 1) >> SECTION_SIZE_BITS
        numbers.update(range(paddr >> SECTION_SIZE_BITS, last + 1))
    return sorted(numbers - set(spec.missing_sections))


class MemMap:
    """Places the struct pages of every range in physical memory.

    :ivar ranges: half-open pfn ranges with a mem_map of their own, ascending: the present sections,
        or all of memory with "flatmem".
    :ivar unmapped: pfns of the direct map that must not get a page-table entry.
    :ivar absent: (paddr, size) outside of RAM that the direct map has to cover.
    :ivar mappings: (vaddr, paddr, shift) of the vmemmap area.
    """

    def __init__(
        self,
        spec: CoreSpec,
        layout: Layout,
        memory: PhysicalMemory,
        allocator: Allocator,
        *,
        page_offset: int,
        vmemmap: int,
    ) -> None:
        self._layout = layout
        self._memory = memory
        self._allocator = allocator
        self._page_offset = page_offset
        self._vmemmap = vmemmap
        self._chunk_size = spec.vmemmap_page_size
        ram_end = max(paddr + size for paddr, size in spec.ram())
        self._absent = Allocator(round_up(ram_end + _ABSENT_GAP, 2 << 20), 1 << 52)
        self.unmapped: set[int] = set()
        self.absent: list[tuple[int, int]] = []
        self.mappings: list[tuple[int, int, int]] = []
        self._backing: dict[int, int] = {}
        self._bases: dict[int, int] = {}
        if spec.model == "flatmem":
            # The kernel rounds the end up to a buddy block of the highest order.
            self.ranges = [(0, round_up(ram_end, PAGE_SIZE << 10) >> PAGE_SHIFT)]
        else:
            self.ranges = [
                (number * PAGES_PER_SECTION, (number + 1) * PAGES_PER_SECTION)
                for number in present_sections(spec)
            ]
        for first_pfn, count, how in spec.unreadable:
            if first_pfn % GROUP_PAGES or count % GROUP_PAGES:
                raise ValueError(f"unreadable struct pages come in groups of {GROUP_PAGES}")
            if how not in ("unmapped", "no_pt_load"):
                raise ValueError(f"struct pages are unmapped or no_pt_load, not {how!r}")
        if spec.vmemmap and spec.model != "flatmem":
            self._place_in_vmemmap(spec.unreadable)
        else:
            self._place_in_direct_map(spec.unreadable)

    def _place_in_vmemmap(self, unreadable: Sequence[tuple[int, int, str]]) -> None:
        size, chunk_size = self._layout.size, self._chunk_size
        chunks: set[int] = set()
        for start, end in self.ranges:
            self._bases[start] = self._vmemmap + start * size
            last = (self._vmemmap + end * size - 1) // chunk_size
            chunks.update(range(self._bases[start] // chunk_size, last + 1))
        how_of: dict[int, str] = {}
        for first_pfn, count, how in unreadable:
            start_vaddr = self._vmemmap + first_pfn * size
            end_vaddr = start_vaddr + count * size
            if (start_vaddr | end_vaddr) % chunk_size:
                raise ValueError(
                    f"unreadable struct pages of pfn {first_pfn:#x} are not whole {chunk_size:#x} "
                    "byte pages of vmemmap: choose vmemmap_page_size=4096"
                )
            for chunk in range(start_vaddr // chunk_size, end_vaddr // chunk_size):
                how_of[chunk] = how
        shift = chunk_size.bit_length() - 1
        for chunk in sorted(chunks):
            chunk_how = how_of.get(chunk)
            if chunk_how == "unmapped":
                continue
            source = self._absent if chunk_how == "no_pt_load" else self._allocator
            paddr = source.allocate(chunk_size, chunk_size)
            self._backing[chunk] = paddr
            self.mappings.append((chunk * chunk_size, paddr, shift))

    def _place_in_direct_map(self, unreadable: Sequence[tuple[int, int, str]]) -> None:
        size = self._layout.size
        # The last range first, so that addresses do not ascend with the section numbers.
        for start, end in reversed(self.ranges):
            piece_size = round_up((end - start) * size, PAGE_SIZE)
            areas = [area for area in unreadable if start <= area[0] < end]
            if any(how == "no_pt_load" for _, _, how in areas):
                if [(first, count) for first, count, _ in areas] != [(start, end - start)]:
                    raise ValueError("without vmemmap, no_pt_load takes one whole section")
                paddr = self._absent.allocate(piece_size)
                self.absent.append((paddr, piece_size))
            else:
                paddr = self._allocator.allocate(piece_size)
            self._bases[start] = self._page_offset + paddr
            for first_pfn, count, how in areas:
                if how == "unmapped":
                    first = (paddr + (first_pfn - start) * size) >> PAGE_SHIFT
                    last = (paddr + (first_pfn + count - start) * size) >> PAGE_SHIFT
                    self.unmapped.update(range(first, last))

    def _range_start(self, pfn: int) -> int:
        for start, end in self.ranges:
            if start <= pfn < end:
                return start
        raise ValueError(f"pfn {pfn:#x} has no mem_map")

    def page_vaddr(self, pfn: int) -> int:
        """Address of the struct page of `pfn`."""
        start = self._range_start(pfn)
        return self._bases[start] + (pfn - start) * self._layout.size

    def base_vaddr(self, start_pfn: int) -> int:
        """Address of the first struct page of the range that starts at `start_pfn`."""
        return self._bases[start_pfn]

    def store(self, start_pfn: int, data: bytes) -> None:
        """Write the struct pages of the range that starts at `start_pfn`."""
        base = self._bases[start_pfn]
        if not self._backing:
            paddr = base - self._page_offset
            for off in range(0, len(data), PAGE_SIZE):
                # What cannot be reached by the page tables is left zero, so that a reader that
                # computes direct-map addresses comes to the same verdict.
                if (paddr + off) >> PAGE_SHIFT not in self.unmapped:
                    self._memory.write(paddr + off, data[off : off + PAGE_SIZE])
            return
        done = 0
        while done < len(data):
            chunk, off = divmod(base + done, self._chunk_size)
            piece = data[done : done + self._chunk_size - off]
            if chunk in self._backing:
                self._memory.write(self._backing[chunk] + off, piece)
            done += len(piece)


class Placement(Protocol):
    """What a section table needs to know of a mem_map."""

    ranges: list[tuple[int, int]]

    def base_vaddr(self, start_pfn: int) -> int:
        """Address of the first struct page of a range."""
        ...


class SectionTable:
    """The kernel's mem_section arrays, written to memory.

    :ivar symbol_vaddr: what the note says for SYMBOL(mem_section).
    :ivar length: LENGTH(mem_section).
    """

    def __init__(
        self,
        spec: CoreSpec,
        layout: Layout,
        memory: PhysicalMemory,
        memmap: Placement,
        *,
        allocator: Allocator,
        page_offset: int,
        static_array: tuple[int, int],
        max_physmem_bits: int,
    ) -> None:
        """:param static_array: (vaddr, paddr) reserved in the image for the "classic" model."""
        self.size = spec.mem_section_size or layout.mem_section_size
        n_sections = 1 << (max_physmem_bits - SECTION_SIZE_BITS)
        if spec.section_flags & ~_SECTION_FLAGS or not spec.section_flags & SECTION_PRESENT:
            raise ValueError("section_flags must have bit 0 and nothing above bit 5")
        if spec.model == "extreme":
            per_root = PAGE_SIZE // self.size
            self.length = -(-n_sections // per_root)
            roots_paddr = allocator.allocate(self.length * 8)
            self.symbol_vaddr = page_offset + roots_paddr
        else:
            self.length = n_sections
            self.symbol_vaddr, array_paddr = static_array
        roots: dict[int, int] = {}
        for start, _ in memmap.ranges:
            number = start // PAGES_PER_SECTION
            word = (memmap.base_vaddr(start) - start * layout.size) & WORD_MASK
            if spec.model == "extreme":
                root, index = divmod(number, per_root)
                if root not in roots:
                    roots[root] = allocator.allocate(PAGE_SIZE)
                    memory.write_word(roots_paddr + root * 8, page_offset + roots[root])
                slot_paddr = roots[root] + index * self.size
            else:
                slot_paddr = array_paddr + number * self.size
            memory.write_word(slot_paddr, word | spec.section_flags)
            memory.write_word(slot_paddr + 8, page_offset + 0x1000)  # usage: any kernel address

    def keys(self) -> dict[str, Union[int, str]]:
        """VMCOREINFO keys of SPARSEMEM."""
        return {
            "SYMBOL(mem_section)": f"{self.symbol_vaddr:x}",
            "LENGTH(mem_section)": self.length,
            "SIZE(mem_section)": self.size,
            "OFFSET(mem_section.section_mem_map)": 0,
        }
