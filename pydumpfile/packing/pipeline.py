# SPDX-License-Identifier: GPL-2.0-or-later
"""From the 2nd bitmap to packed pages: batches on threads, results in pfn order.

The main thread lists batches and lays out results. Between, workers read, find zero pages and
compress, almost all of it in C without the GIL. Nothing is shared: a batch, its window on the
source and its buffers belong to one :class:`Copier`, and how many of those there are bounds the
memory. With one thread the same steps run one after the other, and no other thread is started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pydumpfile.bitmap import Bitmap
from pydumpfile.codecs import Codec
from pydumpfile.errors import FaultError
from pydumpfile.packing import READ_GAP_PAGES, LaidOut, Packer
from pydumpfile.sources.base import Source
from pydumpfile.sources.filebytes import WINDOW_SIZE

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from pydumpfile.stopwatch import Stopwatch


class Copier:
    """One batch of kept pages at a time, from the source to what the dump stores."""

    def __init__(self, source: Source, packer: Packer, page_shift: int, share_zero: bool) -> None:
        self._source = source
        self._packer = packer
        self._page_shift = page_shift
        self._share_zero = share_zero
        self._first_pfn = 0
        self._size = 0
        self.n_pages = 0
        """Pages of the batch."""
        self.n_zero = 0
        """Those of them that are zero, once :meth:`run` is done."""
        self.lost: dict[int, int] = {}
        """Index and pfn of those that could not be read, likewise."""

    @property
    def codec(self) -> Codec:
        """What pages are compressed with."""
        return self._packer.codec

    def watch(
        self, stopwatch: Stopwatch, taking: str, reading: str, encoding: str, laying_out: str
    ) -> None:
        """Have the stages of all batches timed, under these names."""
        stopwatch.attach(self, "take", taking)
        stopwatch.attach(self._source, "view", reading)
        stopwatch.attach(self._packer, "encode", encoding)
        stopwatch.attach(self, "lay_out", laying_out)

    def take(self, window: Bitmap, from_pfn: int) -> int:
        """List the next batch of ``window`` from ``from_pfn`` on.

        A batch ends where the source's bytes stop being contiguous, and spans no more of them than
        the source maps at once.

        :return: from which pfn the next batch goes on; ``n_pages`` is 0 if there was nothing left.
        """
        shift, start = self._page_shift, window.first_pfn
        self.n_pages = 0
        pfn = self._packer.next_page(window.bits, from_pfn - start) + start
        if pfn >= window.end_pfn:
            return window.end_pfn
        stretch_end_pfn = max(self._source.stretch_end(pfn << shift) >> shift, pfn + 1)
        end_pfn = min(stretch_end_pfn, pfn + (WINDOW_SIZE >> shift), window.end_pfn)
        self.n_pages, last_off = self._packer.list_pages(window.bits, pfn - start, end_pfn - start)
        self._first_pfn = pfn
        self._size = last_off + (1 << shift)
        return pfn + (self._size >> shift)

    def run(self) -> None:
        """Read the batch and encode it; pages that cannot be read are lost."""
        self.lost = {}
        paddr = self._first_pfn << self._page_shift
        try:
            spans = self._packer.spans(READ_GAP_PAGES if self._source.reads_gaps else 0)
            pages = self._source.view(paddr, self._size, spans)
        except FaultError:
            pages = self._read_page_by_page()
        self.n_zero = self._packer.encode(pages, self.lost, self._share_zero)

    def lay_out(self, data_off: int, zero_off: int) -> LaidOut:
        """What the dump stores for the batch; see :meth:`pydumpfile.packing.Packer.lay_out`."""
        return self._packer.lay_out(data_off, zero_off)

    def _read_page_by_page(self) -> memoryview:
        """The pages of the batch, densely; zeros where memory begins or ends inside one."""
        page_size = 1 << self._page_shift
        pages = bytearray(self.n_pages * page_size)
        for i, off in enumerate(self._packer.make_dense()):
            pfn = self._first_pfn + (off >> self._page_shift)
            try:
                page = self._source.read_page(pfn, self._page_shift)
            except FaultError:
                self.lost[i] = pfn
            else:
                pages[i * page_size : (i + 1) * page_size] = page
        return memoryview(pages)


def n_copiers(n_threads: int) -> int:
    """How many copiers keep ``n_threads`` busy: one more, which is laid out meanwhile."""
    return 1 if n_threads == 1 else n_threads + 1


def copied(windows: Iterable[Bitmap], copiers: Sequence[Copier]) -> Iterator[Copier]:
    """Copiers that have run, in pfn order, each to be laid out before the next is asked for.

    :param windows: the 2nd bitmap, ascending.
    :param copiers: as many as :func:`n_copiers` says; a single one runs on the calling thread.
    """
    idle = list(copiers)
    if len(idle) == 1:
        for copier in _takes(windows, idle):
            copier.run()
            yield copier
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  not all dumps pay for it

    with ThreadPoolExecutor(len(idle) - 1) as workers:
        yield from _on_threads(windows, workers, idle)


def _on_threads(
    windows: Iterable[Bitmap], workers: ThreadPoolExecutor, idle: list[Copier]
) -> Iterator[Copier]:
    running: deque[tuple[Copier, Future[None]]] = deque()
    for copier in _takes(windows, idle):
        idle.remove(copier)
        running.append((copier, workers.submit(copier.run)))
        if not idle:
            yield from _oldest(running, idle)
    while running:
        yield from _oldest(running, idle)


def _oldest(running: deque[tuple[Copier, Future[None]]], idle: list[Copier]) -> Iterator[Copier]:
    """The copier that was started first, when it is done; it is idle again afterwards."""
    copier, done = running.popleft()
    done.result()
    yield copier
    idle.append(copier)


def _takes(windows: Iterable[Bitmap], idle: list[Copier]) -> Iterator[Copier]:
    """An idle copier that has taken the next batch, for all batches of all windows."""
    for window in windows:
        pfn = window.first_pfn
        while pfn < window.end_pfn:
            copier = idle[0]
            pfn = copier.take(window, pfn)
            if copier.n_pages:
                yield copier
