# SPDX-License-Identifier: GPL-2.0-or-later
"""The 2nd bitmap, a window at a time: which existing pages a dump level keeps.

It takes together what struct pages say (:mod:`.scan`), what is offline, and what the zones' free
lists say where struct pages do not; and carries over what crosses the end of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import FaultError, FormatError, MissingFactError, PydumpfileError
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.freelist import FreeLists
from pydumpfile.filter.level import Kind, Level
from pydumpfile.filter.plan import make_plan, marks_free_pages, needs_scan, tells_slab
from pydumpfile.filter.scan import Scan, make_scan
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


class PageFilter:
    """Which pages of one dead kernel one level keeps.

    :param without_unused_mem_map: leave out as well what of mem_map only describes pages that are
        left out; costs judging them all twice.
    :param as_makedumpfile: take for memory what makedumpfile does: not the pages of which only a
        part exists, but those that are offline.
    :param filter_in: where struct pages are judged.
    :raises UnsupportedError: that has to be in the kernel, and cannot.
    :raises MissingFactError: the level needs to know more than the kernel says.
    :raises FaultError: the kernel's tables cannot be read.
    """

    def __init__(
        self, vmcore: Vmcore, level: Level, without_unused_mem_map: bool = False,
        as_makedumpfile: bool = False, filter_in: FilterIn = FilterIn.USER,
    ) -> None:  # fmt: skip
        self.vmcore = vmcore
        before = Level(vmcore.source.dump_level or 0)
        self.level = level | before
        """What was asked for, and what the source went through before."""
        self.tally = Tally()
        self._as_makedumpfile = as_makedumpfile
        self._filter_in = filter_in
        self.exists = self._pages(vmcore.source.exists)
        """Pfns of the 1st bitmap."""
        self.max_pfn = self.exists.end
        self.scan: Optional[Scan] = None
        """What looks at struct pages, if they matter."""
        self.undescribed_sections = 0
        """Sections of memory kept whole because their mem_map cannot be found."""
        self._straddles = False
        self._keeps_user_data = False
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
                if isinstance(error, FaultError):
                    error.message += "; -d 0 and -d 1 do without"
                raise
            self.handicap = error

    def _pages(self, memory: AddressSet) -> PageSet:
        """The pfns of physical addresses."""
        if self._as_makedumpfile and isinstance(memory, Ranges):  # others have only whole pages
            return memory.whole_pages(self.vmcore.page_shift)
        return memory.pages(self.vmcore.page_shift)

    def _prepare(self, vmcore: Vmcore, facts: Facts) -> None:
        self._mem_map = vmcore.mem_map
        self.undescribed_sections = self._mem_map.bad_sections
        # Memory past the last struct page was none to the kernel (mem=), only to the firmware.
        self.max_pfn = min(self.max_pfn, self._mem_map.end_pfn)
        self.exists = self.exists.clipped(0, self.max_pfn)
        self.candidates = self.candidates.clipped(0, self.max_pfn)
        # What a dump lacks was judged before, and belongs to what is judged now: a free block is
        # known by its first page. An ELF core's holes are as if there had never been memory.
        is_dump = vmcore.source.dump_level is not None
        described = self.exists if is_dump else self.candidates
        scan = make_scan(self._filter_in, vmcore, described, make_plan(facts, self.level))
        self._keeps_user_data = bool(self.level & Level.USER) and not tells_slab(facts)
        if self.level & Level.FREE and not marks_free_pages(facts):
            self._free_lists = FreeLists(vmcore)
        if needs_scan(facts, self.level):
            self.scan = scan

    def watch(self, stopwatch: Stopwatch, reading: str, judging: str) -> None:
        """Have the two stages of a scan timed, under these names."""
        if self.scan is not None:
            self.scan.watch(stopwatch, reading, judging)

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
        if self._keeps_user_data:
            yield (
                "user data kept because nothing tells slab from it (NUMBER(PG_slab) or "
                "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)); give -x, or for -i what pydumpfile -g made"
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
            self.vmcore, self.level, self.without_unused_mem_map, self._as_makedumpfile,
            self._filter_in,
        )  # fmt: skip

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
        first = self.another()
        first.scan = self.scan
        for window in first._judged():
            unused.see(window)
        return unused

    def _judged(self) -> Iterator[Bitmap]:
        """The windows by the pages' own struct pages and the free lists."""
        for first_pfn, end_pfn in self.window_bounds():
            window = Bitmap(first_pfn, end_pfn)
            self.candidates.mark(window)
            for kind, spill_pfn in enumerate(self.tally.spill_pfn):
                self.tally.left_out[kind] += window.clear_range(first_pfn, spill_pfn)
            if self.scan is not None:
                self._scan_window(self.scan, window)
            if self._free_lists is not None:
                for block in self._free_lists.blocks(self.tally):
                    self.tally.left_out[Kind.FREE] += window.clear_range(*block)
            yield window

    def _scan_window(self, scan: Scan, window: Bitmap) -> None:
        """Judge what is online; the other pages go as they are, if nobody before spoke for them."""
        online: list[MemMapPiece] = []
        offline: list[MemMapPiece] = []
        for piece in self._mem_map.within(window.first_pfn, window.end_pfn):
            (online if piece.online or self._as_makedumpfile else offline).append(piece)
        scan.judge(online, window, self.tally)
        for piece in offline:
            dropped = window.clear_range(piece.first_pfn, piece.end_pfn)
            self.tally.left_out[Kind.OFFLINE] += dropped
