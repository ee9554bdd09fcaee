# SPDX-License-Identifier: GPL-2.0-or-later
"""One job, from source to sink, for ELF cores: judge, count the holes, then copy what is kept.

The number of program headers has to be known before the first page is written, so the kept pages
are gone through twice. Nothing is remembered of them but their bitmap, see :mod:`.filter.kept`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.bitruns import runs
from pydumpfile.dump import COPYING_STAGES, JUDGING_STAGES, Statistics, warnings_of
from pydumpfile.errors import FaultError, UnsupportedError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.kept import KeptPages
from pydumpfile.filter.level import Level
from pydumpfile.filter.present import PresentFilter
from pydumpfile.filter.zeropages import NonzeroFilter
from pydumpfile.formats.elf import Phdr
from pydumpfile.formats.elf_loads import Extent, split_load
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.pfn import Range, Ranges, align_down, align_up
from pydumpfile.progress import Progress, Throttled
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.elf import ElfSink
from pydumpfile.sources.elf import ElfSource

if TYPE_CHECKING:
    from pydumpfile.stopwatch import Stopwatch

_CHUNK_SIZE = 4 << 20
"""Bytes copied at once."""


def dump_elf(
    vmcore: Vmcore,
    target: Target,
    level: Level,
    progress: Optional[Progress] = None,
    stopwatch: Optional[Stopwatch] = None,
    as_makedumpfile: bool = False,
    without_unused_mem_map: bool = False,
    filter_in: FilterIn = FilterIn.USER,
) -> Statistics:
    """Write an ELF core of ``vmcore`` at ``level`` to ``target``.

    Left-out pages between kept ones that are too few for a hole are zeros. So are pages that cannot
    be read; those that the core was cut before are left out.

    :param stopwatch: told what the stages of this dump take, if there is one.
    :param as_makedumpfile: byte for byte what makedumpfile would write: what is left out leaks
        where it is too little for a hole; see :class:`pydumpfile.filter.classify.PageFilter` too.
    :param without_unused_mem_map: see :class:`pydumpfile.filter.classify.PageFilter`.
    :param filter_in: where pages are judged; the dump is the same.
    :raises UnsupportedError: ``vmcore`` was not read from an ELF core, of which this takes its
        headers.
    :raises PydumpfileError: one of its kinds; ``target``, if created, is empty or marked incomplete
        then, and a stream has no end mark.
    """
    source = vmcore.source
    if not isinstance(source, ElfSource):
        raise UnsupportedError(f"{source.path}: an ELF core (-E) of what is none itself")
    page_filter = PageFilter(vmcore, level, without_unused_mem_map, as_makedumpfile, filter_in)
    return _ElfJob(source, page_filter, target, progress, as_makedumpfile).run(stopwatch)


class _ElfJob:
    """The steps of one dump, in order."""

    def __init__(
        self, source: ElfSource, page_filter: PageFilter, target: Target,
        progress: Optional[Progress], as_makedumpfile: bool,
    ) -> None:  # fmt: skip
        vmcore = page_filter.vmcore
        self._source = source
        self._reader = source.another()
        self._page_shift = vmcore.page_shift
        self._page_size = 1 << vmcore.page_shift
        self._target = target
        self._progress = Throttled(progress)
        self._as_makedumpfile = as_makedumpfile
        self._filter = page_filter
        self._missing = source.missing.pages(vmcore.page_shift)
        self._present = PresentFilter(page_filter, self._missing)
        self._nonzero = NonzeroFilter(self._present) if page_filter.level & Level.ZERO else None
        self._kept = KeptWindows(KeptPages(self._nonzero or self._present))
        self._lost: list[Range] = []
        self._statistics = Statistics(
            path=target.path,
            release=vmcore.facts.release if vmcore.facts else "",
            level=int(page_filter.level),
            compression="none",
            page_size=self._page_size,
            existing=page_filter.exists.total,
        )
        self._statistics.source_incomplete = source.incomplete
        self._statistics.max_pfn = page_filter.max_pfn
        self._statistics.dry_run = target.dry_run

    def run(self, stopwatch: Optional[Stopwatch]) -> Statistics:
        output = open_output(self._target, *self._filter.vmcore.files)
        try:
            if stopwatch is not None:
                self._watch_judging(stopwatch)
            self._judge()
            n_loads, size = self._plan()
            memory = sum(load.p_memsz for load in self._source.loads)
            self._statistics.holes = (memory - size) // self._page_size
            sink = ElfSink(output, self._source.header, self._source.notes_phdr, n_loads)
            if stopwatch is not None:
                self._watch_copying(stopwatch, sink)
            try:
                self._copy(sink, size)
                self._statistics.lost = self._present.n_missing + Ranges(self._lost).total
                sink.finish(complete=not self._statistics.incomplete)
            except BaseException:  # a signal's too: what is in the file is to be found there
                sink.salvage(self._page_size)
                raise
            self._statistics.bytes_written = output.size
        finally:
            output.close()
        warnings = warnings_of(self._filter, self._statistics, "zeros in the dump")
        self._statistics.warnings.extend(warnings)
        return self._statistics

    def _watch_judging(self, stopwatch: Stopwatch) -> None:
        """Have the stages of this step timed."""
        read_mem_map, judge, find_zero, _ = JUDGING_STAGES
        self._filter.watch(stopwatch, read_mem_map, judge)
        if self._nonzero:
            stopwatch.attach(self._nonzero, "look_through", find_zero)

    def _watch_copying(self, stopwatch: Stopwatch, sink: ElfSink) -> None:
        """Likewise."""
        _, read, _, _, write_pages = COPYING_STAGES
        stopwatch.attach(self._reader, "view", read)
        stopwatch.attach(sink, "write", write_pages)
        stopwatch.attach(sink, "fill", write_pages)

    def _judge(self) -> None:
        """Count what is kept."""
        started = time.monotonic()
        statistics, page_filter = self._statistics, self._filter
        for window in self._kept.judged():
            self._progress("judging pages", window.end_pfn, page_filter.max_pfn)
        statistics.count(page_filter)
        statistics.zero = self._nonzero.n_zero if self._nonzero else 0
        statistics.scan_seconds = time.monotonic() - started

    def _plan(self) -> tuple[int, int]:
        """How many PT_LOADs there will be, and how many bytes in them."""
        n_loads = size = 0
        for load in self._source.loads:
            for part in split_load(load, self._kept_of(load), self._page_size):
                if isinstance(part, Extent):
                    size += part.end - part.start
                else:
                    n_loads += 1
        return n_loads, size

    def _copy(self, sink: ElfSink, size: int) -> None:
        """Write all of the core."""
        started = time.monotonic()
        self._source.drop_views()
        if self._nonzero:
            self._nonzero.drop_views()
        sink.write_headers()
        sink.write_notes(self._source.iter_notes())
        done = 0
        for load in self._source.loads:
            sink.start_segment(load)
            for part in split_load(load, self._kept_of(load), self._page_size):
                if not isinstance(part, Extent):
                    sink.end_load(part)
                    continue
                self._copy_extent(sink, part)
                done += part.end - part.start
                self._progress("copying pages", done // self._page_size, size // self._page_size)
        self._statistics.copy_seconds = time.monotonic() - started

    def _copy_extent(self, sink: ElfSink, extent: Extent) -> None:
        if not (extent.is_kept or self._as_makedumpfile):
            sink.fill(extent.end - extent.start)
            return
        for start in range(extent.start, extent.end, _CHUNK_SIZE):
            end = min(start + _CHUNK_SIZE, extent.end)
            try:
                content = self._reader.view(start, end - start)
            except FaultError:
                self._copy_page_by_page(sink, start, end)
            else:
                sink.write(content)

    def _copy_page_by_page(self, sink: ElfSink, start: int, end: int) -> None:
        """Zeros for bytes that memory or the file does not have, and for those that are lost."""
        while start < end:
            page = align_down(start, self._page_size)
            stop = min(page + self._page_size, end)
            pfn = page >> self._page_shift
            try:
                content = self._reader.read_page(pfn, self._page_shift)
            except FaultError:
                self._lose(pfn)
                sink.fill(stop - start)
            else:
                sink.write(content[start - page : stop - page])
            start = stop

    def _lose(self, pfn: int) -> None:
        if pfn in self._missing:
            return  # counted by who left it out
        if self._lost and self._lost[-1][1] == pfn:
            self._lost[-1] = self._lost[-1][0], pfn + 1
        else:
            self._lost.append((pfn, pfn + 1))

    def _kept_of(self, load: Phdr) -> Iterator[Range]:
        """The physical addresses of ``load`` that are kept, ascending."""
        start, end = load.p_paddr, load.p_paddr + load.p_memsz
        first_pfn = start >> self._page_shift
        end_pfn = align_up(end, self._page_size) >> self._page_shift
        for run in self._kept.runs(first_pfn, end_pfn):
            low, high = (pfn << self._page_shift for pfn in run)
            yield max(low, start), min(high, end)


class KeptWindows:
    """The kept pages in any order, at best ascending: going back costs starting over."""

    def __init__(self, kept: KeptPages) -> None:
        self._kept = kept
        self._windows: Iterator[Bitmap] = iter(())
        self._window: Optional[Bitmap] = None
        """The one that was looked at last."""

    def judged(self) -> Iterator[Bitmap]:
        """All windows, once, before anything else."""
        return self._kept.judged()

    def runs(self, first_pfn: int, end_pfn: int) -> Iterator[Range]:
        """The runs of kept pages inside ``[first_pfn, end_pfn)``, ascending.

        One that crosses the end of a window is told as two.
        """
        if self._window is None or first_pfn < self._window.first_pfn:
            self._windows = self._kept.again()
            self._window = next(self._windows, None)
        while self._window is not None and self._window.first_pfn < end_pfn:
            yield from runs(self._window, first_pfn, end_pfn)
            if end_pfn <= self._window.end_pfn:
                return
            self._window = next(self._windows, None)
