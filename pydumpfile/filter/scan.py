# SPDX-License-Identifier: GPL-2.0-or-later
"""Struct pages read and judged here, in user space: the drive around the loop that judges them.

It walks mem_map in blocks, and hands each block to the C (or its reference).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Optional, Protocol

from pydumpfile import loops
from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import FaultError, PydumpfileError
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.level import Kind
from pydumpfile.filter.plan import Plan
from pydumpfile.filter.tally import Tally
from pydumpfile.kernel.memmap import MemMapPiece
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.pfn import PageSet, align_down, align_up

if TYPE_CHECKING:
    from pydumpfile.stopwatch import Stopwatch

_BLOCK_PFNS = 32 << 10
"""Struct pages read at once: 2 MiB of them, one x86_64 section."""
GROUP_PFNS = 512
"""Pages that no compound page smaller than a group straddles; its last is never a head."""


class Scan(Protocol):
    """Whoever judges pages by their struct pages; the outcome is the same, bit for bit."""

    judged_in: frozenset[FilterIn]
    """Who has judged so far: KERNEL, USER, or one after the other."""
    why_user: Optional[PydumpfileError]
    """Why the kernel does not do it, where it was to be tried."""

    def judge(self, pieces: Sequence[MemMapPiece], window: Bitmap, tally: Tally) -> None:
        """Clear the bits in ``window`` of the pages that go, of those that ``pieces`` describe.

        :param pieces: all that have a pfn in the window, ascending, but for those offline.
        :param tally: counted up; has to be the same from window to window.
        """

    def watch(self, stopwatch: Stopwatch, reading: str, judging: str) -> None:
        """Have the two stages timed, under these names."""


def make_scan(filter_in: FilterIn, vmcore: Vmcore, described: PageSet, plan: Plan) -> Scan:
    """Judging where ``filter_in`` says.

    :param described: pfns of which the file knows, so that their struct pages mean something.
    :raises UnsupportedError: it has to be the kernel, and cannot.
    """
    if filter_in is FilterIn.USER:
        return UserScan(vmcore, described, plan)
    from pydumpfile.filter.kernel_scan import AutoScan, KernelScan  # noqa: PLC0415

    if filter_in is FilterIn.KERNEL:
        return KernelScan(vmcore, described, plan)
    return AutoScan(vmcore, described, plan)


class Classifier(Protocol):
    """What judges a block: the C or its reference."""

    def classify(
        self, pages: memoryview, block_pfn: int, first_pfn: int, end_pfn: int,
        window: Bitmap, tally: Tally,
    ) -> None:  # fmt: skip
        """See :meth:`pydumpfile.filter.native.NativeClassifier.classify`."""

    def pass_free(
        self, pages: memoryview, block_pfn: int, first_pfn: int, end_pfn: int,
        window: Bitmap, tally: Tally,
    ) -> None:  # fmt: skip
        """See :meth:`pydumpfile.filter.native.NativeClassifier.pass_free`."""


def make_classifier(plan: Plan) -> Classifier:
    """The loop that was asked for; there is no falling back."""
    if loops.in_python():
        from pydumpfile.filter.reference import ReferenceClassifier  # noqa: PLC0415

        return ReferenceClassifier(plan)
    from pydumpfile.filter.native import NativeClassifier  # noqa: PLC0415

    return NativeClassifier(plan)


class UserScan:
    """See :class:`Scan`."""

    judged_in = frozenset((FilterIn.USER,))
    why_user: Optional[PydumpfileError] = None

    def __init__(self, vmcore: Vmcore, described: PageSet, plan: Plan) -> None:
        self._memory = vmcore.memory
        self._described = described
        self._plan = plan
        self._classifier = make_classifier(plan)
        self._among_free = False
        """All pages judged last were free, so that the next may be."""

    def by(self, variant: str) -> UserScan:
        """The same by another variant of the loop in C, for comparison: see :mod:`.variants`."""
        from pydumpfile.filter.native import NativeClassifier  # noqa: PLC0415

        twin = copy(self)
        twin._classifier = NativeClassifier(self._plan, variant)
        return twin

    def judge(self, pieces: Sequence[MemMapPiece], window: Bitmap, tally: Tally) -> None:
        """See :meth:`Scan.judge`."""
        for piece in pieces:
            tally.enter(piece.first_pfn)
            start = max(piece.first_pfn, window.first_pfn)
            end = min(piece.end_pfn, window.end_pfn)
            for first_pfn, end_pfn in self._described.within(start, end):
                while first_pfn < end_pfn:
                    stop_pfn = min(end_pfn, align_down(first_pfn, _BLOCK_PFNS) + _BLOCK_PFNS)
                    self._judge_block(piece, first_pfn, stop_pfn, window, tally)
                    first_pfn = stop_pfn

    def watch(self, stopwatch: Stopwatch, reading: str, judging: str) -> None:
        """See :meth:`Scan.watch`."""
        stopwatch.attach(self, "_struct_pages", reading)
        stopwatch.attach(self, "_first_struct_pages", reading)
        stopwatch.attach(self._classifier, "classify", judging)
        stopwatch.attach(self._classifier, "pass_free", judging)

    def _judge_block(
        self, piece: MemMapPiece, first_pfn: int, end_pfn: int, window: Bitmap, tally: Tally
    ) -> None:
        """Judge ``[first_pfn, end_pfn)`` of it; where all before was free that may go on."""
        n_free, n_pages = tally.left_out[Kind.FREE], end_pfn - first_pfn
        if self._among_free:
            self._pass_free(piece, first_pfn, end_pfn, window, tally)
            first_pfn = max(first_pfn, tally.resume_pfn)
        if first_pfn < end_pfn:
            # Whole groups, so that every compound head has its second struct page beside it.
            block_pfn = align_down(first_pfn, GROUP_PFNS)
            block_end = min(piece.end_pfn, align_up(end_pfn, GROUP_PFNS))
            pages, lost = self._struct_pages(piece, block_pfn, block_end)
            self._classifier.classify(pages, block_pfn, first_pfn, end_pfn, window, tally)
            tally.unreadable += sum(first_pfn <= pfn < end_pfn and pfn in window for pfn in lost)
        self._among_free = tally.left_out[Kind.FREE] - n_free >= n_pages

    def _pass_free(
        self, piece: MemMapPiece, first_pfn: int, end_pfn: int, window: Bitmap, tally: Tally
    ) -> None:
        """Judge the largest free blocks, by nothing but the first struct page of each."""
        step = 1 << max(self._plan.max_order - 1, 0)
        if not self._plan.max_order or first_pfn % step or first_pfn < tally.resume_pfn:
            return
        pages = self._first_struct_pages(piece, first_pfn, end_pfn, step)
        if pages is not None:
            self._classifier.pass_free(pages, first_pfn, first_pfn, end_pfn, window, tally)

    def _first_struct_pages(
        self, piece: MemMapPiece, first_pfn: int, end_pfn: int, step: int
    ) -> Optional[memoryview]:
        """Struct pages of ``[first_pfn, end_pfn)``, of which only every ``step``-th is right.

        None where that would cost as much as all of them.
        """
        size = self._plan.page_size
        vaddr = piece.vaddr + (first_pfn - piece.first_pfn) * size
        firsts = range(0, (end_pfn - first_pfn) * size, step * size)
        try:
            return self._memory.glance(vaddr, firsts.stop, [(at, at + size) for at in firsts])
        except FaultError:
            return None

    def _struct_pages(
        self, piece: MemMapPiece, first_pfn: int, end_pfn: int
    ) -> tuple[memoryview, list[int]]:
        """Struct pages of ``[first_pfn, end_pfn)``, and the pfns whose struct page is unreadable.

        Those are zeros, which says: keep the page.
        """
        size = self._plan.page_size
        vaddr = piece.vaddr + (first_pfn - piece.first_pfn) * size
        n_bytes = (end_pfn - first_pfn) * size
        try:
            return self._memory.view(vaddr, n_bytes), []
        except FaultError:
            salvaged, lost = self._memory.salvage(vaddr, n_bytes, size)
            return memoryview(salvaged), [first_pfn + i for i in lost]
