# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot matrix: machines, kernel parameters and faults; what must hold for each.

Whatever the machine, /proc/vmcore must read the same by ioremap, through the direct mapping with
blocks of several sizes, and by mmap; and the page tables must show what the kernel says it did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .builder import build_image
from .guest import DIMM_PADDR, Boot, Console, run_boot
from .pagetables import oldmem_ranges, page_sizes, table_costs
from .verdicts import (
    DIMM_MIB,
    NOT_OLD_PADDR,
    all_mapped,
    all_mapped_above_4g,
    callback_matters,
    each_table_failed,
    hash_errors,
    layout_errors,
    low_memory_errors,
    mapped_up_to_window,
    not_added_again,
    nothing_then_all,
    printed_hashes,
    straddled,
    tables_within_budget,
)

TEST_PATCHES = Path(__file__).parent / "patches"
# The fifth GiB is whole: the crash kernel lies below 4 GiB, wherever KASLR puts the first one.
_MEMORY_WITH_1G_MIB = 1536
# By pages of 4 KiB, more than an eighth of a small crash kernel has page tables for.
_MEMORY_BEYOND_BUDGET_MIB = 2816
_SMALL_CRASHKERNEL_MIB = 64
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
    errors = hash_errors(printed_hashes(console))
    if not oldmem_ranges(console.section("dmesg-end")):
        errors.append("the kernel does not say what memory the dump consists of")
    return errors


def judge(case: Case, console: Console) -> Outcome:
    """What the console of a finished boot shows."""
    hashes = printed_hashes(console)
    errors = [
        *hash_errors(hashes),
        *layout_errors(case.boot, console),
        *low_memory_errors(case.boot, console),
        *case.check(console),
    ]
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
            all_mapped({"1G", "2M", "4k"}),
        ),
        Case(
            "4level-1G",
            Boot(
                both_ways,
                machine=_RAM_BELOW_4G,
                memory_mib=_MEMORY_WITH_1G_MIB,
                cpu="max,-la57",
            ),
            all_mapped({"1G"}),
        ),
        Case(
            "5level-nokaslr",
            Boot(both_ways, first_parameters="nokaslr", crash_parameters="nokaslr"),
            all_mapped({"2M"}),
        ),
        Case(
            "4level-nokaslr",
            Boot(
                both_ways,
                cpu="max,-la57",
                first_parameters="nokaslr",
                crash_parameters="nokaslr",
            ),
            all_mapped({"2M"}),
        ),
        Case("kexec-file", Boot(both_ways, kexec_file=True), all_mapped({"2M"})),
        Case(
            "qemu64-2M",
            Boot(both_ways, machine=_RAM_BELOW_4G, memory_mib=_MEMORY_WITH_1G_MIB, cpu="qemu64"),
            all_mapped({"2M"}, {"1G"}),
        ),
        Case(
            "debug-pagealloc",
            Boot(both_ways, crash_parameters="debug_pagealloc=on", crashkernel_mib=192),
            all_mapped({"2M"}),
        ),
        Case(
            "hole-above-4G-numa",
            Boot(both_ways, machine=_RAM_BELOW_4G, numa=2, memory_mib=1024),
            all_mapped_above_4g,
        ),
        Case(
            "vmcore-cb",
            Boot(
                "section without-callback vmtool hash read 65536"
                + _READ_BOTH_WAYS.format(arguments="not_ram_every=7")
            ),
            callback_matters,
        ),
        Case(
            "switched-off",
            Boot(_SWITCHED_OFF, crash_parameters="vmcore_direct_map=off"),
            nothing_then_all,
        ),
        Case("small-window", Boot(both_ways), mapped_up_to_window, ("small-window.patch",)),
        Case(
            "straddle",
            Boot(_STRADDLE, crash_parameters="vmcore_direct_map=off"),
            straddled,
        ),
        Case(
            "hot-added",
            Boot(
                _HOT_ADDED,
                memory_mib=512,
                dimm_mib=DIMM_MIB,
                first_parameters="memhp_default_state=online",
                crash_parameters="acpi_no_memhotplug",
            ),
            not_added_again,
        ),
        Case(
            "no-tables",
            Boot(
                _NO_TABLES,
                memory_mib=512,
                dimm_mib=DIMM_MIB,
                cpu="qemu64",
                first_parameters="memhp_default_state=online",
                # Without KASLR the DIMM has a top-level entry to itself.
                crash_parameters="acpi_no_memhotplug nokaslr vmcore_direct_map=off",
            ),
            each_table_failed,
        ),
        Case(
            "budget",
            Boot(
                _BUDGET,
                memory_mib=_MEMORY_BEYOND_BUDGET_MIB,
                crashkernel_mib=_SMALL_CRASHKERNEL_MIB,
                crash_parameters="nohugeiomap",
                fill_percent=10,
            ),
            tables_within_budget,
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
hot_adds {DIMM_PADDR:#x} {NOT_OLD_PADDR:#x}
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

# Each opening of the file tries again to map what was refused.
_BUDGET = """
module
messages start
switch off
hashes ioremap 65536
switch on
hashes direct 65536 1000003
mmaps mmap 4194304
tables end
messages end
"""
