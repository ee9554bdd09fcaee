# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes one dump as several files, so that several disks share the work.

Each part is a kdump-compressed file with the headers and bitmaps of the whole dump and the data of
some of its pages: those from one boundary to the next. The boundaries are makedumpfile's: multiples
of the split block, chosen so that each part has about the same number of pages.

Parts that are written to disks of their own should not wait for each other, so the pages come in
turns, a piece of each part at a time. The parts are marked complete together, when all of them are
on their disks: readers refuse a set in which some are and some are not. Where the pages of one have
no space, the others get theirs all the same.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Callable, Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import OutputError, UsageError
from pydumpfile.formats.kdump import DESCRIPTOR_SIZE
from pydumpfile.pfn import Range, align_up
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.base import Bytes, Input, Output, check_creatable
from pydumpfile.sinks.kdump import KdumpSink, Subject

_TURN_PFNS = 16 << 10
"""Pages of one turn at most: 64 MiB of memory."""
_BOUNDARY_PFNS = 64
"""Parts end at multiples of this: crash looks at whole words of the bitmap, and takes other pages
for those it is asked for if a part starts inside one."""
_MAX_BLOCKS = 1 << 20
_DATA_BUFFERS_SIZE = 2 << 20
_LEAST_DATA_BUFFER_SIZE = 64 << 10


class SplitSink:
    """The parts on their way; used as :class:`pydumpfile.sinks.kdump.KdumpSink` is.

    :param outputs: of the parts, in order; all are closed with this.
    :param block_pfns: the boundaries are multiples of it, or of more where that is no multiple of
        64, or would make a million blocks of the machine.
    :param all_or_nothing: give up all parts with the first that has no space for its pages.
    """

    def __init__(
        self, outputs: Sequence[Output], subject: Subject, codec_flag: int, block_pfns: int,
        all_or_nothing: bool = False,
    ) -> None:  # fmt: skip
        buffer_size = max(_DATA_BUFFERS_SIZE // len(outputs), _LEAST_DATA_BUFFER_SIZE)
        self._sinks = [
            KdumpSink(output, subject, codec_flag, (0, 0), buffer_size) for output in outputs
        ]
        self._max_mapnr = subject.max_mapnr
        self._block_pfns = align_up(block_pfns, _BOUNDARY_PFNS)
        while subject.max_mapnr > self._block_pfns * _MAX_BLOCKS:
            self._block_pfns *= 2
        self._kept = array("Q", bytes(8 * -(-subject.max_mapnr // self._block_pfns)))
        """Pages of the 2nd bitmap, by block."""
        self._windows: list[Range] = []
        self._parts: list[Range] = []
        self._turns: deque[tuple[int, int]] = deque()
        """Whose pages come next, and how many of them; one turn after the other."""
        self._all_or_nothing = all_or_nothing
        self._failed: set[int] = set()
        """Parts that get no pages any more."""
        self._failure: Optional[OutputError] = None
        """Of the first of them, still to be raised."""

    @property
    def reads_back(self) -> bool:
        """Whether :meth:`read_bitmap2` can be asked."""
        return self._sinks[0].reads_back

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(sink.size for sink in self._sinks)

    @property
    def zero_off(self) -> int:
        """Where the shared zero page of the next batch is."""
        return self._next().zero_off

    @property
    def next_data_off(self) -> int:
        """File offset, in its part, at which the data of the next batch will lie."""
        return self._next().next_data_off

    def write_headers(self) -> None:
        """To all parts; which pages they have is not known yet."""
        for sink in self._sinks:
            sink.write_headers()

    def write_notes(self, pieces: Iterable[bytes]) -> None:
        """To all parts."""
        done = 0
        for piece in pieces:
            for sink in self._sinks:
                sink.write_notes((piece,), done)
            done += len(piece)

    def write_bitmap1(self, window: Bitmap) -> None:
        """To all parts."""
        for sink in self._sinks:
            sink.write_bitmap1(window)

    def write_bitmap2(self, window: Bitmap) -> None:
        """To all parts."""
        for sink in self._sinks:
            sink.write_bitmap2(window)
        self._windows.append((window.first_pfn, window.end_pfn))
        for first_pfn, end_pfn in _cut((window.first_pfn, window.end_pfn), self._block_pfns):
            n = _slice(window, first_pfn, end_pfn).count()
            self._kept[first_pfn // self._block_pfns] += n

    def read_bitmap2(self, first_pfn: int, end_pfn: int) -> Bitmap:
        """The bits ``[first_pfn, end_pfn)`` of the 2nd bitmap, if the outputs read back."""
        sound = set(range(len(self._sinks))) - self._failed
        return self._sinks[min(sound, default=0)].read_bitmap2(first_pfn, end_pfn)

    def start_pages(self, n_pages: int, share_zero: bool) -> None:
        """All bitmaps are written; decide which pages each part gets."""
        ends = share_out(self._kept, len(self._sinks))
        for sink, block, end in zip(self._sinks, [0, *ends], ends):
            start_pfn, end_pfn = (
                min(boundary * self._block_pfns, self._max_mapnr) for boundary in (block, end)
            )
            self._parts.append((start_pfn, end_pfn))
            sink.set_part((start_pfn, end_pfn))
            if share_zero or any(self._kept[block:end]):  # else it ends with the bitmaps
                sink.start_pages(n_pages, share_zero)

    def in_turns(self, windows: Iterable[Bitmap]) -> Iterator[Bitmap]:
        """The 2nd bitmap in pieces of one part each, a piece of every part in turn.

        :param windows: all of it, ascending; used only where it cannot be read back, and then the
            parts come one after the other.
        """
        pieces = self._read_in_turns() if self.reads_back else self._cut_at_boundaries(windows)
        for i, piece in pieces:
            if i not in self._failed:
                self._turns.append((i, piece.count()))
                yield piece

    def write_batch(self, descriptors: Bytes, data: Bytes, lost: Collection[int] = ()) -> None:
        """Pages that :meth:`in_turns` gave next, none but those of one turn."""
        i, n_left = self._next_turn()
        n_left -= len(descriptors) // DESCRIPTOR_SIZE + len(lost)
        assert n_left >= 0, "a batch has pages of two parts"
        self._turns[0] = (i, n_left)
        if i not in self._failed:
            try:
                self._sinks[i].write_batch(descriptors, data, lost)
            except OutputError as error:
                self._fail(i, error)
            if self._all_or_nothing and self._failure is not None and self._failure.lacks_space:
                self._raise_failure()

    def finish(self, complete: bool) -> None:
        """Mark all parts complete, if they are, when all of them are on the disk."""
        for i, sink in enumerate(self._sinks):
            if i not in self._failed:
                try:
                    sink.settle()
                except OutputError as error:
                    self._fail(i, error)
        self._raise_failure()
        for sink in self._sinks:
            sink.end(complete)

    def close(self) -> None:
        """Let go of the files."""
        for sink in self._sinks:
            sink.close()

    def _fail(self, i: int, error: OutputError) -> None:
        """Part ``i`` ends here; the others may be on disks of their own."""
        self._failed.add(i)
        if self._failure is None:
            # Without what it came through, see pydumpfile.packing.pipeline.Crew.
            error.__cause__ = error.__context__ = None
            self._failure = error.with_traceback(None)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure

    def _next(self) -> KdumpSink:
        return self._sinks[self._next_turn()[0]]

    def _next_turn(self) -> tuple[int, int]:
        while not self._turns[0][1]:
            self._turns.popleft()
        return self._turns[0]

    def _read_in_turns(self) -> Iterator[tuple[int, Bitmap]]:
        """Index of the part, and the piece."""
        unfinished = [(i, self._turns_of(part)) for i, part in enumerate(self._parts)]
        while unfinished:
            for turns in list(unfinished):
                bounds = next(turns[1], None)
                if bounds is None:
                    unfinished.remove(turns)
                else:
                    yield turns[0], self.read_bitmap2(*bounds)

    def _turns_of(self, part: Range) -> Iterator[Range]:
        for window in self._windows:
            yield from _cut(_common(part, window), _TURN_PFNS)

    def _cut_at_boundaries(self, windows: Iterable[Bitmap]) -> Iterator[tuple[int, Bitmap]]:
        for window in windows:
            for i, part in enumerate(self._parts):
                start_pfn, end_pfn = _common(part, (window.first_pfn, window.end_pfn))
                if start_pfn < end_pfn:
                    yield i, _slice(window, start_pfn, end_pfn)


def open_parts(target: Target, *inputs: Input) -> list[Output]:
    """Open all files of ``target.parts``; see :func:`pydumpfile.sinks.open_output`.

    Nothing is created or overwritten if any of them cannot be.

    :raises UsageError: two of them are the same file.
    """
    _refuse_the_same(target.parts, os.path.realpath)
    if not target.dry_run:
        for path in target.parts:
            check_creatable(path, target.overwrite, *inputs)
        _refuse_the_same([path for path in target.parts if os.path.exists(path)], _inode)
    outputs: list[Output] = []
    try:
        for path in target.parts:
            outputs.append(open_output(target._replace(path=path), *inputs))
        if not target.dry_run:
            _refuse_the_same(target.parts, _inode)  # where case does not matter, say
    except BaseException:
        for output in outputs:
            output.close()
        raise
    return outputs


def _refuse_the_same(paths: Sequence[str], identify: Callable[[str], object]) -> None:
    """Raise UsageError if two of ``paths`` are identified as one."""
    seen: dict[object, str] = {}
    for path in paths:
        identity = identify(path)
        if identity in seen:
            raise UsageError(
                f"{seen[identity]} and {path} are the same file; each part needs its own"
            )
        seen[identity] = path


def _inode(path: str) -> object:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def share_out(kept: Sequence[int], n_parts: int) -> list[int]:
    """Up to which block each part goes: as many as give it its share of the pages.

    A part takes blocks until it has the n-th of all pages; the last takes what is left, be it
    nothing.

    :param kept: pages of each block.
    """
    share = sum(kept) // n_parts
    ends = []
    block = 0
    for _ in range(n_parts - 1):
        missing = share
        while missing > 0 and block < len(kept):
            missing -= kept[block]
            block += 1
        ends.append(block)
    return [*ends, len(kept)]


def _common(part: Range, window: Range) -> Range:
    """What they have in common, in whole bytes of the bitmap; start >= end if that is nothing.

    The last part ends at max_mapnr, anywhere in a byte.
    """
    end_pfn = align_up(part[1], 8) if part[0] < part[1] else part[0]
    return max(window[0], part[0]), min(window[1], end_pfn)


def _cut(bounds: Range, at: int) -> Iterator[Range]:
    """``bounds`` in pieces that end at multiples of ``at``."""
    start, end = bounds
    while start < end:
        stop = min(end, start - start % at + at)
        yield start, stop
        start = stop


def _slice(window: Bitmap, first_pfn: int, end_pfn: int) -> Bitmap:
    """A copy of a piece of ``window``."""
    piece = Bitmap(first_pfn, end_pfn)
    start, end = (first_pfn - window.first_pfn) // 8, (end_pfn - window.first_pfn) // 8
    piece.bits[:] = window.bits[start:end]
    return piece
