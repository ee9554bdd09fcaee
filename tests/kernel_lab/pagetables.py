# SPDX-License-Identifier: GPL-2.0-or-later
"""What a crash kernel maps: its page-table dump, its boot messages, and whether the two agree.

A content hash cannot see a hole in the mapping, since reads of it fall back to ioremap; the dump of
the page tables (debugfs page_tables/kernel, CONFIG_PTDUMP_DEBUGFS) can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_UNITS = {"pte": "4k", "pmd": "2M", "pud": "1G"}
# The crash kernel maps the first MiB for itself, whatever it is given (init_mem_mapping()).
_LOW_END_PADDR = 1 << 20


@dataclass(frozen=True)
class Range:
    """Physical memory, half-open."""

    start_paddr: int
    end_paddr: int

    def __str__(self) -> str:
        return f"[{self.start_paddr:#x}-{self.end_paddr:#x})"


@dataclass(frozen=True)
class Mapping:
    """A run of the direct mapping with the same attributes, as physical addresses."""

    start_paddr: int
    end_paddr: int
    writable: bool
    executable: bool
    page: str  # "4k", "2M", "1G"


def parse_direct_map(dump: str, page_offset: int, vmalloc_start: int) -> list[Mapping]:
    """What the dump shows as present between PAGE_OFFSET and VMALLOC_START, in order."""
    found = []
    for match in re.finditer(r"^(0x[0-9a-f]{16})-(0x[0-9a-f]{16})\s+\S+ (.*)$", dump, re.M):
        start, end = int(match.group(1), 16), int(match.group(2), 16)
        attributes = match.group(3).split()
        if not page_offset <= start < vmalloc_start or not {"RW", "ro"} & set(attributes):
            continue
        found.append(
            Mapping(
                start - page_offset,
                end - page_offset,
                "RW" in attributes,
                "x" in attributes,
                _UNITS[attributes[-1]],
            )
        )
    return found


def module_addresses(dmesg: str) -> tuple[int, int]:
    """(PAGE_OFFSET, VMALLOC_START), as the lab's module says."""
    match = re.search(r"PAGE_OFFSET=(0x[0-9a-f]+) VMALLOC_START=(0x[0-9a-f]+)", dmesg)
    if not match:
        raise ValueError("the lab's module did not say where the direct mapping is")
    return int(match.group(1), 16), int(match.group(2), 16)


def oldmem_ranges(dmesg: str) -> list[Range]:
    """The ranges the dump consists of, from `vmcore: [oldmem ...]`."""
    return _message_ranges(dmesg, r"vmcore: \[oldmem (0x\w+)-(0x\w+)\]$")


def direct_ranges(dmesg: str) -> list[Range]:
    """What the kernel says it reads through the direct mapping; the last word on each range."""
    found = _message_ranges(dmesg, r"vmcore: \[oldmem (0x\w+)-(0x\w+)\] in the direct mapping$")
    longest = {found_range.start_paddr: found_range for found_range in found}
    return [longest[start] for start in sorted(longest)]


def own_memory(dmesg: str) -> list[Range]:
    """The crash kernel's own RAM, which it maps writable."""
    return _message_ranges(dmesg, r"BIOS-e820: \[mem (0x\w+)-(0x\w+)\] usable$")


def table_costs(dmesg: str) -> list[tuple[int, int]]:
    """(KiB of page tables, microseconds) of each mapping."""
    found = re.findall(r"vmcore:  (\d+) KiB of page tables, (\d+) us$", dmesg, re.M)
    return [(int(kib), int(us)) for kib, us in found]


def page_sizes(dmesg: str) -> dict[str, int]:
    """Bytes that the kernel says are mapped with each page size; its last word on each address."""
    pattern = r"vmcore:  \[oldmem (0x\w+)-(0x\w+)\] page (\w+)$"
    runs = {int(start, 16): (last, page) for start, last, page in re.findall(pattern, dmesg, re.M)}
    sizes: dict[str, int] = {}
    for start, (last, page) in runs.items():
        sizes[page] = sizes.get(page, 0) + int(last, 16) + 1 - start
    return sizes


def faults(wanted: Sequence[Range], mappings: Sequence[Mapping], own: Sequence[Range]) -> list[str]:
    """What is wrong with the mapping of `wanted`: holes, and what is writable or executable.

    Writable is what the crash kernel had mapped for itself before: its own RAM, the first MiB.
    """
    found = []
    may_be_writable = [Range(0, _LOW_END_PADDR), *own]
    for one in wanted:
        paddr = one.start_paddr
        for mapping in mappings:
            if mapping.end_paddr <= paddr or mapping.start_paddr >= one.end_paddr:
                continue
            if mapping.start_paddr > paddr:
                break
            piece = Range(paddr, min(mapping.end_paddr, one.end_paddr))
            if mapping.executable:
                found.append(f"{piece} is executable")
            if mapping.writable and not any(_contains(outer, piece) for outer in may_be_writable):
                found.append(f"{piece} is writable")
            paddr = piece.end_paddr
        if paddr < one.end_paddr:
            found.append(f"{one} has a hole at {paddr:#x}")
    return found


def mapped_bytes(wanted: Sequence[Range], mappings: Sequence[Mapping]) -> int:
    """How much of `wanted` is mapped at all."""
    return sum(
        max(
            0,
            min(one.end_paddr, mapping.end_paddr) - max(one.start_paddr, mapping.start_paddr),
        )
        for one in wanted
        for mapping in mappings
    )


def _contains(outer: Range, inner: Range) -> bool:
    return outer.start_paddr <= inner.start_paddr and inner.end_paddr <= outer.end_paddr


def _message_ranges(dmesg: str, pattern: str) -> list[Range]:
    found = re.findall(pattern, dmesg, re.M)
    return [Range(int(start, 16), int(last, 16) + 1) for start, last in found]
