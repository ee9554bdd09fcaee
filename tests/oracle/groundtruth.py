# SPDX-License-Identifier: GPL-2.0-or-later
"""pydumpfile's choice of pages against the word of the kernel that died.

For each dump level the guest's own flags say which pages are not needed; all others must be in the
dump. Where the two differ, every single page has to fall under a reason that is known, named and
proved from a third source; what is left is `unexplained` and fails the tests.

    python -m tests.oracle.groundtruth --markdown      writes the tables of docs/ground-truth.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.lab import make_core

from . import pfnset
from .cores import FULL, Evidence, kept_by_pydumpfile
from .deadkernel import page_word
from .kpageflags import Kpf, is_needed

LEVELS = range(32)
MAX_CHANGED = 64
"""More pages than this that changed between the guest's last word and the panic prove nothing."""


class Reason(NamedTuple):
    """Why the dump and the guest's flags may differ on a page."""

    name: str
    explanation: str


NOT_SCANNED = Reason(
    "no scan at levels 0 and 1",
    "A kernel without CONFIG_MEMORY_FAILURE has no poisoned pages to keep away from, so at levels "
    "0 and 1 struct pages are not looked at: balloon pages and offline blocks stay. makedumpfile "
    "does the same. Proof: the kernel's configuration.",
)
ON_CPU_LIST = Reason(
    "free, on a per-CPU list",
    "The page is free, but on a list of `struct per_cpu_pages`. Neither its struct page nor "
    "/proc/kpageflags says so, and VMCOREINFO does not lead to the lists. Kept, as makedumpfile "
    "keeps it. Proof: the lists, walked by drgn with the kernel's debugging information.",
)
CHANGED = Reason(
    "changed before the panic",
    "An interrupt freed or took the page between the guest's last reading of its flags and the "
    f"panic. Proof: the struct page in the core, by drgn; {MAX_CHANGED} pages at most.",
)
REASONS = (NOT_SCANNED, ON_CPU_LIST, CHANGED)


class Judgement(NamedTuple):
    """One core at one level; sets of pfns."""

    level: int
    kept: int
    agreed: int
    """Pages on whose need the dump and the guest agree."""
    kept_needlessly: int
    lost: int
    """Pages that the guest says are needed and the dump does not have."""
    explained: dict[Reason, int]
    unexplained: int


def judge(evidence: Evidence, level: int, kept: int) -> Judgement:
    """Compare the pages `kept` by a dump of `level` with what the guest said."""
    needed = evidence.in_core & evidence.flags.needed(level)
    if level & 16:
        needed &= ~evidence.cpu_free
    differing = (kept ^ needed) & evidence.in_core
    explained: dict[Reason, int] = {}
    unexplained = differing | (kept & ~evidence.in_core)
    for reason in REASONS:
        proved = _proved(reason, evidence, level, kept, unexplained)
        if proved:
            explained[reason] = proved
            unexplained &= ~proved
    return Judgement(
        level=level,
        kept=kept,
        agreed=evidence.in_core & ~differing,
        kept_needlessly=kept & ~needed,
        lost=needed & ~kept,
        explained=explained,
        unexplained=unexplained,
    )


def _proved(reason: Reason, evidence: Evidence, level: int, kept: int, differing: int) -> int:
    """The `differing` pages for which `reason` is shown to hold by something else."""
    if reason is NOT_SCANNED:
        scanned = level > 1 or evidence.can_poison
        never_needed = evidence.flags.having(Kpf.OFFLINE) | evidence.offlined_block
        return 0 if scanned else differing & kept & never_needed
    if reason is ON_CPU_LIST:
        return differing & kept & evidence.cpu_free if level & 16 else 0
    if pfnset.count(differing) > MAX_CHANGED:
        return 0
    return pfnset.from_pfns(
        pfn
        for pfn in pfnset.each(differing & evidence.in_core)
        if is_needed(page_word(evidence.program, pfn), level) == bool(kept >> pfn & 1)
    )


def judgements(evidence: Evidence) -> Iterator[Judgement]:
    """Every level in turn."""
    for level in LEVELS:
        yield judge(evidence, level, kept_by_pydumpfile(evidence.core.vmcore, level))


if __name__ == "__main__":
    from .markdown import report

    parser = argparse.ArgumentParser(prog="python -m tests.oracle.groundtruth")
    parser.add_argument("--markdown", action="store_true", required=True)
    parser.parse_args()
    sys.stdout.write(report([(name, Evidence(make_core(guest))) for name, guest in FULL.items()]))
