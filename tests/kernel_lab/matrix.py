# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot matrix: machines, kernel parameters and faults; what must hold for each.

Whatever the machine, /proc/vmcore must read the same by ioremap, through the direct mapping with
blocks of several sizes, and by mmap; and the page tables must show what the kernel says it did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError

from .builder import build_image
from .guest import DIMM_PADDR, Boot, Console, run_boot
from .pagetables import (
    Mapping,
    Range,
    direct_ranges,
    faults,
    mapped_bytes,
    module_addresses,
    oldmem_ranges,
    own_memory,
    page_sizes,
    parse_direct_map,
    table_costs,
)

TEST_PATCHES = Path(__file__).parent / "patches"
SMALL_WINDOW_MIB = 300
_TABLE_KIB = 4
_TABLE_ALLOCATORS = ("__pud_alloc", "__pmd_alloc", "__pte_alloc_kernel")
_DIMM_MIB = 128  # a memory block: what is added at once
_NOT_OLD_PADDR = DIMM_PADDR + (16 << 30)  # nothing is there
# The fifth GiB is whole: the crash kernel lies below 4 GiB, wherever KASLR puts the first one.
_MEMORY_WITH_1G_MIB = 1536
# Without KASLR (Documentation/arch/x86/x86_64/mm.rst).
_PAGE_OFFSET_4_LEVEL = 0xFFFF888000000000
_PAGE_OFFSET_5_LEVEL = 0xFF11000000000000
_RAM_BELOW_4G = "max-ram-below-4g=512M"

_READ_BOTH_WAYS = """
module {arguments}
tables start
messages start
switch off
paged ioremap
hashes ioremap 65536
switch on
paged direct
hashes direct 4096 65536 1000003 4194304
hashes direct 4097
mmaps mmap 4194304
tables end
messages end
"""


@dataclass(frozen=True)
class Outcome:
    """What a boot of the matrix showed; `errors` is empty if all was as it must be."""

    name: str
    errors: list[str]
    digest: str
    n_hashes: int
    mapped: str
    tables: str


@dataclass(frozen=True)
class Case:
    """One line of the matrix: a boot and what is special about its outcome.

    check: gives what is wrong with a finished boot, besides what is checked of every boot.
    patches: names in patches/, applied on top of the series.
    """

    name: str
    boot: Boot
    check: Callable[[Console], list[str]]
    patches: tuple[str, ...] = ()


def run_case(case: Case, base: str, logs: Path) -> Outcome:
    """Build, boot and judge; LabError if the guest did not get to its end."""
    image = build_image(base, [TEST_PATCHES / name for name in case.patches])
    console = run_boot(case.boot, image, logs / f"{base}-{case.name}.log")
    return judge(case, console)


def run_first_patches(base: str, n_patches: int, logs: Path) -> list[str]:
    """Boot with the first patches of the series only; gives what is wrong."""
    image = build_image(base, first=n_patches)
    steps = "hashes any 4096 65536 1000003\nmmaps mmap 4194304\nmessages end\n"
    boot = Boot(steps, memory_mib=512)
    console = run_boot(boot, image, logs / f"{base}-first-{n_patches}.log")
    errors = _hash_errors(_hashes(console))
    if not oldmem_ranges(console.section("dmesg-end")):
        errors.append("the kernel does not say what memory the dump consists of")
    return errors


def judge(case: Case, console: Console) -> Outcome:
    """What the console of a finished boot shows."""
    hashes = _hashes(console)
    errors = [*_hash_errors(hashes), *_layout_errors(case.boot, console), *case.check(console)]
    dmesg = console.section("dmesg-end")
    sizes = page_sizes(dmesg)
    mapped = ", ".join(f"{sizes[page] >> 10} KiB by {page}" for page in sorted(sizes)) or "nothing"
    costs = table_costs(dmesg)
    tables = f"{sum(kib for kib, _ in costs)} KiB, {sum(us for _, us in costs)} us"
    digest = hashes[0][1] if hashes else ""
    return Outcome(case.name, errors, digest, len(hashes), mapped, tables)


def cases() -> list[Case]:
    """The matrix."""
    both_ways = _READ_BOTH_WAYS.format(arguments="")
    return [
        Case(
            "5level-1G",
            Boot(both_ways, machine=_RAM_BELOW_4G, memory_mib=_MEMORY_WITH_1G_MIB),
            _all_of({"1G", "2M", "4k"}),
        ),
        Case(
            "4level-1G",
            Boot(
                both_ways,
                machine=_RAM_BELOW_4G,
                memory_mib=_MEMORY_WITH_1G_MIB,
                cpu="max,-la57",
            ),
            _all_of({"1G"}),
        ),
        Case(
            "5level-nokaslr",
            Boot(both_ways, first_parameters="nokaslr", crash_parameters="nokaslr"),
            _all_of({"2M"}),
        ),
        Case(
            "4level-nokaslr",
            Boot(
                both_ways,
                cpu="max,-la57",
                first_parameters="nokaslr",
                crash_parameters="nokaslr",
            ),
            _all_of({"2M"}),
        ),
        Case(
            "qemu64-2M",
            Boot(both_ways, machine=_RAM_BELOW_4G, memory_mib=_MEMORY_WITH_1G_MIB, cpu="qemu64"),
            _all_of({"2M"}, {"1G"}),
        ),
        Case(
            "debug-pagealloc",
            Boot(both_ways, crash_parameters="debug_pagealloc=on", crashkernel_mib=192),
            _all_of({"2M"}),
        ),
        Case(
            "hole-above-4G-numa",
            Boot(both_ways, machine=_RAM_BELOW_4G, numa=2, memory_mib=1024),
            _above_4g,
        ),
        Case(
            "vmcore-cb",
            Boot(
                "section without-callback vmtool hash read 65536"
                + _READ_BOTH_WAYS.format(arguments="not_ram_every=7")
            ),
            _callback_matters,
        ),
        Case(
            "switched-off",
            Boot(_SWITCHED_OFF, crash_parameters="vmcore_direct_map=off"),
            _nothing_then_all,
        ),
        Case("small-window", Boot(both_ways), _window, ("small-window.patch",)),
        Case(
            "straddle",
            Boot(_STRADDLE, crash_parameters="vmcore_direct_map=off"),
            _straddled,
        ),
        Case(
            "hot-added",
            Boot(
                _HOT_ADDED,
                memory_mib=512,
                dimm_mib=_DIMM_MIB,
                first_parameters="memhp_default_state=online",
                crash_parameters="acpi_no_memhotplug",
            ),
            _not_added_again,
        ),
        Case(
            "no-tables",
            Boot(
                _NO_TABLES,
                memory_mib=512,
                dimm_mib=_DIMM_MIB,
                cpu="qemu64",
                first_parameters="memhp_default_state=online",
                # Without KASLR the DIMM has a top-level entry to itself.
                crash_parameters="acpi_no_memhotplug nokaslr vmcore_direct_map=off",
            ),
            _each_table_failed,
        ),
    ]


# Booted off: nothing is mapped. Turned on: mapped when the file is opened.
_SWITCHED_OFF = """
module
tables start
messages start
paged ioremap
hashes ioremap 4096 65536
mmaps mmap 4194304
switch on
paged direct
hashes direct 65536
tables end
messages end
"""

# A page of 2 MiB that were mapped by others is mapped once more, with init_memory_mapping().
_STRADDLE = """
split_demo
tables start
messages start
paged ioremap
hashes ioremap 65536
switch on
paged direct
hashes direct 65536 1000003
mmaps mmap 4194304
tables end
messages end
"""

# A DIMM that the crash kernel was told to leave alone is added all the same, from outside.
_HOT_ADDED = f"""
module
tables start
messages start
switch off
paged ioremap
hashes ioremap 65536
switch on
paged direct
hashes direct 65536 1000003
hot_adds {DIMM_PADDR:#x} {_NOT_OLD_PADDR:#x}
hashes direct 65536
mmaps mmap 4194304
tables end
messages end
"""

# On each level a table is missing: of the DIMM's two, and of the last pages of low memory one.
_NO_TABLES = """
module
hashes ioremap 65536
switch on
messages start
failing_opens 0 1 1 1
hashes direct 65536
tables end
messages end
"""


def _hashes(console: Console) -> list[tuple[str, str]]:
    """(section, digest and size) of each hash, in order."""
    found = []
    for name, text in console.sections(r"hash-\S+"):
        match = re.search(r"LAB-HASH (\w+) \w+ \d+ (\d+)", text)
        if not match:
            raise LabError(f"{name} has no hash: {text}")
        found.append((name, f"{match.group(1)} of {match.group(2)} bytes"))
    return found


def _hash_errors(hashes: list[tuple[str, str]]) -> list[str]:
    if len(hashes) < 3:
        return [f"only {len(hashes)} hashes were made"]
    return [
        f"{name} is {digest}, but {hashes[0][0]} is {hashes[0][1]}"
        for name, digest in hashes
        if digest != hashes[0][1]
    ]


def _layout_errors(boot: Boot, console: Console) -> list[str]:
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


def _all_of(pages: Set[str], never: Set[str] = frozenset()) -> Callable[[Console], list[str]]:
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


def _callback_matters(console: Console) -> list[str]:
    errors = _all_of({"2M"})(console)
    if _hashes(console)[0][1].split()[0] in console.section("without-callback"):
        errors.append("the callback changed nothing")
    return errors


def _above_4g(console: Console) -> list[str]:
    errors = _all_of({"2M"})(console)
    ranges = oldmem_ranges(console.section("dmesg-end"))
    if not any(one.start_paddr >= 1 << 32 for one in ranges):
        errors.append("the machine has no memory above 4 GiB")
    return errors


def _nothing_then_all(console: Console) -> list[str]:
    errors = _all_of({"2M"})(console)
    dmesg = console.section("dmesg-start")
    if direct_ranges(dmesg):
        errors.append("mapped although it was switched off")
    ranges = oldmem_ranges(dmesg)
    own_bytes = sum(one.end_paddr - one.start_paddr for one in own_memory(dmesg)) + (1 << 20)
    if mapped_bytes(ranges, _mappings(console, "start")) > own_bytes:
        errors.append("the page tables show old memory although it was switched off")
    return errors


def _window(console: Console) -> list[str]:
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
    if Range(DIMM_PADDR, DIMM_PADDR + (_DIMM_MIB << 20)) in ranges:
        return []
    return ["the DIMM is not in the dump"]


def _not_added_again(console: Console) -> list[str]:
    """Old memory that is mapped cannot become the crash kernel's own; other memory can."""
    errors = _all_of({"2M"})(console) + _dimm_errors(console)
    refused = console.section(f"hot-add-{DIMM_PADDR:#x}")
    if "busy" not in refused or "added" in refused:
        errors.append(f"adding old memory: {refused}")
    other = console.section(f"hot-add-{_NOT_OLD_PADDR:#x}")
    if other != "added\n":
        errors.append(f"adding other memory: {other}")
    return errors


def _straddled(console: Console) -> list[str]:
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


def _each_table_failed(console: Console) -> list[str]:
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
