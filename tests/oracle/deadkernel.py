# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead kernel's own data structures, read by drgn with full debugging information."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import drgn
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import (
    PageCompound,
    PageHead,
    PageHWPoison,
    PageLRU,
    PagePrivate,
    PageSlab,
    PageTail,
    compound_head,
    page_flags,
    page_to_pfn,
    pfn_to_page,
)
from drgn.helpers.linux.nodemask import for_each_online_node
from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.pid import for_each_task

from . import pfnset
from .kpageflags import Kpf

_SECTION_PRESENT, _SECTION_ONLINE = 1 << 0, 1 << 2  # include/linux/mmzone.h
_HUGE_ORDER = 9
_MAX_ORDER = 10
_ANONYMOUS = 1  # of page->mapping


def open_program(core: Path, vmlinux: Path) -> drgn.Program:
    """A core or dump with its debugging information."""
    program = drgn.Program()
    program.set_core_dump(str(core))
    program.load_debug_info([str(vmlinux)])
    return program


class Task(NamedTuple):
    """One thread; the first of a process has `pid == tgid`."""

    pid: int
    tgid: int
    comm: str


def tasks(program: drgn.Program) -> list[Task]:
    """All threads but the idle ones, by pid."""
    return sorted(
        Task(task.pid.value_(), task.tgid.value_(), task.comm.string_().decode())
        for task in for_each_task(program)
        if task.pid.value_()
    )


def crash_stack(program: drgn.Program) -> list[str]:
    """Names of the functions the panicking task was in, innermost first."""
    return [frame.name or "" for frame in program.crashed_thread().stack_trace()]


def free_on_cpu_lists(program: drgn.Program) -> int:
    """Set of the free pages that lie on per-CPU lists (struct per_cpu_pages, mm/page_alloc.c).

    To the page allocator they are free; neither struct page nor /proc/kpageflags says so.
    """
    free = []
    for zone in _populated_zones(program):
        for cpu in for_each_online_cpu(program):
            lists = per_cpu_ptr(zone.per_cpu_pageset, cpu).lists
            for index in range(len(lists)):
                order = _cpu_list_order(program, index)
                for page in list_for_each_entry("struct page", lists[index].address_of_(), "lru"):
                    first = page_to_pfn(page).value_()
                    free.append((first, first + (1 << order)))
    return pfnset.from_pfns(pfn for first, end in free for pfn in range(first, end))


def is_online(program: drgn.Program, pfn: int) -> bool:
    """Whether the memory section of `pfn` is online; LookupError if it is not even present."""
    section_pfns = 1 << (27 - 12)  # SECTION_SIZE_BITS of x86_64
    sections = program["mem_section"]
    per_root = 4096 // drgn.sizeof(program.type("struct mem_section"))
    root, index = divmod(pfn // section_pfns, per_root)
    word = sections[root][index].section_mem_map.value_()
    if not word & _SECTION_PRESENT:
        raise LookupError(f"no memory section for page {pfn:#x}")
    return bool(word & _SECTION_ONLINE)


def page_word(program: drgn.Program, pfn: int) -> Kpf:
    """What /proc/kpageflags would have said of a page at the very panic (stable_page_flags()).

    Only the bits that tell what a dump may do with the page, compound tails as their heads.
    """
    if not is_online(program, pfn):
        return Kpf.NOPAGE
    page = pfn_to_page(program, pfn)
    head = compound_head(page)
    swap_bits = sum(1 << program[name].value_() for name in ("PG_swapcache", "PG_swapbacked"))
    truths = {
        Kpf.LRU: PageLRU(head),
        Kpf.SLAB: PageSlab(head),
        Kpf.PRIVATE: PagePrivate(head),
        Kpf.ANON: head.mapping.value_() & _ANONYMOUS,
        Kpf.SWAPCACHE: page_flags(head).value_() & swap_bits == swap_bits,
        Kpf.HUGE: _is_hugetlb(program, head),
        Kpf.HWPOISON: PageHWPoison(page),
        Kpf.OFFLINE: _has_type(page, "PAGE_OFFLINE_MAPCOUNT_VALUE"),
        Kpf.BUDDY: _is_in_buddy_block(program, pfn),
        Kpf.COMPOUND_HEAD: PageHead(page),
        Kpf.COMPOUND_TAIL: PageTail(page),
    }
    word = Kpf(0)
    for bit, holds in truths.items():
        if holds:
            word |= bit
    return word


def _vmcoreinfo_number(program: drgn.Program, name: str) -> int | None:
    """NUMBER(name) of the kernel's own description."""
    numbers = program.cache.get(_vmcoreinfo_number)
    if numbers is None:
        text = program["VMCOREINFO"].string_().decode()
        numbers = dict(re.findall(r"^NUMBER\((\w+)\)=(-?\d+)$", text, re.M))
        program.cache[_vmcoreinfo_number] = numbers
    return int(numbers[name]) if name in numbers else None


def _has_type(page: drgn.Object, number: str) -> bool:
    """Whether page->page_type is the value the kernel exports under this name."""
    value = _vmcoreinfo_number(page.prog_, number)
    return value is not None and page.page_type.value_() == value & 0xFFFFFFFF


def _is_hugetlb(program: drgn.Program, head: drgn.Object) -> bool:
    if not PageCompound(head):
        return False
    if _vmcoreinfo_number(program, "PAGE_HUGETLB_MAPCOUNT_VALUE") is not None:
        return _has_type(head, "PAGE_HUGETLB_MAPCOUNT_VALUE")
    destructor = _vmcoreinfo_number(program, "HUGETLB_PAGE_DTOR")
    return bool(head[1].compound_dtor.value_() == destructor)


def _is_in_buddy_block(program: drgn.Program, pfn: int) -> bool:
    """Whether a free block of some order, marked on its first page, covers the page."""
    for order in range(_MAX_ORDER + 1):
        first = pfn_to_page(program, pfn & -(1 << order))
        if _has_type(first, "PAGE_BUDDY_MAPCOUNT_VALUE") and first.private.value_() >= order:
            return True
    return False


def _populated_zones(program: drgn.Program) -> list[drgn.Object]:
    nodes = [program["node_data"][nid] for nid in for_each_online_node(program)]
    zones = [node.node_zones[i] for node in nodes for i in range(node.nr_zones.value_())]
    return [zone for zone in zones if zone.present_pages]


def _cpu_list_order(program: drgn.Program, index: int) -> int:
    """Order of the blocks on list `index`: order_to_pindex() of mm/page_alloc.c, backwards.

    MIGRATE_PCPTYPES lists for each order up to PAGE_ALLOC_COSTLY_ORDER = 3, then those of the huge
    page order.
    """
    order: int = index // program["MIGRATE_PCPTYPES"].value_()
    return order if order <= 3 else _HUGE_ORDER
