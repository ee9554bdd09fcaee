# SPDX-License-Identifier: GPL-2.0-or-later
"""One job, from source to sink: judge all pages, then copy those that are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional, Union

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import UsageError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.kept import KeptPages
from pydumpfile.filter.level import Kind, Level
from pydumpfile.formats.kdump import UTSNAME_SIZE
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.packing import make_packer
from pydumpfile.packing.pipeline import Copier, Crew, n_copiers
from pydumpfile.progress import Progress, Throttled
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.kdump import KdumpSink, Subject

if TYPE_CHECKING:
    from pydumpfile.sinks.split import SplitSink
    from pydumpfile.stopwatch import Stopwatch

JUDGING_STAGES = (
    "reading mem_map", "judging struct pages", "finding zero pages", "writing the bitmaps",
)  # fmt: skip
COPYING_STAGES = (
    "listing pages", "reading pages", "zero test, compressing", "laying out", "writing pages",
)  # fmt: skip
"""What a stopwatch is told of both steps."""


class Statistics:
    """What became of the pages of one dump. All counts are pages; none is counted twice."""

    compressor: str
    """What compressed the pages, as told to people: codec, library and level."""
    existing: int
    """Pages of the 1st bitmap: what the machine had as memory."""
    max_pfn: int
    """One past the last of them."""
    left_out: dict[Kind, int]
    filtered_before: int
    """Pages the source itself no longer has."""
    kept: int
    """Pages that the level keeps, zero pages and lost ones included."""
    zero: int
    """Kept pages that share the one zero page; only looked for with level bit 1."""
    lost: int
    """Pages to keep that could not be read from the source, so that the dump lacks them."""
    bytes_written: int
    """Size of the dump, or of the stream, as it would be copied; of all parts together."""
    dry_run: bool
    """Nothing was written, only counted."""
    holes: Optional[int]
    """Pages that an ELF core has no bytes for: what is left out in too short a run is there, as
    zeros. None of other formats."""
    judged_in: frozenset[FilterIn]
    """Who judged struct pages: KERNEL, USER, or first that one, then this; nobody if none
    mattered."""
    why_user: str
    """Why the kernel did not, or not all of them, where it was to be tried."""

    def __init__(
        self, path: str = "", release: str = "", level: int = 0, compression: str = "",
        compressor: str = "", page_size: int = 0, existing: int = 0, kept: int = 0, zero: int = 0,
        lost: int = 0,
    ) -> None:  # fmt: skip
        self.path = path
        self.release = release
        self.level = level
        self.compression = compression
        self.compressor = compressor or compression
        self.page_size = page_size
        self.existing = existing
        self.max_pfn = 0
        self.left_out = {}
        self.filtered_before = 0
        self.kept = kept
        self.zero = zero
        self.lost = lost
        self.bytes_written = 0
        self.dry_run = False
        self.holes = None
        self.judged_in = frozenset()
        self.why_user = ""
        self.scan_seconds = 0.0
        self.copy_seconds = 0.0
        self.source_incomplete = False
        self.warnings: list[str] = []

    def count(self, page_filter: PageFilter) -> None:
        """Take over what ``page_filter`` has counted; it has judged all pages."""
        left_out = page_filter.tally.left_out
        self.left_out = {kind: left_out[kind] for kind in Kind}
        self.filtered_before = self.existing - page_filter.candidates.total
        self.kept = page_filter.candidates.total - sum(left_out)
        if page_filter.scan is not None:
            self.judged_in = page_filter.scan.judged_in
            self.why_user = str(page_filter.scan.why_user or "")

    @property
    def incomplete(self) -> bool:
        """Pages are missing that should be there, as far as is known."""
        return self.lost > 0 or self.source_incomplete

    @property
    def stored(self) -> int:
        """Pages whose content is in the dump."""
        return self.kept - self.zero - self.lost


def dump_vmcore(
    vmcore: Vmcore,
    target: Target,
    level: Level,
    compression: str,
    progress: Optional[Progress] = None,
    n_threads: int = 1,
    compression_level: Optional[int] = None,
    stopwatch: Optional[Stopwatch] = None,
    without_unused_mem_map: bool = False,
    filter_in: FilterIn = FilterIn.USER,
) -> Statistics:
    """Write the dump of ``vmcore`` at ``level`` to ``target``.

    Whatever can be found wrong with the input is found before ``target`` is touched.

    :param compression: one of :data:`pydumpfile.codecs.NAMES`.
    :param n_threads: threads that read and compress; the dump is the same for any number.
    :param compression_level: in the codec's own numbers; None is its fastest that is worthwhile.
    :param stopwatch: told what the stages of this dump take, if there is one.
    :param without_unused_mem_map: leave out as well the struct pages that only describe pages left
        out.
    :param filter_in: where pages are judged; the dump is the same.
    :raises PydumpfileError: one of its kinds; ``target``, if created, is marked incomplete then,
        and a stream has no end mark.
    """
    page_filter = PageFilter(vmcore, level, without_unused_mem_map, filter_in=filter_in)
    job = _Job(page_filter, target, compression, progress, n_threads, compression_level)
    return job.run(stopwatch)


class _Job:
    """The steps of one dump, in order."""

    def __init__(
        self, page_filter: PageFilter, target: Target, compression: str,
        progress: Optional[Progress], n_threads: int, compression_level: Optional[int],
    ) -> None:  # fmt: skip
        if n_threads < 1:
            raise UsageError(f"{n_threads} threads cannot do anything; at least one is needed")
        self._vmcore = vmcore = page_filter.vmcore
        self._target = target
        self._progress = Throttled(progress)
        self._n_threads = n_threads
        self._filter = page_filter
        level = page_filter.level
        self._share_zero = bool(level & Level.ZERO)
        self._copiers = [
            Copier(
                vmcore.source.another(),
                make_packer(1 << vmcore.page_shift, compression, compression_level),
                vmcore.page_shift,
                self._share_zero,
            )
            for _ in range(n_copiers(n_threads))
        ]
        self._codec = self._copiers[0].codec
        self._statistics = Statistics(
            path=target.path,
            release=vmcore.facts.release if vmcore.facts else "",
            level=int(level),
            compression=compression,
            compressor=self._codec.told,
            page_size=1 << vmcore.page_shift,
            existing=self._filter.exists.total,
        )
        self._statistics.source_incomplete = vmcore.source.incomplete
        self._statistics.max_pfn = self._filter.max_pfn
        self._statistics.dry_run = target.dry_run

    def run(self, stopwatch: Optional[Stopwatch]) -> Statistics:
        sink = self._open_sink()
        if stopwatch is not None:
            self._watch(stopwatch, sink)
        kept = KeptPages(self._filter, sink.read_bitmap2 if sink.reads_back else None)
        try:
            self._judge(sink, kept)
            self._copy(sink, kept)
            sink.finish(complete=not self._statistics.incomplete)
            self._statistics.bytes_written = sink.size
        finally:
            sink.close()
        warnings = warnings_of(self._filter, self._statistics, "not in the dump")
        self._statistics.warnings.extend(warnings)
        return self._statistics

    def _open_sink(self) -> Union[KdumpSink, SplitSink]:
        subject, target, files = self._subject(), self._target, self._vmcore.files
        if not target.parts:
            return KdumpSink(open_output(target, *files), subject, self._codec.flag)
        from pydumpfile.sinks.split import SplitSink, open_parts  # noqa: PLC0415

        block_pfns = target.splitblock_size >> self._vmcore.page_shift
        return SplitSink(
            open_parts(target, *files), subject, self._codec.flag, block_pfns, target.all_or_nothing
        )

    def _watch(self, stopwatch: Stopwatch, sink: Union[KdumpSink, SplitSink]) -> None:
        """Have all stages timed."""
        read_mem_map, judge, _, write_bitmaps = JUDGING_STAGES
        take, read, encode, lay_out, write_pages = COPYING_STAGES
        self._filter.watch(stopwatch, read_mem_map, judge)
        stopwatch.attach(sink, "write_bitmap1", write_bitmaps)
        stopwatch.attach(sink, "write_bitmap2", write_bitmaps)
        for copier in self._copiers:
            copier.watch(stopwatch, take, read, encode, lay_out)
        stopwatch.attach(sink, "write_batch", write_pages)

    def _subject(self) -> Subject:
        vmcore, source = self._vmcore, self._vmcore.source
        return Subject(
            page_size=1 << vmcore.page_shift,
            utsname=vmcore.utsname_bytes or bytes(UTSNAME_SIZE),
            crash_time=vmcore.crash_time,
            max_mapnr=self._filter.max_pfn,
            nr_cpus=source.nr_cpus,
            phys_base=vmcore.phys_base,
            dump_level=int(self._filter.level),
            notes_size=source.notes_size,
            vmcoreinfo_off=source.vmcoreinfo_off,
            vmcoreinfo_size=len(source.vmcoreinfo or b""),
            eraseinfo=source.eraseinfo,
            lacks_mem_map=source.lacks_mem_map or self._filter.without_unused_mem_map,
        )

    def _judge(self, sink: Union[KdumpSink, SplitSink], kept: KeptPages) -> None:
        """Write notes and both bitmaps."""
        started = time.monotonic()
        statistics, page_filter = self._statistics, self._filter
        sink.write_headers()
        sink.write_notes(self._vmcore.source.iter_notes())
        for bounds in page_filter.window_bounds():
            existing = Bitmap(*bounds)
            page_filter.exists.mark(existing)
            sink.write_bitmap1(existing)
        for window in kept.judged():
            sink.write_bitmap2(window)
            self._progress("judging pages", window.end_pfn, page_filter.max_pfn)
        statistics.count(page_filter)
        statistics.scan_seconds = time.monotonic() - started

    def _copy(self, sink: Union[KdumpSink, SplitSink], kept: KeptPages) -> None:
        """Write the pages that the 2nd bitmap keeps."""
        started = time.monotonic()
        statistics = self._statistics
        self._vmcore.source.drop_views()  # the copiers have windows of their own

        def write(copier: Copier) -> None:
            packed = copier.lay_out(sink.next_data_off, sink.zero_off)
            sink.write_batch(packed.descriptors, packed.data, copier.lost)

        sink.start_pages(statistics.kept, self._share_zero)
        done = 0
        windows = sink.in_turns(kept.again())
        may_block = not sink.reads_back
        with Crew(windows, self._copiers, self._n_threads, write, may_block) as crew:
            for copier in crew:
                statistics.zero += copier.n_zero
                statistics.lost += len(copier.lost)
                done += copier.n_pages
                self._progress("copying pages", done, statistics.kept)
        statistics.copy_seconds = time.monotonic() - started


def warnings_of(page_filter: PageFilter, statistics: Statistics, lost_are: str) -> Iterator[str]:
    """What the operator has to know although the dump could be written, of any format.

    :param lost_are: where the pages are that could not be read.
    """
    vmcore = page_filter.vmcore
    yield from page_filter.doubts()
    if statistics.lost:
        yield (
            f"{statistics.lost} pages could not be read and are {lost_are}, which stays marked "
            "incomplete; all others are as they were"
        )
    if statistics.source_incomplete:
        why = "has no end mark" if vmcore.source.lacks_end_mark else "is marked incomplete"
        yield f"{vmcore.source.path} {why}; what was made of it is marked incomplete"
    if vmcore.source.is_live:
        yield "this is the memory of a running kernel, which changed meanwhile"
    if not vmcore.utsname_bytes:
        yield "the kernel's name and version could not be read"
