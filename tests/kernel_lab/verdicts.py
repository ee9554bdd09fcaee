# SPDX-License-Identifier: GPL-2.0-or-later
"""What the console of a boot of the matrix must show: the same hashes, and the right page tables.

Each check gives what is wrong, in words; a case of the matrix names the one that is for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set

from tests.lab.errors import LabError

from .guest import DIMM_PADDR, Boot, Console
from .pagetables import (
    Mapping,
    Range,
    direct_ranges,
    faults,
    mapped_bytes,
    module_addresses,
    oldmem_ranges,
    own_memory,
    parse_direct_map,
    table_costs,
)

SMALL_WINDOW_MIB = 300
_TABLE_KIB = 4
_TABLE_ALLOCATORS = ("__pud_alloc", "__pmd_alloc", "__pte_alloc_kernel")
DIMM_MIB = 128  # a memory block: what is added at once
NOT_OLD_PADDR = DIMM_PADDR + (16 << 30)  # nothing is there
_LOW_END_PADDR = 1 << 20
_PAGE_SIZE = 4096
_TABLES_SHARE = 8
# Without KASLR (Documentation/arch/x86/x86_64/mm.rst).
_PAGE_OFFSET_4_LEVEL = 0xFFFF888000000000
_PAGE_OFFSET_5_LEVEL = 0xFF11000000000000


def printed_hashes(console: Console) -> list[tuple[str, str]]:
    """(section, digest and size) of each hash, in order."""
    found = []
    for name, text in console.sections(r"hash-\S+"):
        match = re.search(r"LAB-HASH (\w+) \w+ \d+ (\d+)", text)
        if not match:
            raise LabError(f"{name} has no hash: {text}")
        found.append((name, f"{match.group(1)} of {match.group(2)} bytes"))
    return found


def hash_errors(hashes: list[tuple[str, str]]) -> list[str]:
    if len(hashes) < 3:
        return [f"only {len(hashes)} hashes were made"]
    return [
        f"{name} is {digest}, but {hashes[0][0]} is {hashes[0][1]}"
        for name, digest in hashes
        if digest != hashes[0][1]
    ]


def layout_errors(boot: Boot, console: Console) -> list[str]:
    """Whether the crash kernel has the paging levels and the KASLR that the boot is for."""
    page_offset, _ = module_addresses(console.section("dmesg-end"))
    five_level = boot.cpu == "max"
    fixed = "nokaslr" in boot.crash_parameters
    errors = []
    if (page_offset < _PAGE_OFFSET_4_LEVEL) != five_level:
        errors.append(
            f"PAGE_OFFSET {page_offset:#x} is not that of {5 if five_level else 4} levels"
        )
    if (page_offset in (_PAGE_OFFSET_4_LEVEL, _PAGE_OFFSET_5_LEVEL)) != fixed:
        errors.append(f"KASLR is {'on' if fixed else 'off'}: PAGE_OFFSET is {page_offset:#x}")
    return errors


def low_memory_errors(boot: Boot, console: Console) -> list[str]:
    """Whether the dump has the first 640 KiB, which kexec_load() saves and kexec_file_load() drops.

    They are the range that ends within a page, and lie in the crash kernel's memory by now.
    """
    loads = re.findall(r"^LAB-LOAD (0x\w+) (0x\w+)$", console.section("headers"), re.M)
    low = [size for paddr, size in loads if int(paddr, 16) < _LOW_END_PADDR]
    if boot.kexec_file:
        return [f"kexec_file_load() has a PT_LOAD of {size} below 1 MiB" for size in low]
    if not any(int(size, 16) % _PAGE_SIZE for size in low):
        return [f"no PT_LOAD below 1 MiB ends within a page: {loads}"]
    return []


def paged_errors(console: Console) -> list[str]:
    """Whether the direct mapping is read through when it is to be, and only then."""
    n_pages = {way: int(console.section(f"paged-{way}")) for way in ("ioremap", "direct")}
    if n_pages["ioremap"] and not n_pages["direct"]:
        return []
    return [f"pages read one by one: {n_pages}"]


def _mappings(console: Console, when: str) -> list[Mapping]:
    page_offset, vmalloc_start = module_addresses(console.section("dmesg-end"))
    return parse_direct_map(console.section(f"tables-{when}"), page_offset, vmalloc_start)


def _mapping_errors(console: Console, wanted: list[Range]) -> list[str]:
    dmesg = console.section("dmesg-end")
    return faults(wanted, _mappings(console, "end"), own_memory(dmesg))


def all_mapped(pages: Set[str], never: Set[str] = frozenset()) -> Callable[[Console], list[str]]:
    """A check: every range is mapped as a whole and read so, with all `pages`, without `never`."""

    def check(console: Console) -> list[str]:
        dmesg = console.section("dmesg-end")
        wanted = oldmem_ranges(dmesg)
        errors = _mapping_errors(console, wanted) + paged_errors(console)
        if direct_ranges(dmesg) != wanted:
            errors.append(f"the kernel uses only {[str(one) for one in direct_ranges(dmesg)]}")
        got = {one.page for one in _mappings(console, "end") if not one.writable}
        if not pages <= got or got & never:
            errors.append(f"mapped with {sorted(got)}, not with {sorted(pages)}")
        return errors

    return check


def callback_matters(console: Console) -> list[str]:
    errors = all_mapped({"2M"})(console)
    if printed_hashes(console)[0][1].split()[0] in console.section("without-callback"):
        errors.append("the callback changed nothing")
    return errors


def all_mapped_above_4g(console: Console) -> list[str]:
    errors = all_mapped({"2M"})(console)
    ranges = oldmem_ranges(console.section("dmesg-end"))
    if not any(one.start_paddr >= 1 << 32 for one in ranges):
        errors.append("the machine has no memory above 4 GiB")
    return errors


def nothing_then_all(console: Console) -> list[str]:
    errors = all_mapped({"2M"})(console)
    dmesg = console.section("dmesg-start")
    if direct_ranges(dmesg):
        errors.append("mapped although it was switched off")
    ranges = oldmem_ranges(dmesg)
    own_bytes = sum(one.end_paddr - one.start_paddr for one in own_memory(dmesg)) + (1 << 20)
    if mapped_bytes(ranges, _mappings(console, "start")) > own_bytes:
        errors.append("the page tables show old memory although it was switched off")
    return errors


def mapped_up_to_window(console: Console) -> list[str]:
    """Mapped up to the window's end, nothing beyond, and no complaint."""
    dmesg = console.section("dmesg-end")
    limit = SMALL_WINDOW_MIB << 20
    inside = [
        Range(one.start_paddr, min(one.end_paddr, limit))
        for one in oldmem_ranges(dmesg)
        if one.start_paddr < limit
    ]
    beyond = [
        Range(max(one.start_paddr, limit), one.end_paddr)
        for one in oldmem_ranges(dmesg)
        if one.end_paddr > limit
    ]
    errors = _mapping_errors(console, inside)
    if mapped_bytes(beyond, _mappings(console, "end")):
        errors.append("old memory is mapped beyond the window")
    if direct_ranges(dmesg) != inside:
        errors.append(f"the kernel uses {[str(one) for one in direct_ranges(dmesg)]}")
    if not beyond:
        errors.append("the window was not too small for anything")
    return errors


def _dimm_errors(console: Console) -> list[str]:
    ranges = oldmem_ranges(console.section("dmesg-end"))
    if Range(DIMM_PADDR, DIMM_PADDR + (DIMM_MIB << 20)) in ranges:
        return []
    return ["the DIMM is not in the dump"]


def not_added_again(console: Console) -> list[str]:
    """Old memory that is mapped cannot become the crash kernel's own; other memory can."""
    errors = all_mapped({"2M"})(console) + _dimm_errors(console)
    refused = console.section(f"hot-add-{DIMM_PADDR:#x}")
    if "busy" not in refused or "added" in refused:
        errors.append(f"adding old memory: {refused}")
    other = console.section(f"hot-add-{NOT_OLD_PADDR:#x}")
    if other != "added\n":
        errors.append(f"adding other memory: {other}")
    return errors


def straddled(console: Console) -> list[str]:
    """init_memory_mapping() leaves holes; the series fills them around what is there."""
    dmesg = console.section("dmesg-end")
    paddr = int(console.section("split-paddr"))
    demo = dict(re.findall(r"demo: (.*): entry for 0x\w+: (0x\w+)", dmesg))
    errors = paged_errors(console)
    if int(demo["2 MiB mapped"], 16) == 0:
        errors.append("init_memory_mapping() did not map 2 MiB")
    if int(demo["its 2nd page mapped again, first page"], 16) != 0:
        errors.append("init_memory_mapping() left no hole before the page it was given")
    # The page it was given is writable, as init_memory_mapping() made it, the rest is not.
    for wanted in oldmem_ranges(dmesg):
        own = [*own_memory(dmesg), Range(paddr, paddr + (2 << 20))]
        errors += faults([wanted], _mappings(console, "end"), own)
    if direct_ranges(dmesg) != oldmem_ranges(dmesg):
        errors.append("not every range is read through the direct mapping")
    return errors


def each_table_failed(console: Console) -> list[str]:
    """Each open got at most one page, for one table, so that it failed at the next."""
    errors = []
    dmesg = console.section("dmesg-end")
    for function in _TABLE_ALLOCATORS:  # in the call traces of the failures
        if not re.search(rf"^\[ *[\d.]+\] +{function}\+0x", dmesg, re.M):
            errors.append(f"{function}() was not made to fail")
    costs = [kib for kib, _ in table_costs(dmesg)]
    if sum(costs) < len(_TABLE_ALLOCATORS) * _TABLE_KIB or max(costs) > _TABLE_KIB:
        errors.append(f"KiB of tables made each time: {costs}")
    errors += _dimm_errors(console)
    if direct_ranges(dmesg) != oldmem_ranges(dmesg):
        errors.append("what failed was not made up for")
    return errors + _mapping_errors(console, oldmem_ranges(dmesg))


def tables_within_budget(console: Console) -> list[str]:
    """All page tables together stay under their share; what was refused is said once."""
    start, dmesg = console.section("dmesg-start"), console.section("dmesg-end")
    used = direct_ranges(dmesg)
    errors = _mapping_errors(console, used)
    free = re.search(r"Memory: (\d+)K/\d+K available", dmesg)
    if not free:
        raise LabError("the crash kernel did not say how much memory it has")
    limit_kib = int(free.group(1)) // _TABLES_SHARE
    said_kib = sum(kib for kib, _ in table_costs(dmesg))
    # A table for each 2 MiB, and there may be more above those.
    small = [one for one in _mappings(console, "end") if one.page == "4k"]
    least_kib = (mapped_bytes(oldmem_ranges(dmesg), small) >> 21) * _TABLE_KIB
    if not 0 < least_kib <= said_kib <= limit_kib:
        errors.append(f"{least_kib} KiB of tables or more, said {said_kib}, limit {limit_kib}")
    ends = {one.start_paddr: one.end_paddr for one in oldmem_ranges(dmesg)}
    if not any(one.end_paddr < ends[one.start_paddr] for one in used):
        errors.append("no range was refused in part")
    if dmesg.count("KiB of page tables, ") - len(table_costs(dmesg)) != 1:
        errors.append("what was refused was not said once")
    if used == direct_ranges(start) and dmesg.count("vmcore:") != start.count("vmcore:"):
        errors.append("the kernel repeats itself")
    return errors
