# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/ground-truth.md, as measured."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence

from . import makedumpfile, pfnset
from .cores import Evidence, kept_by_pydumpfile
from .groundtruth import REASONS, Judgement, judgements
from .kpageflags import Kpf, is_cache, is_user

_SHOWN_LEVELS = (0, 1, 2, 4, 8, 16, 31)

_INTRODUCTION = """\
# Ground truth: the pages pydumpfile keeps, and what the kernel said of them

Just before it panics, a guest of the lab (tests/lab) reads `/proc/kpageflags`: the kernel's own
word on each of its pages. tests/oracle derives from it, and from nothing that pydumpfile reads,
which pages a dump of each level has to have, and compares. On all 32 levels of each core below
every page on which the two differ falls under a named reason that another source proves; nothing is
unexplained, and **no page that the kernel needs is missing from any dump**.

This file is the output of

    python -m tests.oracle.groundtruth --markdown

which refuses to write it where that does not hold. `pytest tests/oracle` checks the same and more.

## Reasons for a page to be kept needlessly

"""

_MEANING = """\
What the guest's flags mean, first match decides which row of the tables a page is in:

| row | flags |
|---|---|
| poisoned | HWPOISON |
| balloon | OFFLINE |
| offline block | NOPAGE |
| free | BUDDY |
| hugetlb | HUGE |
| slab | SLAB, whatever else is said |
| huge anonymous | ANON and THP |
| anonymous | ANON |
| page cache | LRU or SWAPCACHE |
| page cache, private | the same and PRIVATE |
| page tables | PGTABLE |
| reserved | RESERVED |
| free, per-CPU list | no flag; the page is on a per-CPU list |
| kernel, no flag | no flag |

"""


def report(cores: Sequence[tuple[str, Evidence]]) -> str:
    """The whole document."""
    program = shutil.which("makedumpfile") or shutil.which("makedumpfile", path="/usr/sbin:/sbin")
    parts = [_INTRODUCTION]
    parts += [f"* **{reason.name}**: {reason.explanation}\n" for reason in REASONS]
    parts += ["\n", _MEANING]
    for name, evidence in cores:
        parts += _core_section(name, evidence)
    if program is not None:
        parts += _makedumpfile_section(program, cores)
    return "".join(parts)


def _core_section(name: str, evidence: Evidence) -> Iterable[str]:
    core = evidence.core
    verdicts = list(judgements(evidence))
    for verdict in verdicts:
        if verdict.unexplained or verdict.lost:
            raise SystemExit(
                f"{name}, level {verdict.level}: unexplained {pfnset.show(verdict.unexplained)}, "
                f"missing {pfnset.show(verdict.lost)}"
            )
    yield f"## {name}\n\n"
    yield f"Kernel {core.kernel.package} {core.kernel.version}, {core.guest.memory} of memory, "
    yield f"workload {core.guest.workload!r}: {pfnset.count(evidence.in_core)} pages in the core."
    yield "\n\n"
    reasons = [reason for reason in REASONS if any(reason in v.explained for v in verdicts)]
    yield _table(
        ["level", "kept", "agree", "missing", *(reason.name for reason in reasons), "unexplained"],
        [
            [verdict.level, *_counts(verdict, [verdict.explained.get(r, 0) for r in reasons])]
            for verdict in verdicts
            if verdict.level in _SHOWN_LEVELS
        ],
    )
    yield _table(
        ["the kernel says", "pages", *(f"kept at {level}" for level in _SHOWN_LEVELS)],
        _rows_by_kind(evidence, verdicts),
    )


def _counts(verdict: Judgement, explained: Iterable[int]) -> list[int]:
    sets = [verdict.kept, verdict.agreed, verdict.lost, *explained, verdict.unexplained]
    return [pfnset.count(pages) for pages in sets]


def _rows_by_kind(evidence: Evidence, verdicts: Sequence[Judgement]) -> list[list[object]]:
    shown = [verdict for verdict in verdicts if verdict.level in _SHOWN_LEVELS]
    return [
        [kind, pfnset.count(pages), *(pfnset.count(verdict.kept & pages) for verdict in shown)]
        for kind, pages in _kinds(evidence)
        if pages
    ]


def _kinds(evidence: Evidence) -> Iterable[tuple[str, int]]:
    """Share out the pages of the core, each to the first kind that fits."""
    tests: list[tuple[str, Callable[[Kpf], bool]]] = [
        ("poisoned", lambda word: bool(word & Kpf.HWPOISON)),
        ("balloon", lambda word: bool(word & Kpf.OFFLINE)),
        ("offline block", lambda word: bool(word & Kpf.NOPAGE)),
        ("free", lambda word: bool(word & Kpf.BUDDY)),
        ("hugetlb", lambda word: bool(word & Kpf.HUGE)),
        ("slab", lambda word: bool(word & Kpf.SLAB)),
        ("huge anonymous", lambda word: is_user(word) and bool(word & Kpf.THP)),
        ("anonymous", is_user),
        ("page cache", lambda word: is_cache(word) and not word & Kpf.PRIVATE),
        ("page cache, private", is_cache),
        ("page tables", lambda word: bool(word & Kpf.PGTABLE)),
        ("reserved", lambda word: bool(word & Kpf.RESERVED)),
    ]
    left = evidence.in_core
    for kind, test in tests:
        pages = left & evidence.flags.where(test)
        left &= ~pages
        yield kind, pages
    yield "free, per-CPU list", left & evidence.cpu_free
    yield "kernel, no flag", left & ~evidence.cpu_free


def _makedumpfile_section(program: str, cores: Sequence[tuple[str, Evidence]]) -> Iterable[str]:
    yield f"## makedumpfile {makedumpfile.version(program)} on the same cores, level 31\n\n"
    yield "As Debian 12 ships it. Judged by the kernel's own word, as above.\n\n"
    rows: list[list[object]] = []
    for name, evidence in cores:
        theirs = makedumpfile.bitmaps(program, evidence.core.vmcore, 31).kept
        ours = kept_by_pydumpfile(evidence.core.vmcore, 31)
        needed = evidence.in_core & evidence.flags.needed(31)
        slab = evidence.flags.having(Kpf.SLAB)
        needless = theirs & ~needed
        user = evidence.flags.where(is_user)
        counted = [
            ours,
            theirs,
            needed & ~theirs & slab,
            needed & ~theirs & ~slab,
            needless & user,
            needless & evidence.offlined_block,
            needless & ~user & ~evidence.offlined_block,
        ]
        rows.append([name, *(pfnset.count(pages) for pages in counted)])
    yield _table(
        [
            "core",
            "pydumpfile keeps",
            "makedumpfile keeps",
            "needed, missing: slab",
            "needed, missing: others",
            "needless: user data",
            "needless: offline block",
            "needless: others",
        ],
        rows,
    )
    yield (
        "What is missing beside slab is the page that low memory ends in (0x9f of a PC, where it "
        "ends at 0x9fc00):\n1.7.2 drops such a page. On Linux 6.12 it takes slab pages for "
        "anonymous ones, leaves out only the first page\nof huge ones, and exits with status 0.\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n\n"
