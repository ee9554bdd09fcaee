# SPDX-License-Identifier: GPL-2.0-or-later
"""The 2nd bitmap, a window at a time: which existing pages a dump level keeps.

The drive around the loop that judges pages: it walks mem_map in blocks, hands each block to the C
(or its reference), and carries over what crosses the end of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional, Protocol

from pydumpfile import loops
from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import FaultError, FormatError, MissingFactError, PydumpfileError
from pydumpfile.filter.freelist import FreeLists
from pydumpfile.filter.level import Kind, Level
from pydumpfile.filter.plan import Plan, make_plan, marks_free_pages, needs_scan
from pydumpfile.filter.tally import Tally
from pydumpfile.kernel.facts import Facts
from pydumpfile.kernel.memmap import MemMapPiece
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.pfn import AddressSet, PageSet, Range, Ranges, align_down, align_up

if TYPE_CHECKING:
    from pydumpfile.filter.vmemmap import UnusedMemMap
    from pydumpfile.stopwatch import Stopwatch

WINDOW_PFNS = 2 << 20
"""Pfns of one window at most: 256 KiB of bitmap, 8 GiB of memory."""
_BLOCK_PFNS = 32 << 10
"""Struct pages read at once: 2 MiB of them, one x86_64 section."""
_GROUP_PFNS = 512
"""Pages that no compound page smaller than a group straddles; its last is never a head."""


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


class PageFilter:
    """Which pages of one dead kernel one level keeps.

    :param without_unused_mem_map: leave out as well what of mem_map only describes pages that are
        left out; costs judging them all twice.
    :param as_makedumpfile: take for memory what makedumpfile does: not the pages of which only a
        part exists, but those that are offline.
    :raises MissingFactError: the level needs to know more than the kernel says.
    :raises FaultError: the kernel's tables cannot be read.
    """

    def __init__(
        self, vmcore: Vmcore, level: Level, without_unused_mem_map: bool = False,
        as_makedumpfile: bool = False,
    ) -> None:  # fmt: skip
        self.vmcore = vmcore
        before = Level(vmcore.source.dump_level or 0)
        self.level = level | before
        """What was asked for, and what the source went through before."""
        self.tally = Tally()
        self._as_makedumpfile = as_makedumpfile
        self.exists = self._pages(vmcore.source.exists)
        """Pfns of the 1st bitmap."""
        self.max_pfn = self.exists.end
        self.scans = False
        """Whether struct pages are looked at."""
        self.undescribed_sections = 0
        """Sections of memory kept whole because their mem_map cannot be found."""
        self._scanned_pfn = -1
        self._among_free = False
        """All pages judged last were free, so that the next may be."""
        self._straddles = False
        self.handicap: Optional[PydumpfileError] = None
        """Why nothing is known of any page, where the level does without."""
        self.candidates = self._pages(vmcore.source.data)
        """Pfns of which the file has a byte; an earlier filter left out the others."""
        self._free_lists: Optional[FreeLists] = None
        self.without_unused_mem_map = without_unused_mem_map
        """Whether what of mem_map only describes pages that are left out is left out as well."""
        try:
            self._prepare(vmcore, vmcore.need_facts())
        except (MissingFactError, FormatError, FaultError) as error:
            if level & ~Level.ZERO & ~before:
                raise
            self.handicap = error

    def _pages(self, memory: AddressSet) -> PageSet:
        """The pfns of physical addresses."""
        if self._as_makedumpfile and isinstance(memory, Ranges):  # others have only whole pages
            return memory.whole_pages(self.vmcore.page_shift)
        return memory.pages(self.vmcore.page_shift)

    def _prepare(self, vmcore: Vmcore, facts: Facts) -> None:
        self._memory = vmcore.memory
        self._mem_map = vmcore.mem_map
        self.undescribed_sections = self._mem_map.bad_sections
        # Memory past the last struct page was none to the kernel (mem=), only to the firmware.
        self.max_pfn = min(self.max_pfn, self._mem_map.end_pfn)
        self.exists = self.exists.clipped(0, self.max_pfn)
        self.candidates = self.candidates.clipped(0, self.max_pfn)
        # What a dump lacks was judged before, and belongs to what is judged now: a free block is
        # known by its first page. An ELF core's holes are as if there had never been memory.
        is_dump = vmcore.source.dump_level is not None
        self._described = self.exists if is_dump else self.candidates
        self._plan = make_plan(facts, self.level)
        self._classifier = make_classifier(self._plan)
        if self.level & Level.FREE and not marks_free_pages(facts):
            self._free_lists = FreeLists(vmcore)
        self.scans = needs_scan(facts, self.level)

    def watch(self, stopwatch: Stopwatch, reading: str, judging: str) -> None:
        """Have the two stages of a scan timed, under these names."""
        if self.scans:
            stopwatch.attach(self, "_struct_pages", reading)
            stopwatch.attach(self, "_first_struct_pages", reading)
            stopwatch.attach(self._classifier, "classify", judging)
            stopwatch.attach(self._classifier, "pass_free", judging)

    def doubts(self) -> Iterator[str]:
        """What the operator has to know of the judging when it is done: pages kept for safety."""
        tally = self.tally
        if self.handicap:
            yield f"no page was judged: {self.handicap}"
        if self.undescribed_sections:
            yield (
                f"{self.undescribed_sections} sections of memory kept whole because their mem_map "
                "cannot be found"
            )
        if tally.unreadable:
            yield f"{tally.unreadable} pages kept because their struct page is unreadable"
        if self._straddles:
            yield "no struct pages were left out: some of them lie across the ends of pages"
        if tally.bad_orders:
            yield f"{tally.bad_orders} free blocks of impossible order: kept"
        if tally.broken_lists:
            yield f"{tally.broken_lists} free lists are broken: the rest of them is kept"

    def another(self) -> PageFilter:
        """A filter like this one that has judged nothing yet."""
        return PageFilter(
            self.vmcore, self.level, self.without_unused_mem_map, self._as_makedumpfile
        )

    def window_bounds(self) -> Iterator[Range]:
        """The windows, ascending: none crosses a multiple of ``WINDOW_PFNS``."""
        window: Optional[Range] = None
        for start_pfn, end_pfn in self.exists:
            while start_pfn < end_pfn:
                stop_pfn = min(end_pfn, align_down(start_pfn, WINDOW_PFNS) + WINDOW_PFNS)
                if window and window[0] // WINDOW_PFNS == start_pfn // WINDOW_PFNS:
                    window = window[0], align_up(stop_pfn, 8)
                else:
                    if window:
                        yield window
                    window = align_down(start_pfn, 8), align_up(stop_pfn, 8)
                start_pfn = stop_pfn
        if window:
            yield window

    def windows(self) -> Iterator[Bitmap]:
        """The 2nd bitmap, window by window; counts in :attr:`tally` as it goes, so go once."""
        if not self.without_unused_mem_map or self.handicap:
            yield from self._judged()
            return
        unused = self._find_unused_mem_map()
        self._straddles = not unused.can_tell
        for window in self._judged():
            self.tally.left_out[Kind.UNUSED_MEM_MAP] += unused.clear(window)
            yield window

    def _find_unused_mem_map(self) -> UnusedMemMap:
        """Judge all pages once, only to see which of mem_map nobody needs then."""
        from pydumpfile.filter.vmemmap import UnusedMemMap  # noqa: PLC0415

        unused = UnusedMemMap(self.vmcore, self.exists)
        for window in PageFilter(self.vmcore, self.level, False, self._as_makedumpfile)._judged():
            unused.see(window)
        return unused

    def _judged(self) -> Iterator[Bitmap]:
        """The windows by the pages' own struct pages and the free lists."""
        for first_pfn, end_pfn in self.window_bounds():
            window = Bitmap(first_pfn, end_pfn)
            self.candidates.mark(window)
            for kind, spill_pfn in enumerate(self.tally.spill_pfn):
                self.tally.left_out[kind] += window.clear_range(first_pfn, spill_pfn)
            if self.scans:
                for piece in self._mem_map.within(first_pfn, end_pfn):
                    if piece.online or self._as_makedumpfile:
                        self._scan(piece, window)
                    else:
                        dropped = window.clear_range(piece.first_pfn, piece.end_pfn)
                        self.tally.left_out[Kind.OFFLINE] += dropped
            if self._free_lists is not None:
                for block in self._free_lists.blocks(self.tally):
                    self.tally.left_out[Kind.FREE] += window.clear_range(*block)
            yield window

    def _scan(self, piece: MemMapPiece, window: Bitmap) -> None:
        """Judge the pages of ``piece`` that lie in the window and that the file knows of."""
        if piece.first_pfn != self._scanned_pfn:
            self._scanned_pfn = piece.first_pfn
            self.tally.resume_pfn = 0
        start = max(piece.first_pfn, window.first_pfn)
        end = min(piece.end_pfn, window.end_pfn)
        for first_pfn, end_pfn in self._described.within(start, end):
            while first_pfn < end_pfn:
                stop_pfn = min(end_pfn, align_down(first_pfn, _BLOCK_PFNS) + _BLOCK_PFNS)
                self._judge_block(piece, first_pfn, stop_pfn, window)
                first_pfn = stop_pfn

    def _judge_block(
        self, piece: MemMapPiece, first_pfn: int, end_pfn: int, window: Bitmap
    ) -> None:
        """Judge ``[first_pfn, end_pfn)`` of it; where all before was free that may go on."""
        tally = self.tally
        n_free, n_pages = tally.left_out[Kind.FREE], end_pfn - first_pfn
        if self._among_free:
            self._pass_free(piece, first_pfn, end_pfn, window)
            first_pfn = max(first_pfn, tally.resume_pfn)
        if first_pfn < end_pfn:
            # Whole groups, so that every compound head has its second struct page beside it.
            block_pfn = align_down(first_pfn, _GROUP_PFNS)
            block_end = min(piece.end_pfn, align_up(end_pfn, _GROUP_PFNS))
            pages, lost = self._struct_pages(piece, block_pfn, block_end)
            tally.unreadable += sum(first_pfn <= pfn < end_pfn and pfn in window for pfn in lost)
            self._classifier.classify(pages, block_pfn, first_pfn, end_pfn, window, tally)
        self._among_free = tally.left_out[Kind.FREE] - n_free >= n_pages

    def _pass_free(self, piece: MemMapPiece, first_pfn: int, end_pfn: int, window: Bitmap) -> None:
        """Judge the largest free blocks, by nothing but the first struct page of each."""
        step = 1 << max(self._plan.max_order - 1, 0)
        if not self._plan.max_order or first_pfn % step or first_pfn < self.tally.resume_pfn:
            return
        pages = self._first_struct_pages(piece, first_pfn, end_pfn, step)
        if pages is not None:
            self._classifier.pass_free(pages, first_pfn, first_pfn, end_pfn, window, self.tally)

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
