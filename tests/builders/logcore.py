# SPDX-License-Identifier: GPL-2.0-or-later
"""The least core that has a kernel log: page tables, VMCOREINFO, and the log on scattered pages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from random import Random
from typing import Union

from .elfcore import NT_PRSTATUS, Load, note, prstatus, write_core
from .layouts import LAYOUTS
from .pagetables import PageTables
from .physmem import PAGE_SIZE, Allocator, PhysicalMemory, round_up
from .printk import Image, Place
from .vmcoreinfo import CRASHTIME, Value, page_keys, render

MIB = 1 << 20
_PAGE_OFFSET = 0xFFFF888000000000
_IMAGE_VADDR = 0xFFFFFFFF81000000
_IMAGE_PADDR = 16 * MIB
_UTS_NS_OFF, _MEM_MAP_OFF, _VARIABLES_OFF = 0x1000, 0x2000, 0x5000
# In the vmalloc area, where neighbours need not be neighbours in memory.
_STRETCH_SIZE = 64 * MIB
_STRETCHES = 0xFFFFC90000000000
PLACE = Place(
    _IMAGE_VADDR + _VARIABLES_OFF,
    _STRETCHES + 0x340,
    _STRETCHES + _STRETCH_SIZE + 0x128,
    _STRETCHES + 2 * _STRETCH_SIZE + 0x7F8,
)


def build_log_core(
    path: Union[str, os.PathLike[str]],
    image: Image,
    *,
    release: str = "6.1.0",
    changes: Mapping[str, Union[Value, None]] = {},
    unmapped: Iterable[int] = (),
) -> None:
    """Write a core with the log of `image`, which was made for PLACE.

    :param release: which makedumpfile, unlike others, goes by.
    :param changes: lines of VMCOREINFO to change; None takes a line away.
    :param unmapped: virtual addresses whose page is not there.
    """
    memory = PhysicalMemory()
    allocator = Allocator(_IMAGE_PADDR + 2 * MIB, 48 * MIB)
    tables = PageTables(memory, 4, _IMAGE_PADDR, lambda: allocator.allocate(PAGE_SIZE))
    tables.map(_IMAGE_VADDR, _IMAGE_PADDR, 21)
    tables.map_range(_PAGE_OFFSET, 0, 64 * MIB)
    vpages = sorted(
        {
            vaddr & -PAGE_SIZE
            for start, content in image.pieces
            if start < _IMAGE_VADDR
            for vaddr in range(start & -PAGE_SIZE, start + len(content), PAGE_SIZE)
        }
    )
    paddr = 48 * MIB
    frames = [paddr + i * PAGE_SIZE for i in range(len(vpages))]
    Random(len(vpages)).shuffle(frames)
    pages = dict(zip(vpages, frames))
    gone = {vaddr & -PAGE_SIZE for vaddr in unmapped}
    for vpage, frame in pages.items():
        if vpage not in gone:
            tables.map(vpage, frame, 12)
    for start, content in image.pieces:
        if start >= _IMAGE_VADDR:
            memory.write(start - _IMAGE_VADDR + _IMAGE_PADDR, content)
            continue
        done = 0
        while done < len(content):
            vaddr = start + done
            size = PAGE_SIZE - vaddr % PAGE_SIZE
            where = pages[vaddr & -PAGE_SIZE] + vaddr % PAGE_SIZE
            memory.write(where, content[done : done + size])
            done += size
    memory.write_word(_IMAGE_PADDR + _MEM_MAP_OFF, _PAGE_OFFSET + _IMAGE_PADDR)
    memory.write(_IMAGE_PADDR + _UTS_NS_OFF + 4 + 2 * 65, release.encode())

    keys: dict[str, Value] = {
        "OSRELEASE": release,
        "PAGESIZE": PAGE_SIZE,
        "SYMBOL(init_uts_ns)": f"{_IMAGE_VADDR + _UTS_NS_OFF:x}",
        "OFFSET(uts_namespace.name)": 4,
        "SYMBOL(swapper_pg_dir)": f"{_IMAGE_VADDR:x}",
        "SYMBOL(_stext)": f"{_IMAGE_VADDR:x}",
        # makedumpfile wants to know where mem_map is, although it does not look there.
        "SYMBOL(mem_map)": f"{_IMAGE_VADDR + _MEM_MAP_OFF:x}",
        "SYMBOL(contig_page_data)": f"{_IMAGE_VADDR + _MEM_MAP_OFF:x}",
        **page_keys(LAYOUTS["6.1"], True),
        **image.keys,
        "NUMBER(phys_base)": 0,
        "SYMBOL(init_top_pgt)": f"{_IMAGE_VADDR:x}",
        "NUMBER(pgtable_l5_enabled)": 0,
        "KERNELOFFSET": "0",
        "NUMBER(KERNEL_IMAGE_SIZE)": 1 << 30,
        "CRASHTIME": CRASHTIME,
    }
    for key, value in changes.items():
        keys.pop(key, None)
        if value is not None:
            keys[key] = value
    end = round_up(paddr + len(vpages) * PAGE_SIZE, MIB) + MIB
    loads = [
        Load(_IMAGE_VADDR, _IMAGE_PADDR, 2 * MIB, 2 * MIB),
        Load(_PAGE_OFFSET + MIB, MIB, end - MIB, end - MIB),
    ]
    notes = note("CORE", NT_PRSTATUS, prstatus(1, [0])) + note(
        "VMCOREINFO", 0, render(keys, True).encode()
    )
    write_core(path, memory, loads, notes)
