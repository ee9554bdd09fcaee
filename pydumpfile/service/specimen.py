# SPDX-License-Identifier: GPL-2.0-or-later
"""A crashed machine of 4 MiB that never was: what a rehearsal dumps.

    pfn    0 ...   15   the kernel's own: page tables, mem_section, uts_namespace, the log
    pfn   16 ...  511   see ``_KINDS``
    pfn  512 ...  527   mem_map, which the page tables map as vmemmap
    pfn  528 ... 1023   kernel data: text, zeros and noise in turn

It has just what a dump of level 31 looks at, in the form of Linux 6.1: an ELF header, VMCOREINFO,
x86_64 page tables, one section of SPARSEMEM_VMEMMAP and the struct pages in it.
"""

from __future__ import annotations

import os
from random import Random
from struct import Struct
from typing import NamedTuple

from pydumpfile.filter.level import Kind
from pydumpfile.formats import elf

MACHINE = "x86_64"
PAGE_SIZE = 4096
N_PAGES = 1024
RELEASE = "6.1.0-rehearsal"
LOG_LINE = "Kernel panic - not syncing: rehearsal"

_START_KERNEL_MAP = 0xFFFFFFFF80000000
MAPPED_VADDR = _START_KERNEL_MAP
"""A virtual address that its page tables map."""
_DIRECT_MAP = 0xFFFF888000000000
_VMEMMAP = 0xFFFFEA0000000000
_SECTION_SIZE_BITS = 22
_ROOT, _IMAGE_PUD, _IMAGE_PMD, _VMEMMAP_PUD, _VMEMMAP_PMD = range(0x1000, 0x6000, 0x1000)
_SECTION_ROOTS, _SECTIONS, _UTS, _LOG = range(0x6000, 0xA000, 0x1000)
_LOG_BUF = 0xA000
_MEM_MAP = 512 * PAGE_SIZE
_TABLE_ENTRY, _LARGE_PAGE = 0x63, 0xE3  # present, writable, accessed, dirty; and PSE
_SECTION_HERE = 0b1111  # present, has a mem_map, online, early

_STRUCT_PAGE_SIZE = 64
_FLAGS, _LRU, _MAPPING, _PRIVATE, _MAPCOUNT, _REFCOUNT = 0, 8, 24, 40, 48, 52
_PG_LRU, _PG_PRIVATE, _PG_SWAPCACHE, _PG_SLAB, _PG_HEAD, _PG_SWAPBACKED = 4, 13, 10, 9, 16, 19
_BUDDY = ~0x80
_NO_MAPPING, _A_FILE, _ANON = 0, 0xFFFF888000100000, 0xFFFF888000200001
_U64 = Struct("<Q")
_MAPCOUNT_FIELD = Struct("<i")


class _Run(NamedTuple):
    """Pages ``[first_pfn, end_pfn)`` that are one kind of thing."""

    first_pfn: int
    end_pfn: int
    kind: Kind
    flags: int
    mapping: int


_KINDS = (
    _Run(64, 128, Kind.USER, 1 << _PG_LRU | 1 << _PG_SWAPBACKED, _ANON),
    _Run(128, 192, Kind.CACHE, 1 << _PG_LRU, _A_FILE),
    _Run(192, 256, Kind.CACHE_PRIVATE, 1 << _PG_LRU | 1 << _PG_PRIVATE, _A_FILE),
    _Run(256, 512, Kind.FREE, 0, _NO_MAPPING),
)
_FREE_ORDER = 8

LEFT_OUT = {run.kind: run.end_pfn - run.first_pfn for run in _KINDS}
"""Pages that level 31 leaves out, of each kind."""


def kept_bitmap() -> bytes:
    """The 2nd bitmap of a dump of level 31, its first ``N_PAGES`` bits."""
    bits = (1 << N_PAGES) - 1
    for run in _KINDS:
        bits &= ~((1 << run.end_pfn) - (1 << run.first_pfn))
    return bits.to_bytes(N_PAGES // 8, "little")


def write(path: str) -> None:
    """Write the core of this machine to the new file ``path``, 4 MiB and a little."""
    vmcoreinfo = "".join(f"{key}={value}\n" for key, value in _vmcoreinfo().items()).encode()
    notes = _note(b"CORE", elf.NT_PRSTATUS, bytes(336)) + _note(b"VMCOREINFO", 0, vmcoreinfo)
    memory = _memory()
    loads_off = 2 * PAGE_SIZE
    assert len(notes) <= PAGE_SIZE
    header = elf.EHDR.pack(
        elf.ELFMAG + bytes((elf.ELFCLASS64, elf.ELFDATA2LSB, 1)) + bytes(9), elf.ET_CORE, 62, 1,
        0, elf.EHDR.size, 0, 0, elf.EHDR.size, elf.PHDR.size, 2, 0, 0, 0,
    )  # fmt: skip
    size = len(memory)
    header += elf.PHDR.pack(elf.PT_NOTE, 0, PAGE_SIZE, 0, 0, len(notes), len(notes), 0)
    header += elf.PHDR.pack(elf.PT_LOAD, 7, loads_off, _DIRECT_MAP, 0, size, size, 0)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(header.ljust(PAGE_SIZE, b"\0") + notes.ljust(PAGE_SIZE, b"\0"))
        file.write(memory)


def _vmcoreinfo() -> dict[str, object]:
    """What kernel/crash_core.c of Linux 6.1 says, as far as it matters here."""
    return {
        "OSRELEASE": RELEASE,
        "PAGESIZE": PAGE_SIZE,
        "SYMBOL(init_uts_ns)": f"{_START_KERNEL_MAP + _UTS:x}",
        "OFFSET(uts_namespace.name)": 4,
        "SYMBOL(init_top_pgt)": f"{_START_KERNEL_MAP + _ROOT:x}",
        "SYMBOL(mem_section)": f"{_START_KERNEL_MAP + _SECTION_ROOTS:x}",
        "SIZE(mem_section)": 16,
        "OFFSET(mem_section.section_mem_map)": 0,
        "NUMBER(SECTION_SIZE_BITS)": _SECTION_SIZE_BITS,
        "NUMBER(MAX_PHYSMEM_BITS)": 46,
        "NUMBER(phys_base)": 0,
        "SIZE(page)": _STRUCT_PAGE_SIZE,
        "OFFSET(page.flags)": _FLAGS,
        "OFFSET(page._refcount)": _REFCOUNT,
        "OFFSET(page.mapping)": _MAPPING,
        "OFFSET(page.lru)": _LRU,
        "OFFSET(page._mapcount)": _MAPCOUNT,
        "OFFSET(page.private)": _PRIVATE,
        "OFFSET(page.compound_head)": _LRU,
        "OFFSET(page.compound_dtor)": _LRU + 8,
        "OFFSET(page.compound_order)": _LRU + 9,
        "NUMBER(PG_lru)": _PG_LRU,
        "NUMBER(PG_private)": _PG_PRIVATE,
        "NUMBER(PG_swapcache)": _PG_SWAPCACHE,
        "NUMBER(PG_swapbacked)": _PG_SWAPBACKED,
        "NUMBER(PG_slab)": _PG_SLAB,
        "NUMBER(PG_head_mask)": 1 << _PG_HEAD,
        "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)": _BUDDY,
        "NUMBER(HUGETLB_PAGE_DTOR)": 2,
        "LENGTH(zone.free_area)": 11,
        "SYMBOL(log_buf)": f"{_START_KERNEL_MAP + _LOG:x}",
        "SYMBOL(log_end)": f"{_START_KERNEL_MAP + _LOG + 8:x}",
        "SYMBOL(log_buf_len)": f"{_START_KERNEL_MAP + _LOG + 16:x}",
        "SYMBOL(logged_chars)": f"{_START_KERNEL_MAP + _LOG + 24:x}",
        "CRASHTIME": 1700000000,
    }


def _memory() -> bytearray:
    memory = bytearray(N_PAGES * PAGE_SIZE)
    for pfn in range(16, N_PAGES):
        if not _MEM_MAP <= pfn * PAGE_SIZE < _MEM_MAP + N_PAGES * _STRUCT_PAGE_SIZE:
            memory[pfn * PAGE_SIZE : (pfn + 1) * PAGE_SIZE] = _content(pfn)
    _map(memory, _START_KERNEL_MAP, (_IMAGE_PUD, _IMAGE_PMD), 0)
    _map(memory, _VMEMMAP, (_VMEMMAP_PUD, _VMEMMAP_PMD), _MEM_MAP)
    _U64.pack_into(memory, _SECTION_ROOTS, _START_KERNEL_MAP + _SECTIONS)
    _U64.pack_into(memory, _SECTIONS, _VMEMMAP | _SECTION_HERE)
    names = ("Linux", "rehearsal", RELEASE, "#1", MACHINE, "(none)")
    memory[_UTS + 4 : _UTS + 4 + 6 * 65] = b"".join(s.encode().ljust(65, b"\0") for s in names)
    log = f"<0>[    1.000000] {LOG_LINE}\n".encode()
    for i, value in enumerate((_START_KERNEL_MAP + _LOG_BUF, len(log), PAGE_SIZE, len(log))):
        _U64.pack_into(memory, _LOG + 8 * i, value)
    memory[_LOG_BUF : _LOG_BUF + len(log)] = log
    for pfn in range(N_PAGES):
        _MAPCOUNT_FIELD.pack_into(memory, _struct_page(pfn) + _MAPCOUNT, -1)
    for run in _KINDS:
        for pfn in range(run.first_pfn, run.end_pfn):
            _U64.pack_into(memory, _struct_page(pfn) + _FLAGS, run.flags)
            _U64.pack_into(memory, _struct_page(pfn) + _MAPPING, run.mapping)
        if run.kind is Kind.FREE:
            for pfn in range(run.first_pfn, run.end_pfn, 1 << _FREE_ORDER):
                _MAPCOUNT_FIELD.pack_into(memory, _struct_page(pfn) + _MAPCOUNT, _BUDDY)
                _U64.pack_into(memory, _struct_page(pfn) + _PRIVATE, _FREE_ORDER)
    return memory


def _struct_page(pfn: int) -> int:
    """Physical address of the struct page of ``pfn``."""
    return _MEM_MAP + pfn * _STRUCT_PAGE_SIZE


def _content(pfn: int) -> bytes:
    """Zeros, text, or something that no codec makes smaller."""
    if pfn % 3 == 0:
        return bytes(PAGE_SIZE)
    if pfn % 3 == 1:
        return (b"page %04d of the rehearsal; " % pfn * 152)[:PAGE_SIZE]
    return Random(pfn).randbytes(PAGE_SIZE)  # noqa: S311  the same at every rehearsal


def _map(memory: bytearray, vaddr: int, tables: tuple[int, int], paddr: int) -> None:
    """Map the 2 MiB at ``vaddr`` to ``paddr`` through the root and two ``tables`` of its own."""
    entries = (tables[0] | _TABLE_ENTRY, tables[1] | _TABLE_ENTRY, paddr | _LARGE_PAGE)
    for table, shift, entry in zip((_ROOT, *tables), (39, 30, 21), entries):
        _U64.pack_into(memory, table + (vaddr >> shift & 0x1FF) * 8, entry)


def _note(name: bytes, note_type: int, desc: bytes) -> bytes:
    """One ELF note, padded to 4 bytes."""
    header = Struct("<III").pack(len(name) + 1, len(desc), note_type)
    return header + name + bytes(4 - len(name) % 4) + desc + bytes(-len(desc) % 4)
