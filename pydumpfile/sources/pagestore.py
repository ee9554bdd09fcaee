# SPDX-License-Identifier: GPL-2.0-or-later
"""From pfn to page in a kdump-compressed file: which descriptor it has, and what that leads to.

The descriptor of a page is found by counting the bits before its own in the 2nd bitmap, in a part
of a split dump from the first page that is its own. How many come before every 128 MiB of memory is
counted once (8 bytes each); everything else is read when it is asked for, bits and descriptors and
data of many pages at a time.
"""

from __future__ import annotations

import copy
import sys
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Optional, Protocol

from pydumpfile.decoders import FLAGS
from pydumpfile.errors import FaultError, NotInDumpError
from pydumpfile.formats.diskdump import Headers
from pydumpfile.formats.kdump import DESCRIPTOR_SIZE, without_lacking
from pydumpfile.pfn import Range
from pydumpfile.sources.base import LostPageError, UnreadableError
from pydumpfile.sources.filebytes import WINDOW_SIZE
from pydumpfile.sources.image import Image
from pydumpfile.sources.storedbitmap import StoredBitmap
from pydumpfile.sources.unpack import Stored, UnpackedTo, make_unpacker

_CHUNK_PFNS = 32 << 10
"""Pfns whose bits are read at once."""
_CHUNKS_KEPT, _PAGES_KEPT = 16, 64
_BATCH_SIZE = 4 << 20
"""Of memory, whose descriptors are read at once."""
_READ_GAP_SIZE = 64 << 10
"""Bytes of the file that are read though nobody wants them, rather than ask twice."""
_NOWHERE = (1 << 64) - 1
_HOST_ORDER = {"little": "<", "big": ">"}[sys.byteorder]


class Pages(Protocol):
    """The pages of a dump, for one thread: of one file, or of several."""

    def another(self) -> Pages:
        """The same pages for another thread."""

    def drop_views(self) -> None:
        """Give back what is mapped or read ahead, until the next page is asked for."""

    def holds(self, pfn: int) -> bool:
        """Whether the dump should have the page."""

    def page(self, pfn: int) -> bytes:
        """One page; of those asked for last some are remembered.

        :raises NotInDumpError: it was left out, or never was.
        :raises LostPageError: its descriptor is empty, or leads past the end of the file.
        :raises FaultError: what it leads to is damaged, or cannot be read.
        """

    def fill(self, buffer: memoryview, first_pfn: int, spans: Sequence[Range]) -> None:
        """Put the pages of ``spans``, which are ascending ranges of pfns, into ``buffer``.

        :param first_pfn: whose place is at the start of the buffer; all others follow.
        :raises FaultError: as :meth:`page`, for the first of them that cannot be had.
        """


class PageStore:
    """Those of one file; see :class:`Pages`.

    :param data_off: where data starts in a part of a split dump; it follows from the pages of all.
    """

    def __init__(
        self, image: Image, headers: Headers, use_mmap: bool, data_off: Optional[int] = None
    ) -> None:
        self._image = image
        self._headers = headers
        self._held = StoredBitmap(image, headers.bitmap2_off, *headers.own_pfns)
        self._use_mmap = use_mmap
        self._page_size = headers.block_size
        self._first_chunk = headers.own_pfns[0] // _CHUNK_PFNS
        self._n_before = _count(self._held, *headers.own_pfns)
        self._gaps = [gap for gap in image.gaps if gap[1] > headers.descriptors_off]
        self._zero_off = _NOWHERE
        """Where the page is that all pages of zeros share."""
        self._make_own()
        if data_off is None:
            data_off = headers.descriptors_off + DESCRIPTOR_SIZE * self._n_before[-1]
        if self._is_zero(data_off):
            self._zero_off = data_off

    def another(self) -> PageStore:
        """The same file for another thread."""
        twin = copy.copy(self)
        twin._make_own()
        return twin

    def _make_own(self) -> None:
        """What no two threads may use at a time."""
        self._file = self._image.windows(self._use_mmap)
        self._unpacker = make_unpacker(self._page_size)
        for flag in FLAGS:
            if self._headers.status & flag:
                self._unpacker.prepare(flag)
        self._chunks: OrderedDict[int, int] = OrderedDict()
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._counted = -1, 0, 0
        """Of which chunk pages were counted last, before which bit, and how many there are."""

    def drop_views(self) -> None:
        """Give back the window on the file, until the next page is asked for."""
        self._file.drop_views()

    def holds(self, pfn: int) -> bool:
        """Whether the dump should have the page."""
        return bool(self._bits(pfn, pfn + 1))

    def page(self, pfn: int) -> bytes:
        """One page."""
        page = self._pages.get(pfn)
        if page is not None:
            self._pages.move_to_end(pfn)
            return page
        room = bytearray(self._page_size)
        if not self._read(pfn, [(pfn, pfn + 1)], memoryview(room)):
            raise self._reason(pfn)
        if len(self._pages) >= _PAGES_KEPT:
            self._pages.popitem(last=False)
        page = self._pages[pfn] = bytes(room)
        return page

    def fill(self, buffer: memoryview, first_pfn: int, spans: Sequence[Range]) -> None:
        """Put the pages of ``spans`` into ``buffer``."""
        most = _BATCH_SIZE // self._page_size
        batch: list[Range] = []
        for start, end in spans:
            for at in range(start, end, most):
                span = at, min(at + most, end)
                if batch and span[1] - batch[0][0] > most:
                    self._fill_batch(buffer, first_pfn, batch)
                    batch = []
                batch.append(span)
        if batch:
            self._fill_batch(buffer, first_pfn, batch)

    def _fill_batch(self, buffer: memoryview, first_pfn: int, spans: Sequence[Range]) -> None:
        """Spans that lie close together, at once; one after the other to find the page at fault."""
        if self._read(first_pfn, spans, buffer):
            return
        for start, end in spans:
            for pfn in range(start, end):
                at = (pfn - first_pfn) * self._page_size
                buffer[at : at + self._page_size] = self.page(pfn)

    def _read(self, first_pfn: int, spans: Sequence[Range], buffer: memoryview) -> bool:
        """Whether all pages of ``spans`` could be put into ``buffer``."""
        size = self._page_size
        try:
            stored = self._find(spans)
            if stored is None:
                return False
            places = array("Q")
            for start, end in spans:
                places.extend(range((start - first_pfn) * size, (end - first_pfn) * size, size))
            return self._unpack(stored, places, buffer)
        except OSError:
            return False

    # From pfns to descriptors

    def _find(self, spans: Sequence[Range]) -> Optional[Stored]:
        """The descriptors of the pages of ``spans``; None if one of those is not in the dump."""
        low_pfn, high_pfn = spans[0][0], spans[-1][1]
        bits = self._bits(low_pfn, high_pfn)
        parts: list[Range] = []  # of the descriptors from that of low_pfn on
        for start, end in spans:
            ones = (1 << (end - start)) - 1
            if bits >> (start - low_pfn) & ones != ones:
                return None
            index = _n_ones(bits & (1 << (start - low_pfn)) - 1)
            parts.append((index, index + end - start))
        return self._descriptors(self._index(low_pfn), parts[-1][1]).only(parts)

    def _descriptors(self, index: int, n: int) -> Stored:
        """Those of ``n`` pages from that with ``index`` on; empty ones past the end of the file."""
        off = self._headers.descriptors_off + DESCRIPTOR_SIZE * index
        table = self._image.read(off, DESCRIPTOR_SIZE * n).ljust(DESCRIPTOR_SIZE * n, b"\0")
        if self._gaps:
            table = without_lacking(table, off, self._gaps, self._headers.byte_order)
        longs, ints = array("Q", table), array("I", table)
        if self._headers.byte_order != _HOST_ORDER:
            longs.byteswap()
            ints.byteswap()
        return Stored(longs[0::3], ints[2::6], ints[3::6])

    def _index(self, pfn: int) -> int:
        """How many pages of the file come before ``pfn``, which is one of them."""
        chunk, above = divmod(pfn, _CHUNK_PFNS)
        counted_chunk, start, inside = self._counted
        if chunk != counted_chunk or above < start:
            start = inside = 0
        inside += _n_ones(self._chunk(chunk) >> start & (1 << above - start) - 1)
        self._counted = chunk, above, inside
        return self._n_before[chunk - self._first_chunk] + inside

    def _bits(self, low_pfn: int, high_pfn: int) -> int:
        """The bits of ``[low_pfn, high_pfn)``, that of ``low_pfn`` lowest."""
        low_chunk, above = divmod(low_pfn, _CHUNK_PFNS)
        bits = 0
        for chunk in range((high_pfn - 1) // _CHUNK_PFNS, low_chunk - 1, -1):
            bits = bits << _CHUNK_PFNS | self._chunk(chunk)
        return bits >> above & (1 << (high_pfn - low_pfn)) - 1

    def _chunk(self, chunk: int) -> int:
        bits = self._chunks.get(chunk)
        if bits is None:
            window = self._held.bitmap(chunk * _CHUNK_PFNS, (chunk + 1) * _CHUNK_PFNS)
            if len(self._chunks) >= _CHUNKS_KEPT:
                self._chunks.popitem(last=False)
            bits = self._chunks[chunk] = int.from_bytes(window.bits, "little")
        else:
            self._chunks.move_to_end(chunk)
        return bits

    # From descriptors to pages

    def _unpack(self, stored: Stored, places: array[int], buffer: memoryview) -> bool:
        """Whether all pages could be read and decompressed."""
        own = [off for off in stored.offs if off != self._zero_off]
        low, last = min(own, default=0), max(own, default=0)
        high = min(last + self._page_size, self._image.size) if own else 0
        if own and not self._headers.descriptors_off <= low <= last < high:
            return False
        if high - low > WINDOW_SIZE:  # written in another order than that of the pages
            half = len(places) // 2
            return self._unpack(stored.only([(0, half)]), places[:half], buffer) and self._unpack(
                stored.only([(half, len(places))]), places[half:], buffer
            )
        data = memoryview(b"")
        if own:
            data = self._file.view(low, high - low, self._to_read(own, low, high))
        to = UnpackedTo(buffer, places)
        return self._unpacker.unpack(stored, data, low, self._zero_off, to)

    def _to_read(self, offs: list[int], low: int, high: int) -> Optional[list[Range]]:
        """Which bytes of ``[low, high)`` are needed, relative to ``low``; None if most are."""
        if high - low <= len(offs) * self._page_size:
            return None
        ranges: list[Range] = []
        for off in sorted(offs):
            start, end = off - low, min(off + self._page_size, high) - low
            if ranges and start <= ranges[-1][1] + _READ_GAP_SIZE:
                ranges[-1] = ranges[-1][0], end
            else:
                ranges.append((start, end))
        return ranges

    def _is_zero(self, off: int) -> bool:
        """Whether a page of zeros is stored at ``off``."""
        try:
            return self._image.read(off, self._page_size) == bytes(self._page_size)
        except OSError:
            return False

    def _reason(self, pfn: int) -> FaultError:
        """Why the page cannot be had."""
        paddr = pfn * self._page_size
        if not self.holds(pfn):
            return NotInDumpError(paddr)
        try:
            stored = self._descriptors(self._index(pfn), 1)
            off, size, flags = stored.offs[0], stored.sizes[0], stored.flags[0]
            if off == 0:
                return LostPageError(
                    paddr, "whoever wrote the dump could not read it, or was stopped"
                )
            if off + size > self._image.size:
                return LostPageError(paddr, f"the file ends at {self._image.size:#x}, before it")
            self._image.read(off, size)
        except OSError as error:
            return UnreadableError(paddr, error.errno or 0, error.strerror or "")
        return FaultError(
            paddr, "physical", f"cannot be had: the {size} bytes at {off:#x} of the file, "
            f"of flags {flags:#x}, are no page",
        )  # fmt: skip


def _count(held: StoredBitmap, start_pfn: int, end_pfn: int) -> array[int]:
    """How many pages of ``held`` come before each chunk of the range, and in all."""
    counts = array("Q", (0,))
    for first_pfn in range(start_pfn - start_pfn % _CHUNK_PFNS, end_pfn, _CHUNK_PFNS):
        counts.append(counts[-1] + held.bitmap(first_pfn, first_pfn + _CHUNK_PFNS).count())
    return counts


def _n_ones(bits: int) -> int:
    return bin(bits).count("1")
