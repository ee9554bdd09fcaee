# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests that are compared, and one boot of each: crash, `pydumpfile compare`, its JSON.

Memory is used in the same shares in all of them, so that what grows grows with the machine: 4 % are
pages of a process, 56 % page cache with single free pages in between, the rest free.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydumpfile.comparison.result import Comparison
from tests.kernel_lab.builder import Image, build_image
from tests.kernel_lab.guest import Boot, Console, run_boot
from tests.kernel_lab.series import pfn_lists_series

STOCK, PATCHED = "stock", "patched"
KERNELS = (STOCK, PATCHED)
INSTRUCTIONS, TIME = "instructions", "time"
SIZES_GIB = (4, 16, 64)
FILL_PERCENT, CACHE_PERCENT = 4, 56
_ROUNDS = {INSTRUCTIONS: 2, TIME: 3}
_FEW_ROUNDS = {INSTRUCTIONS: 1, TIME: 2}
"""In the largest guests: what the others show of the spread has to do."""
_LARGE_MIB = 32 << 10
_QUICK_ROUNDS = 2
_CRASHKERNEL_MIB = 256
# A guest that small has its memory where the crash kernel finds a place, see filtering.py.
_SMALL_MIB = 3072
_SMALL_MACHINE = f"max-ram-below-4g={3 * _CRASHKERNEL_MIB}M"
_TIMEOUT_SECONDS = 3600.0
_PR_SET_THP_DISABLE = 41  # linux/prctl.h


class Guest(NamedTuple):
    """One machine, and what is counted in it."""

    base: str
    """6.1, 6.12"""
    kernel: str
    """STOCK: none of the patches; PATCHED: both series."""
    memory_mib: int
    unit: str
    """INSTRUCTIONS: a nanosecond of the guest is an instruction; TIME: as fast as it can be."""

    def __str__(self) -> str:
        return f"{self.base}-{self.kernel}-{self.memory_mib >> 10 or self.memory_mib}-{self.unit}"

    def image(self) -> Image:
        """Its kernel, built if need be."""
        if self.kernel == STOCK:
            return build_image(self.base, first=0)
        return build_image(self.base, pfn_lists_series(self.base))

    def boot(self, n_rounds: int) -> Boot:
        """The boot that measures."""
        return Boot(
            f"compare --rounds {n_rounds}\nmessages end\n",
            memory_mib=self.memory_mib,
            machine=_SMALL_MACHINE if self.memory_mib < _SMALL_MIB else "",
            crashkernel_mib=_CRASHKERNEL_MIB,
            first_parameters="init_on_alloc=0",
            fill_percent=FILL_PERCENT,
            cache_percent=CACHE_PERCENT,
            icount=self.unit == INSTRUCTIONS,
            dumpers=True,
            timeout_seconds=_TIMEOUT_SECONDS,
        )


class Measured(NamedTuple):
    """What one boot gave."""

    guest: Guest
    when: str
    seconds: int
    """How long the whole boot took, on the machine that emulates."""
    comparison: Comparison

    def to_fields(self) -> dict[str, Any]:
        """As it is stored."""
        return {
            **self.guest._asdict(),
            "when": self.when,
            "seconds": self.seconds,
            "comparison": self.comparison.to_json(),
        }

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Measured:
        """What :meth:`to_fields` made."""
        guest = Guest(*(fields[name] for name in Guest._fields))
        comparison = Comparison.from_json(fields["comparison"], str(guest))
        return cls(guest, fields["when"], fields["seconds"], comparison)


def measure(guest: Guest, logs: Path, *, quick: bool = False) -> Measured:
    """Build, boot, crash, compare; LabError if the guest did not come to its end."""
    image = guest.image()
    started = time.monotonic()
    rounds = _FEW_ROUNDS if guest.memory_mib >= _LARGE_MIB else _ROUNDS
    n_rounds = _QUICK_ROUNDS if quick else rounds[guest.unit]
    with without_huge_pages():
        console = run_boot(guest.boot(n_rounds), image, logs / f"compare-{guest}.log")
    seconds = round(time.monotonic() - started)
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return Measured(guest, when, seconds, read_comparison(console))


def read_comparison(console: Console) -> Comparison:
    """The line of JSON on a console; LabError without one, FormatError if something is in it."""
    return Comparison.from_json(console.section("compare"), "the console")


@contextlib.contextmanager
def without_huge_pages() -> Iterator[None]:
    """What is started meanwhile has memory of the size it touches.

    Else each page that the guest touches would take the host 2 MiB, and 64 GiB do not fit.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_THP_DISABLE, 0, 0, 0, 0)
