# SPDX-License-Identifier: GPL-2.0-or-later
"""Struct pages judged in the crash kernel (``--filter-in kernel``): asked for window by window.

What it answers is followed as it is read. The outcome is that of :mod:`.scan`, bit for bit, so it
does not matter to a dump who judged a window, and the other may always go on with the next.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import FormatError, InputError, PydumpfileError, UnsupportedError
from pydumpfile.filter import pfnlists
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.pfnlists import PfnLists, Piece
from pydumpfile.filter.plan import Plan
from pydumpfile.filter.scan import GROUP_PFNS, UserScan
from pydumpfile.filter.tally import Tally
from pydumpfile.kernel.memmap import MemMapPiece
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.pfn import PageSet, align_down, align_up
from pydumpfile.sources.elf import ElfSource

if TYPE_CHECKING:
    from pydumpfile.stopwatch import Stopwatch

VMCORE = "/proc/vmcore"
"""The only image of which the kernel has the struct pages."""


class KernelScan:
    """See :class:`pydumpfile.filter.scan.Scan`.

    :raises UnsupportedError: the kernel cannot, or it is no image of its.
    """

    judged_in = frozenset((FilterIn.KERNEL,))
    why_user: Optional[PydumpfileError] = None

    def __init__(self, vmcore: Vmcore, described: PageSet, plan: Plan) -> None:
        source = vmcore.source
        if not (isinstance(source, ElfSource) and _is_same(source.path, VMCORE)):
            raise UnsupportedError(
                f"judging pages of {source.path} in the kernel",
                f"it has the struct pages of {VMCORE} alone",
            )
        self._loads = source.loads
        self._memory = vmcore.memory
        self._described = described
        self._plan = plan
        self._end_pfn = vmcore.mem_map.end_pfn
        PfnLists().close()

    def judge(self, pieces: Sequence[MemMapPiece], window: Bitmap, tally: Tally) -> None:
        """See :meth:`pydumpfile.filter.scan.Scan.judge`.

        :raises InputError: the kernel refuses, or cannot read its old memory.
        :raises FormatError: its answer is none.
        :raises UnsupportedError: it cannot be told where the struct pages are.
        """
        if not pieces:
            return
        tally.enter(pieces[0].first_pfn)
        start_pfn = max(window.first_pfn, tally.resume_pfn)
        asked = self._described.clipped(start_pfn, window.end_pfn)
        located = self._locate(pieces, asked, window)
        with PfnLists() as lists:
            for request in pfnlists.make_requests(self._plan, asked, located, self._end_pfn):
                self._take(lists, request, window, tally)
        # One that goes past the window, as FLATMEM's, is alone in it: resume_pfn is of that one.
        tally.enter(pieces[-1].first_pfn)
        for piece in located:
            for lost in piece.lost(self._plan.page_size):
                for first_pfn, end_pfn in asked.within(*lost):
                    tally.unreadable += sum(pfn in window for pfn in range(first_pfn, end_pfn))

    def watch(self, stopwatch: Stopwatch, reading: str, judging: str) -> None:
        """See :meth:`pydumpfile.filter.scan.Scan.watch`: of mem_map is only read where it is."""
        stopwatch.attach(self, "_locate", reading)
        stopwatch.attach(self, "_take", judging)

    def _locate(self, pieces: Sequence[MemMapPiece], asked: PageSet, window: Bitmap) -> list[Piece]:
        """Where the struct pages of ``asked`` are, by whole groups."""
        located = []
        for piece in pieces:
            first_pfn = max(piece.first_pfn, align_down(window.first_pfn, GROUP_PFNS))
            end_pfn = min(piece.end_pfn, align_up(window.end_pfn, GROUP_PFNS))
            if any(asked.within(first_pfn, end_pfn)):
                vaddr = piece.vaddr + (first_pfn - piece.first_pfn) * self._plan.page_size
                part = MemMapPiece(first_pfn, end_pfn, vaddr, piece.online)
                located.append(
                    pfnlists.locate(part, self._plan.page_size, self._memory, self._loads)
                )
        return located

    def _take(self, lists: PfnLists, request: bytes, window: Bitmap, tally: Tally) -> None:
        lists.judge(request, self._end_pfn, window, tally)


class AutoScan:
    """The kernel's judging until it cannot, from then on that of user space.

    A window that the kernel left half done is judged again, as if nothing had happened.
    """

    def __init__(self, vmcore: Vmcore, described: PageSet, plan: Plan) -> None:
        self.judged_in: frozenset[FilterIn] = frozenset()
        self.why_user: Optional[PydumpfileError] = None  # untraced: frames would refer to this
        self._user_scan = UserScan(vmcore, described, plan)
        self._kernel_scan: Optional[KernelScan] = None
        try:
            self._kernel_scan = KernelScan(vmcore, described, plan)
        except UnsupportedError as error:
            self.why_user = error.with_traceback(None)

    def judge(self, pieces: Sequence[MemMapPiece], window: Bitmap, tally: Tally) -> None:
        """See :meth:`pydumpfile.filter.scan.Scan.judge`."""
        if self._kernel_scan is not None:
            bits, counters = bytes(window.bits), deepcopy(vars(tally))
            try:
                self._kernel_scan.judge(pieces, window, tally)
            except (FormatError, InputError, UnsupportedError) as error:
                where = f"pages from pfn {window.first_pfn:#x} on"
                self.why_user = error.within(where).with_traceback(None)
                self._kernel_scan = None
                window.bits[:] = bits
                vars(tally).update(counters)
            else:
                self.judged_in |= {FilterIn.KERNEL}
                return
        self.judged_in |= {FilterIn.USER}
        self._user_scan.judge(pieces, window, tally)

    def watch(self, stopwatch: Stopwatch, reading: str, judging: str) -> None:
        """See :meth:`pydumpfile.filter.scan.Scan.watch`."""
        for scan in (self._kernel_scan, self._user_scan):
            if scan is not None:
                scan.watch(stopwatch, reading, judging)


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
