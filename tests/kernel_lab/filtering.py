# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/vmcore_pfn_lists in a crash kernel: the answers pydumpfile gives itself, bit for bit.

What is asked and compared is in programs/pfn_lists.py, which runs in the crash kernel; here is
which boots it takes, and what their consoles must show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .builder import SANITIZED, build_image
from .guest import Boot, Console, run_boot
from .series import pfn_lists_series

N_LEVELS = 32
_CRASHKERNEL_MIB = 256
# Python and its libraries are in the crash kernel's memory twice while it boots.
_MEMORY_MIB = 1024
# The crash kernel is put below 4 GiB, in one piece: above or below the kernel, wherever KASLR has
# put that.
_BELOW_4G_MIB = 3 * _CRASHKERNEL_MIB
_COMPLAINTS = re.compile(
    r"^.*(?:\bWARNING:|\bBUG:|\bKASAN:|\bUBSAN:|Oops|general protection|Call Trace"
    r"|page allocation failure|soft lockup|blocked for more than).*$",
    re.M,
)


@dataclass(frozen=True)
class FilterCase:
    """A boot, and the calls of pfn_lists.py that have to come to their end in it."""

    name: str
    boot: Boot
    wanted: tuple[str, ...]
    sanitized: bool = False


def filter_cases() -> list[FilterCase]:
    """In place and by copying, and by a kernel that watches itself."""
    levels = f"pfn_lists levels 0 {N_LEVELS}\n"
    both_ways = f"{levels}switch off\n{levels}switch on\n"
    hostile = "pfn_lists hostile 600\nswitch off\npfn_lists hostile 100\n"
    return [
        _case("levels", f"{both_ways}pfn_lists plans 20\n"),
        _case("hostile", hostile, holes=True),
        # Tens of thousands of runs, which Python takes its time to compare.
        _case("fragmented", "pfn_lists levels 28 32\npfn_lists slices\n", holes=True),
        _case("sanitized", f"{both_ways}pfn_lists plans 6\n{hostile}", sanitized=True),
    ]


def _case(name: str, steps: str, *, holes: bool = False, sanitized: bool = False) -> FilterCase:
    wanted = tuple(re.findall(r"^pfn_lists (\w+)", steps, re.M))
    times = 2 if sanitized else 1  # for KASAN's shadow
    boot = Boot(
        f"{steps}messages end\n",
        memory_mib=_MEMORY_MIB * times,
        crashkernel_mib=_CRASHKERNEL_MIB * times,
        machine=f"max-ram-below-4g={_BELOW_4G_MIB * times}M",
        first_parameters="hugepages=20" if sanitized else "",
        holes=holes,
        python=True,
    )
    return FilterCase(name, boot, wanted, sanitized)


def run_filter_case(case: FilterCase, base: str, logs: Path) -> list[str]:
    """Build, boot and judge; gives what is wrong. LabError if the guest did not get to its end."""
    extra_config = SANITIZED if case.sanitized else None
    image = build_image(base, pfn_lists_series(base), extra_config=extra_config)
    console = run_boot(case.boot, image, logs / f"{base}-lists-{case.name}.log")
    return filter_errors(case, console)


def filter_errors(case: FilterCase, console: Console) -> list[str]:
    """What the console of a finished boot says against it."""
    done = re.findall(r"^LISTS DONE (\w+)$", console.text, re.M)
    errors = re.findall(r"^LISTS WRONG (.*)$", console.text, re.M)
    if done != list(case.wanted):
        errors.append(f"{', '.join(done) or 'nothing'} came to its end, of {case.wanted}")
    errors += _COMPLAINTS.findall(console.section("dmesg-end"))
    return errors
