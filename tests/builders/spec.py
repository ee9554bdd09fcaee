# SPDX-License-Identifier: GPL-2.0-or-later
"""What a synthetic core should be like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional, Union

MIB = 1 << 20


@dataclass(frozen=True)
class CoreSpec:
    """Every knob of `build_core`; the defaults give an ordinary 256 MiB machine.

    :ivar layout: name in LAYOUTS (or ODD_LAYOUTS).
    :ivar levels: page-table levels, 4 or 5.
    :ivar model: "extreme" or "classic" SPARSEMEM, or "flatmem".
    :ivar vmemmap: struct pages at vmemmap + pfn * SIZE(page); else in the direct map, one piece a
        section (always so with "flatmem").
    :ivar vmemmap_page_size: 2 MiB or 4 KiB pages map the vmemmap area.
    :ivar memory_size: end of memory when `memory` is not given.
    :ivar memory: (paddr, size) of each piece of RAM in the core, ascending, not overlapping.
    :ivar missing_sections: section numbers without mem_map; their pages must be kept.
    :ivar section_flags: low bits set in every present section_mem_map (0x3f at most).
    :ivar mem_section_size: SIZE(mem_section), 16 or 32; None takes the layout's.
    :ivar image_paddr: where the kernel image is loaded (2 MiB aligned); gives phys_base. None: at
        16 MiB if RAM is there, so that phys_base is -kaslr_offset.
    :ivar kaslr_offset: KERNELOFFSET, added to every image symbol.
    :ivar randomize_memory: shift the direct map and vmemmap as CONFIG_RANDOMIZE_MEMORY does.
    :ivar sme_mask: encryption bit set in page-table entries and exported, usually 1 << 47.
    :ivar max_physmem_bits: None gives 46 with 4 levels, 52 with 5.
    :ivar split_loads: about how many PT_LOADs the memory is cut into, at random pages; 0xffff and
        more need PN_XNUM.
    :ivar split_inside_pages: these cuts may be in the middle of a page.
    :ivar overlap_image: a PT_LOAD at __START_KERNEL_map in front, over the image's RAM.
    :ivar shuffle_loads: random file order of PT_LOADs.
    :ivar zero_vaddr: every p_vaddr is 0, as in QEMU's dump-guest-memory.
    :ivar no_data: (paddr, size) in p_memsz but not in p_filesz of a PT_LOAD; page-aligned.
    :ivar unaligned: file offsets of segments are not page-aligned.
    :ivar note: False leaves out VMCOREINFO.
    :ivar drop_keys: VMCOREINFO lines to omit, as "OFFSET(page.private)".
    :ivar extra_keys: VMCOREINFO lines to add or to override, values as text or number.
    :ivar crashtime_newline: the last line, CRASHTIME, ends with a newline.
    :ivar hwpoison: the kernel has CONFIG_MEMORY_FAILURE.
    :ivar freelists: drop PAGE_BUDDY_MAPCOUNT_VALUE, so that only the free lists (which are always
        in memory) tell what is free.
    :ivar broken_list: the first node of the longest free list has a bad prev link. Pages of that
        list are to be kept.
    :ivar bad_orders: some free blocks have an impossible order, of which one is warned.
    :ivar unreadable: (first_pfn, count, how) of struct pages that cannot be read, multiples of 512;
        how is "unmapped" (no page-table entry) or "no_pt_load" (mapped to absent memory).
    :ivar garbage: random words in struct pages instead of a plausible population.
    :ivar hvo: hugetlb pages may have optimised vmemmap (fake heads where the release has them).
    :ivar gigantic: put a 1 GiB hugetlb page on every free aligned GiB but the kernel's.
    :ivar filled: share of pages that have content; the others are zero and sparse in the file.
    :ivar uts_name_off: OFFSET(uts_namespace.name).
    """

    layout: str = "6.12"
    levels: int = 4
    model: str = "extreme"
    vmemmap: bool = True
    vmemmap_page_size: int = 2 * MIB
    memory_size: int = 256 * MIB
    memory: Optional[tuple[tuple[int, int], ...]] = None
    missing_sections: tuple[int, ...] = ()
    section_flags: int = 0x0F
    mem_section_size: Optional[int] = None
    image_paddr: Optional[int] = None
    kaslr_offset: int = 0
    randomize_memory: bool = False
    sme_mask: int = 0
    max_physmem_bits: Optional[int] = None
    split_loads: int = 1
    split_inside_pages: bool = False
    overlap_image: bool = True
    shuffle_loads: bool = False
    zero_vaddr: bool = False
    no_data: tuple[tuple[int, int], ...] = ()
    unaligned: bool = False
    note: bool = True
    drop_keys: tuple[str, ...] = ()
    extra_keys: Mapping[str, Union[int, str]] = field(default_factory=dict)
    crashtime_newline: bool = True
    hwpoison: bool = True
    freelists: bool = False
    broken_list: bool = False
    bad_orders: bool = True
    unreadable: tuple[tuple[int, int, str], ...] = ()
    garbage: bool = False
    hvo: bool = True
    gigantic: bool = False
    filled: float = 0.05
    n_cpus: int = 2
    uts_name_off: int = 4
    seed: int = 1

    def ram(self) -> tuple[tuple[int, int], ...]:
        """The pieces of RAM as (paddr, size)."""
        if self.memory is not None:
            return self.memory
        # Low memory of a PC ends within a page, and a hole follows up to 1 MiB.
        return ((0x1000, 0x9EC00), (MIB, self.memory_size - MIB))
