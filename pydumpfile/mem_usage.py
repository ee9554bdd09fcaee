# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dump would leave out and keep, counted and not written (``--mem-usage``).

Mostly of the kernel that is running, to know how much memory and disk a dump of it would take. It
goes on meanwhile, so what is counted is no state the machine was ever in; a kind of pages is off by
as many as came and went during one pass over memory.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import MAX_LEVEL, Kind, Level
from pydumpfile.filter.present import PresentFilter
from pydumpfile.filter.zeropages import NonzeroFilter
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.progress import Progress, Throttled


class MemUsage(NamedTuple):
    """Pages of a machine. Each is counted once."""

    page_size: int
    existing: int
    """All of them."""
    left_out: dict[Kind, int]
    """Those that level 31 leaves out, by what they are."""
    zero: int
    """Pages of zeros among the others."""
    kept: int
    """What remains: what a dump has to store."""
    doubts: list[str]
    """Why some of these are kept."""
    gone: int = 0
    """Pages that were left out before, of which nothing is known any more."""


def count_pages(vmcore: Vmcore, progress: Optional[Progress] = None) -> MemUsage:
    """Judge all pages as level 31 does.

    :raises MissingFactError: the kernel does not say enough about itself.
    :raises FaultError: its tables cannot be read.
    :raises FormatError: what it says cannot be.
    """
    tell = Throttled(progress)
    page_filter = PageFilter(vmcore, Level.of(MAX_LEVEL))
    if page_filter.handicap:  # enough to dump a dump of level 31 once more, but not to count
        raise page_filter.handicap.within("no page was judged")
    present = PresentFilter(page_filter, vmcore.source.missing.pages(vmcore.page_shift))
    nonzero = NonzeroFilter(present)
    kept = 0
    for window in nonzero.windows():
        kept += window.count()
        tell("judging pages", window.end_pfn, page_filter.max_pfn)
    return MemUsage(
        page_size=1 << vmcore.page_shift,
        existing=page_filter.exists.total,
        left_out={kind: page_filter.tally.left_out[kind] for kind in Kind},
        zero=nonzero.n_zero,
        kept=kept + present.n_missing,
        doubts=list(page_filter.doubts()),
        gone=page_filter.exists.total - page_filter.candidates.total,
    )
