# SPDX-License-Identifier: GPL-2.0-or-later
"""From the 2nd bitmap to pages in the dump: batches on threads, written in pfn order.

There is no thread that only compresses and none that only writes. A batch is

    taken      its pages are listed                               in pfn order
    packed     read, searched for zero pages, compressed          in C, any number at a time
    written    laid out behind the batch before, and written      in pfn order

and each thread does what is next: it writes the batch it has just packed, whose data are still in
its cache, if all before it are written; else it packs another. So no CPU waits while there is
work, and one thread alone does it all by the same steps. A batch, its window on the source and its
buffers belong to one :class:`Copier`, and how many of those there are bounds the memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Callable, Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.codecs import Codec
from pydumpfile.errors import FaultError
from pydumpfile.packing import READ_GAP_PAGES, LaidOut, Packer
from pydumpfile.sources.base import Source
from pydumpfile.sources.filebytes import WINDOW_SIZE

if TYPE_CHECKING:
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
        """Those of them that are zero, once :meth:`pack` is done."""
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

    def pack(self) -> None:
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
        pfns = [self._first_pfn + (off >> self._page_shift) for off in self._packer.make_dense()]
        if pfns[0] << self._page_shift in self._source.missing:  # then its whole stretch is
            self.lost = dict(enumerate(pfns))
            return memoryview(pages)
        for i, pfn in enumerate(pfns):
            try:
                page = self._source.read_page(pfn, self._page_shift)
            except FaultError:
                self.lost[i] = pfn
            else:
                pages[i * page_size : (i + 1) * page_size] = page
        return memoryview(pages)


def n_copiers(n_threads: int) -> int:
    """How many copiers keep ``n_threads`` busy: one more, which waits for an older one."""
    return 1 if n_threads == 1 else n_threads + 1


class Crew:
    """Threads that copy all pages of some windows, the one that iterates over it among them.

    Gives copiers whose batches are written, in pfn order, each good until the next is asked for.
    What goes wrong on any thread is raised there. Leaving the ``with`` block ends the threads.

    :param windows: the 2nd bitmap, ascending; asked for by one thread at a time.
    :param copiers: as many as :func:`n_copiers` says.
    :param n_threads: this one included. Those that the system refuses are done without.
    :param write: puts a packed batch into the dump; called in pfn order by one thread at a time.
    :param may_block: ``write`` can wait for ever, for the reader of a pipe: only this thread, which
        a signal interrupts, is to call it.
    """

    def __init__(
        self, windows: Iterable[Bitmap], copiers: Sequence[Copier], n_threads: int,
        write: Callable[[Copier], None], may_block: bool = False,
    ) -> None:  # fmt: skip
        self._write = write
        self._may_block = may_block
        self._change = threading.Condition()
        """Held to look at or change anything below; notified when there may be something to do."""
        self._idle = list(copiers)
        self._takes = _takes(windows, self._idle)
        self._all_taken = False
        self._under_way: deque[Copier] = deque()
        """Batches that are taken and not written, oldest first."""
        self._packed: set[Copier] = set()
        """Those of them that wait to be written."""
        self._writing = False
        self._written: deque[Copier] = deque()
        """Batches not yet given back."""
        self._stopped = False
        self._failure: Optional[BaseException] = None
        self._n_threads = n_threads
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Crew:
        try:
            for _ in range(self._n_threads - 1):
                thread = threading.Thread(target=self._help)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:  # no memory for its stack, or too many processes
            pass
        except BaseException:  # a signal: nobody will leave what was not entered
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._stop()
        signalled: Optional[KeyboardInterrupt] = None
        for thread in self._threads:
            while thread.is_alive():
                try:
                    thread.join()
                except KeyboardInterrupt as signal:  # the file is not let go of while one writes
                    signalled = signal
        # An error refers to the frames it came through, and they to this and to pages that C was
        # at. If this referred to the error in turn, only the collector could free them, and Python
        # before 3.12.7 crashes when it collects a memoryview that is in use (gh-77894).
        self._failure = None
        if signalled is not None:
            try:
                raise signalled
            finally:
                del signalled

    def __iter__(self) -> Iterator[Copier]:
        while self._do_next_step(is_caller=True):
            while self._written:
                yield self._written[0]
                with self._change:
                    self._idle.append(self._written.popleft())
                    self._change.notify()
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # see __exit__

    def _help(self) -> None:
        """What the other threads do."""
        while self._do_next_step(is_caller=False):
            pass

    def _do_next_step(self, is_caller: bool) -> bool:
        """Whether there was one that could be done."""
        try:
            step = self._next_step(is_caller)
            if step is not None:
                step()
        except BaseException as error:  # noqa: BLE001  the iterating thread raises it
            self._fail(error)
            return False
        return step is not None

    def _fail(self, error: BaseException) -> None:
        """The first error is told: others may come of it. Only a signal counts for more."""
        with self._change:
            if self._failure is None or not isinstance(error, Exception):
                self._failure = error
            self._stop()

    def _stop(self) -> None:
        """No thread begins anything any more."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def _next_step(self, is_caller: bool) -> Optional[Callable[[], None]]:
        """Wait until there is something to do; None if there never will be."""
        with self._change:
            while not self._stopped:
                if is_caller and self._written:
                    return _nothing
                if is_caller or not self._may_block:
                    copier = self._to_be_written()
                    if copier is not None:
                        return partial(self._do_write, copier)
                copier = self._to_be_packed()
                if copier is not None:
                    return partial(self._do_pack, copier)
                if self._all_taken and not self._under_way:
                    return None
                self._change.wait()
        return None

    def _to_be_written(self) -> Optional[Copier]:
        if self._writing or not self._under_way or self._under_way[0] not in self._packed:
            return None
        self._writing = True
        return self._under_way[0]

    def _do_write(self, copier: Copier) -> None:
        self._write(copier)
        with self._change:
            self._writing = False
            self._under_way.popleft()
            self._packed.remove(copier)
            self._written.append(copier)
            self._change.notify_all()

    def _to_be_packed(self) -> Optional[Copier]:
        """An idle copier that has taken the next batch, if there is one."""
        if not self._idle or self._all_taken:
            return None
        try:
            copier = next(self._takes, None)
        except BaseException as error:
            self._fail(error)  # before anybody can take this for the end of all windows
            raise
        if copier is None:
            self._all_taken = True
            self._change.notify_all()
        else:
            self._idle.remove(copier)
            self._under_way.append(copier)
        return copier

    def _do_pack(self, copier: Copier) -> None:
        copier.pack()
        with self._change:
            self._packed.add(copier)
            self._change.notify_all()


def _nothing() -> None:
    """A step that is done already."""


def _takes(windows: Iterable[Bitmap], idle: list[Copier]) -> Iterator[Copier]:
    """An idle copier that has taken the next batch, for all batches of all windows."""
    for window in windows:
        pfn = window.first_pfn
        while pfn < window.end_pfn:
            copier = idle[-1]  # the last used, whose buffers are still in some cache
            pfn = copier.take(window, pfn)
            if copier.n_pages:
                yield copier
