# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/vmcore_pfn_lists in a crash kernel: the answers pydumpfile gives itself, bit for bit.

What is asked and compared is in programs/pfn_lists.py, which runs in the crash kernel; here is
which boots it takes, and what their consoles must show.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydumpfile.filter.level import Kind

from .builder import KINDS, SANITIZED, build_image
from .guest import Boot, Console, run_boot
from .matrix import TEST_PATCHES
from .pagetables import direct_ranges, oldmem_ranges
from .series import pfn_lists_series

N_LEVELS = 32
_CRASHKERNEL_MIB = 256
# Python and its libraries are in the crash kernel's memory twice while it boots.
_MEMORY_MIB = 1024
# The crash kernel is put below 4 GiB, in one piece: above or below the kernel, wherever KASLR has
# put that.
_BELOW_4G_MIB = 3 * _CRASHKERNEL_MIB
_LEAST_DUMP_SIZE = 1 << 20
# What pydumpfile says, and at which levels struct pages do not matter to these kernels, which know
# no hardware poison.
_BY_KERNEL = "Pages were judged in the kernel."
_NOT_JUDGED = "Pages were not judged: no struct page matters at this level."
_LEVELS_OF_CONTENT = (0, 1)
# What programs/kinds.c counts; and of how many orders there are free blocks, some of which always
# happen to be gone.
_KINDS_COUNTED = 10
_LEAST_ORDERS = 6
_COMPLAINTS = re.compile(
    r"^.*(?:\bWARNING:|\bBUG:|\bKASAN:|\bUBSAN:|Oops|general protection|Call Trace"
    r"|page allocation failure|soft lockup|blocked for more than).*$",
    re.M,
)
# Once with each way of looking at old memory.
_LEVELS = f"pfn_lists levels 0 {N_LEVELS}\n"
_BOTH_WAYS = f"{_LEVELS}switch off\n{_LEVELS}switch on\n"
_HOSTILE = "pfn_lists hostile 600\n"
_HOSTILE_BOTH_WAYS = f"{_HOSTILE}switch off\npfn_lists hostile 100\nswitch on\n"
_LAST_LEVEL = f"pfn_lists levels {N_LEVELS - 1} {N_LEVELS}\n"
# Of patches/mistakes.patch: in place before what was asked for, behind the buffer for copies, after
# it was freed, and by more bits than there are.
_MISTAKES = (
    "KASAN: vmalloc-out-of-bounds in read_where_it_must_not",
    "KASAN: slab-out-of-bounds in read_where_it_must_not",
    "KASAN: (?:slab-)?use-after-free in read_where_it_must_not",
    r"UBSAN: shift-out-of-bounds in .*vmcore_pfn_lists\.c",
)
# A kernel that watches itself takes several times as long.
_SANITIZED_SECONDS = 5000.0

Check = Callable[[Console], list[str]]
"""What is wrong with the console of a finished boot, in words."""


@dataclass(frozen=True)
class FilterCase:
    """A boot, the calls of pfn_lists.py that have to come to their end in it, and what else holds.

    configs: what the kernels have besides lab.config.
    patches: names in patches/, applied on top of the series.
    complaints: what the kernel has to complain of (regular expressions), being wrong on purpose.
        Without any it must not complain.
    """

    name: str
    boot: Boot
    wanted: tuple[str, ...]
    checks: tuple[Check, ...]
    configs: tuple[Path, ...] = ()
    patches: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()


def all_in_place(console: Console) -> list[str]:
    """Each range is in the direct mapping."""
    dmesg = console.section("dmesg-end")
    if direct_ranges(dmesg) == oldmem_ranges(dmesg):
        return []
    return [f"in the direct mapping are only {[str(one) for one in direct_ranges(dmesg)]}"]


def nothing_in_place(console: Console) -> list[str]:
    """The series maps nothing that would have no shadow memory."""
    dmesg = console.section("dmesg-end")
    errors = [f"{one} is in the direct mapping" for one in direct_ranges(dmesg)]
    if "vmcore: old memory is not mapped: it would have no shadow memory" not in dmesg:
        errors.append("the kernel does not say why it maps nothing")
    return errors


def watched(console: Console) -> list[str]:
    """KASAN is at work: without it no complaint would say nothing."""
    if "kasan: KernelAddressSanitizer initialized" in console.section("dmesg-end"):
        return []
    return ["the crash kernel has no KASAN"]


def every_kind(console: Console) -> list[str]:
    """The crashed kernel had pages of each kind, and the answers have each kind there is.

    Which level that takes differs: a poisoned page that is a process's is first of all that.
    """
    counted = dict(re.findall(r"^LAB-KIND (\S+) (\d+)$", console.text, re.M))
    missing = {name for name, n in counted.items() if n == "0"}
    orders = {name for name in counted if name.startswith("order-")}
    errors = [f"the first kernel has no {name} pages" for name in sorted(missing - orders)]
    if len(orders - missing) < _LEAST_ORDERS or len(counted) < _LEAST_ORDERS + _KINDS_COUNTED:
        errors.append(f"the first kernel counted {counted}")
    answers = _left_out(console, r"\d+")
    for kind in list(Kind)[: Kind.UNUSED_MEM_MAP]:
        if not any(left_out[kind] for left_out in answers):
            errors.append(f"no {kind.label} pages are left out at any level")
    return errors


def callback_matters(console: Console) -> list[str]:
    """Other pages are left out when some struct pages are not RAM; in place and copied the same."""
    without, *others = _left_out(console, str(N_LEVELS - 1))
    if len(others) < 2 or others != [others[0]] * len(others):
        return [f"level {N_LEVELS - 1} leaves out {others}"]
    if others[0] == without:
        return ["the callback changed nothing"]
    return []


def same_dumps(console: Console) -> list[str]:
    """Of the whole command: each byte, the report, and who judged."""
    by_user, by_kernel = (console.section(f"dump-{place}") for place in ("user", "kernel"))
    errors = console.section("dumps-differ").splitlines()
    sizes = console.section("dump-sizes").split()
    if len(sizes) != 2 or not all(int(size) > _LEAST_DUMP_SIZE for size in sizes):
        errors.append(f"the sizes of the dumps are {', '.join(sizes)}")
    if f"\n{_BY_KERNEL}\n" not in by_kernel:
        errors.append(f"the kernel did not judge: {by_kernel}")
    return errors + _count_errors(by_user, by_kernel)


def same_dumps_of_levels(console: Console) -> list[str]:
    """As same_dumps, of each level; by hashes, which are others at each level."""
    errors, hashes = [], []
    for level in range(N_LEVELS):
        texts = [console.section(f"dump-{level}-{place}") for place in ("user", "kernel")]
        found = [re.findall(r"^([0-9a-f]{64})  -$", text, re.M) for text in texts]
        if len(found[0]) != 1 or found[0] != found[1]:
            errors.append(f"level {level}: dumps differ: {found[0]} and {found[1]}")
        if not all("\nended with 0\n" in text for text in texts):
            errors.append(f"level {level}: not all went well: {texts}")
        if f"\n{_NOT_JUDGED if level in _LEVELS_OF_CONTENT else _BY_KERNEL}\n" not in texts[1]:
            errors.append(f"level {level}: the kernel did not judge: {texts[1]}")
        errors += [f"level {level}: {error}" for error in _count_errors(*texts)]
        hashes += found[0]
    if len(set(hashes)) != N_LEVELS:
        errors.append(f"{N_LEVELS} levels gave {len(set(hashes))} dumps")
    return errors


def _count_errors(by_user: str, by_kernel: str) -> list[str]:
    """What two tables of pages say against each other."""
    rows = [re.findall(r"^.*%$", text, re.M) for text in (by_user, by_kernel)]
    return [] if rows[0] and rows[0] == rows[1] else [f"other pages are counted: {rows}"]


def _left_out(console: Console, level: str) -> list[list[int]]:
    """Pages left out by kind, each time a level that matches was compared."""
    pattern = rf"^LISTS level {level}: same \d+ bits, left out \[([\d, ]+)\]"
    return [[int(n) for n in one.split(", ")] for one in re.findall(pattern, console.text, re.M)]


def filter_cases() -> list[FilterCase]:
    """In place and by copying; with pages of all kinds, in kernels that watch themselves.

    Those take long to build and are left to this command: test_boot.py names the others.
    """
    sanitized = (KINDS, SANITIZED)
    return [
        _case("levels", f"{_BOTH_WAYS}pfn_lists plans 20\n", (all_in_place,)),
        _case("hostile", _HOSTILE_BOTH_WAYS, (all_in_place,), holes=True),
        _case("fragmented", f"{_LEVELS}pfn_lists slices\n", (all_in_place,), holes=True),
        _case("command", "dump_twice -d 31 -l\n", (all_in_place, same_dumps), holes=True),
        _case(
            "dumps",
            f"dumps_of_levels 0 {N_LEVELS} -l\n",
            (all_in_place, same_dumps_of_levels),
            holes=True,
        ),
        _case(
            "not-ram",
            f"{_LAST_LEVEL}struct_pages_not_ram 7\n{_BOTH_WAYS}",
            (all_in_place, callback_matters),
        ),
        _case(
            "sanitized",
            # Fewer: KASAN makes a mapping for each page of struct pages slow.
            f"{_LEVELS}pfn_lists plans 2\npfn_lists hostile 100\n",
            (watched, nothing_in_place, every_kind),
            configs=sanitized,
        ),
        _case(
            "sanitized-in-place",
            f"{_LEVELS}pfn_lists plans 6\npfn_lists slices\n{_HOSTILE}",
            (watched, all_in_place, every_kind),
            configs=sanitized,
            patches=("watched-in-place.patch",),
        ),
        _case(
            "sanitized-mistakes",
            f"{_LAST_LEVEL}switch off\n{_LAST_LEVEL}",
            (watched, all_in_place),
            configs=sanitized,
            patches=("watched-in-place.patch", "mistakes.patch"),
            complaints=_MISTAKES,
        ),
    ]


def _case(
    name: str,
    steps: str,
    checks: tuple[Check, ...],
    *,
    holes: bool = False,
    configs: tuple[Path, ...] = (),
    patches: tuple[str, ...] = (),
    complaints: tuple[str, ...] = (),
) -> FilterCase:
    wanted = tuple(re.findall(r"^pfn_lists (\w+)", steps, re.M))
    kinds, sanitized = (one in configs for one in (KINDS, SANITIZED))
    times = 2 if sanitized else 1  # for KASAN's shadow
    boot = Boot(
        f"{steps}messages end\n",
        # identify_cpu() clears what is known of the boot CPU before it asks again: for that moment
        # there are 4 levels, and KASAN holds what an interrupt reads for wild.
        cpu="max,-la57" if sanitized else Boot.cpu,
        memory_mib=_MEMORY_MIB * times,
        crashkernel_mib=_CRASHKERNEL_MIB * times,
        machine=f"max-ram-below-4g={_BELOW_4G_MIB * times}M",
        # Struct pages of hugetlb pages that are there once for many: vmemmap in 4K pages.
        first_parameters="hugetlb_free_vmemmap=on" if kinds else "",
        # Each mistake, not the first only.
        crash_parameters="kasan_multi_shot" if complaints else "",
        holes=holes,
        kinds=kinds,
        python=True,
        timeout_seconds=_SANITIZED_SECONDS if sanitized else Boot.timeout_seconds,
    )
    return FilterCase(name, boot, wanted, checks, configs, patches, complaints)


def run_filter_case(case: FilterCase, base: str, logs: Path) -> list[str]:
    """Build, boot and judge; gives what is wrong. LabError if the guest did not get to its end."""
    patches = [*pfn_lists_series(base), *(TEST_PATCHES / name for name in case.patches)]
    image = build_image(base, patches, extra_configs=case.configs)
    console = run_boot(case.boot, image, logs / f"{base}-lists-{case.name}.log")
    return filter_errors(case, console)


def filter_errors(case: FilterCase, console: Console) -> list[str]:
    """What the console of a finished boot says against it."""
    done = re.findall(r"^LISTS DONE (\w+)$", console.text, re.M)
    errors = re.findall(r"^LISTS WRONG (.*)$", console.text, re.M)
    if done != list(case.wanted):
        errors.append(f"{', '.join(done) or 'nothing'} came to its end, of {case.wanted}")
    for check in case.checks:
        errors += check(console)
    said = _COMPLAINTS.findall(console.section("dmesg-end"))
    if not case.complaints:
        return errors + said
    return errors + [
        f"the kernel does not complain of {one}"
        for one in case.complaints
        if not any(re.search(one, line) for line in said)
    ]
