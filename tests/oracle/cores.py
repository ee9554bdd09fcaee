# SPDX-License-Identifier: GPL-2.0-or-later
"""The cores that are judged, and what pydumpfile makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import drgn

import pydumpfile
from pydumpfile.filter.classify import PageFilter
from tests.conftest import copy_sparse
from tests.lab import Guest, LabCore

from . import deadkernel, pfnset
from .kpageflags import KpageFlags
from .rawcore import RawCore

SMALL = {"6.1 small": Guest(kernel="6.1-cloud"), "6.12 small": Guest(kernel="6.12-cloud")}
FULL = {
    "6.1": Guest(kernel="6.1", memory="2G", workload="full"),
    "6.1 cloud": Guest(kernel="6.1-cloud", memory="4G", workload="full"),
    "6.12 cloud": Guest(kernel="6.12-cloud", memory="2G", workload="full"),
}
_NOTES_WITHIN = 1 << 20


@dataclass(frozen=True)
class Evidence:
    """One core, and everything known about its pages from others than pydumpfile."""

    core: LabCore

    @cached_property
    def in_core(self) -> int:
        """Set of the page frames the core has."""
        with RawCore(self.core.vmcore) as raw:
            return raw.pfns

    @cached_property
    def fractional(self) -> int:
        """Set of the page frames the core has only a part of."""
        with RawCore(self.core.vmcore) as raw:
            return raw.fractional_pfns

    @cached_property
    def flags(self) -> KpageFlags:
        """The guest's last reading of /proc/kpageflags."""
        return KpageFlags(self.core.kpageflags.read_bytes())

    @cached_property
    def program(self) -> drgn.Program:
        """drgn on the core, with the kernel's debugging information."""
        return deadkernel.open_program(self.core.vmcore, self.core.vmlinux())

    @cached_property
    def cpu_free(self) -> int:
        """Set of the free pages on per-CPU lists, by drgn."""
        return deadkernel.free_on_cpu_lists(self.program)

    @cached_property
    def offlined_block(self) -> int:
        """Set of the pages of the memory block that the workload took offline."""
        block = self.core.truth["offlined_block"]
        return pfnset.from_runs([tuple(block)] if block else [])

    @cached_property
    def can_poison(self) -> bool:
        """Whether the kernel knows poisoned pages, and has them looked for at every level."""
        return self.core.kernel.has_config("MEMORY_FAILURE")


def kept_by_pydumpfile(vmcore: Path, level: int) -> int:
    """The 2nd bitmap pydumpfile computes, without writing the dump.

    The tests of the readers hold it against the bitmap in dumps that were written.
    """
    with pydumpfile.open(vmcore) as image:
        kept = 0
        for window in PageFilter(image, pydumpfile.Level.of(level)).windows():
            kept |= pfnset.from_bitmap(window.bits) << window.first_pfn
        return kept


def without_vmcoreinfo(vmcore: Path, path: Path) -> None:
    """Copy a core to ``path``, its VMCOREINFO under another name and, at the beginning, zeros."""
    copy_sparse(vmcore, path)
    with path.open("r+b") as core:
        at = core.read(_NOTES_WITHIN).index(b"VMCOREINFO\0")
        core.seek(at)
        core.write(b"NOTHING...")
        core.seek(at + 12)
        core.write(bytes(1024))
