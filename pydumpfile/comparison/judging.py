# SPDX-License-Identifier: GPL-2.0-or-later
"""Judging all pages until their bitmap is there: in user space, and in the crash kernel."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from functools import partial
from typing import Callable, Optional, TypeVar

from pydumpfile import loops
from pydumpfile.bitmap import Bitmap
from pydumpfile.comparison import bitmaps
from pydumpfile.comparison.reading import BLOCK_SIZES, BlockImage
from pydumpfile.comparison.result import JUDGING, Found
from pydumpfile.comparison.ways import Progress, Way, measure_in_turns
from pydumpfile.errors import UnsupportedError
from pydumpfile.filter import pfnlists
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.kernel_scan import VMCORE
from pydumpfile.filter.level import Level
from pydumpfile.filter.scan import UserScan
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.sources.elf import ElfSource

SWITCH = "/sys/module/kernel/parameters/vmcore_direct_map"
"""Of the kernels of kpatch/: whether read(2) and the kernel's filter use the direct mapping."""
BY_MMAP = "user space, mmap"
BY_SCALAR = "user space, mmap, scalar"
"""By the loop as the kernel has it, one struct page at a time: compilers may do no more there."""
IN_PLACE, BY_COPYING = "kernel, in place", "kernel, by copying"
_IN_PYTHON = "PYDUMPFILE_KERNEL=python leaves nothing to the loop in C"
_Measured = TypeVar("_Measured")
_NO_FILTER = f"this kernel has no {pfnlists.PATH}"


def measure_judging(
    path: str, vmcore: Vmcore, level: Level, n_rounds: int, progress: Progress
) -> Iterator[Found]:
    """Every way there is; each :class:`Found` has the SHA-256 of its bitmap.

    :raises PydumpfileError: pages cannot be judged.
    """
    found_bitmaps: dict[str, str] = {}

    def timed(way: str, judge: Callable[[], Iterator[Bitmap]]) -> int:
        ns, found_bitmaps[way] = time_windows(judge)
        return ns

    def judge(vmcore: Vmcore, where: FilterIn) -> Iterator[Bitmap]:
        return PageFilter(vmcore, level, filter_in=where).windows()

    with contextlib.ExitStack() as opened:
        ways = {}
        for name, block_size in BLOCK_SIZES.items():
            by_blocks = opened.enter_context(
                Vmcore(ElfSource(BlockImage(path, block_size), use_mmap=False))
            )
            way = f"user space, read {name}"
            ways[way] = Way(partial(timed, way, partial(judge, by_blocks, FilterIn.USER)))
        ways[BY_MMAP] = Way(partial(timed, BY_MMAP, partial(judge, vmcore, FilterIn.USER)))
        scalar = partial(timed, BY_SCALAR, partial(_by_scalar_loop, vmcore, level))
        ways[BY_SCALAR] = Way(None, _IN_PYTHON) if loops.in_python() else Way(scalar)
        by_kernel = partial(judge, vmcore, FilterIn.KERNEL)
        missing = kernel_filter_missing(path)
        for way, direct in ((IN_PLACE, True), (BY_COPYING, False)):
            reason = missing or ("" if direct else switch_missing())
            measure = partial(switched, direct, partial(timed, way, by_kernel))
            ways[way] = Way(None, reason) if reason else Way(measure)
        for one in measure_in_turns(JUDGING, ways, n_rounds, progress, n_warm=1):
            yield one._replace(bitmap=found_bitmaps.get(one.way, ""))


def time_windows(judge: Callable[[], Iterator[Bitmap]]) -> tuple[int, str]:
    """Nanoseconds until ``judge`` has given all windows, and the SHA-256 of their bitmap.

    Each is hashed, and let go, while the clock stands still.
    """
    ns = 0

    def windows() -> Iterator[Bitmap]:
        nonlocal ns
        begin = time.monotonic_ns()
        for window in judge():
            ns += time.monotonic_ns() - begin
            yield window
            begin = time.monotonic_ns()
        ns += time.monotonic_ns() - begin

    kept = bitmaps.Kept(bitmaps.of_windows(windows()))
    return ns, kept.sha256


def _by_scalar_loop(vmcore: Vmcore, level: Level) -> Iterator[Bitmap]:
    page_filter = PageFilter(vmcore, level)
    if isinstance(page_filter.scan, UserScan):
        page_filter.scan = page_filter.scan.by("scalar")
    return page_filter.windows()


def kernel_filter_missing(path: str) -> str:
    """Why the kernel cannot judge the pages of the vmcore at ``path``; empty if it can."""
    if not os.path.exists(pfnlists.PATH):
        return _NO_FILTER
    if os.path.realpath(path) != VMCORE:
        return f"the kernel judges pages of {VMCORE} alone"
    try:
        pfnlists.PfnLists(pfnlists.PATH).close()
    except UnsupportedError as error:
        return str(error)
    return ""


def switch_missing() -> str:
    """Why the kernel cannot be told not to use the direct mapping; empty if it can."""
    return "" if os.access(SWITCH, os.W_OK) else f"there is no {SWITCH} to write to"


def direct_mapping() -> Optional[bool]:
    """Whether the kernel may use the direct mapping; None: it does not say."""
    try:
        with open(SWITCH, encoding="ascii") as file:
            return file.read(1) in "Y1"
    except OSError:
        return None


def switched(direct: Optional[bool], measure: Callable[[], _Measured]) -> _Measured:
    """``measure`` while the kernel uses the direct mapping, or does not; then all is as before.

    :param direct: None leaves it as it is.
    """
    before = direct_mapping()
    if direct is None or before is None or before == direct:
        return measure()
    _switch(direct)
    try:
        return measure()
    finally:
        _switch(before)


def _switch(direct: bool) -> None:
    with open(SWITCH, "w", encoding="ascii") as file:
        file.write("Y" if direct else "N")
