# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures each way to read mem_map, to judge pages and to dump that there is for a vmcore.

All ways of a step take turns in rounds. Bitmaps are compared: ours with each other, and
makedumpfile's with ours. What is not here says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydumpfile.comparison import bitmaps
from pydumpfile.comparison.dumping import Commands, measure_dumping
from pydumpfile.comparison.judging import direct_mapping, measure_judging
from pydumpfile.comparison.reading import measure_reading, mem_map_extents
from pydumpfile.comparison.result import Comparison
from pydumpfile.comparison.ways import Progress
from pydumpfile.errors import InputError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.kernel.vmcore import Vmcore


class Request(NamedTuple):
    """What is to be compared."""

    path: str
    level: int
    n_rounds: int
    own_command: Sequence[str]
    """What starts pydumpfile; empty: no whole dumps, which take longest."""
    makedumpfile: str
    """Its name or path; it need not be there."""


def compare(request: Request, progress: Progress = lambda _: None) -> Comparison:
    """Do all that ``request`` asks for.

    :raises PydumpfileError: the vmcore cannot be read or judged, or is no ELF one.
    """
    path, level, n_rounds = request.path, Level.of(request.level), request.n_rounds
    with Vmcore.open(path) as vmcore:
        extents = mem_map_extents(vmcore)
        page_filter = PageFilter(vmcore, level)
        ours = bitmaps.Kept(bitmaps.of_windows(page_filter.windows()))
        try:
            found = list(measure_reading(path, extents, n_rounds, progress))
        except OSError as error:
            raise InputError(path, error.errno, "reading mem_map") from error
        found += measure_judging(path, vmcore, level, n_rounds, progress)
        if request.own_command:
            commands = Commands(path, request.level, request.own_command, request.makedumpfile)
            found += measure_dumping(commands, ours, n_rounds, progress)
        return Comparison(
            release=vmcore.facts.release if vmcore.facts else "",
            level=request.level,
            pages=page_filter.exists.total,
            kept=page_filter.candidates.total - sum(page_filter.tally.left_out),
            mem_map_size=sum(extent.size for extent in extents),
            mem_map_extents=len(extents),
            direct_mapping=direct_mapping(),
            found=tuple(found),
        )
