# SPDX-License-Identifier: GPL-2.0-or-later
"""All parts of a split dump as the memory that they have together, read where they lie.

Headers, notes and bitmaps are the same in all parts, so they are taken from the first. A page is in
one part alone: in that whose range of pfns it is in.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from pydumpfile.errors import FormatError
from pydumpfile.formats.diskdump import Headers
from pydumpfile.pfn import Range
from pydumpfile.sources.kdump import MAX_ERASEINFO_SIZE, KdumpSource
from pydumpfile.sources.pagestore import Pages, PageStore
from pydumpfile.sources.partset import PartSet


class SplitSource(KdumpSource):
    """The dump that ``parts`` stand for; takes them over.

    :raises FormatError: as for a :class:`KdumpSource`, of what all parts have in common.
    :raises UnsupportedError: it needs a library that is not there.
    """

    def __init__(self, parts: PartSet, use_mmap: bool = True) -> None:
        self._parts = parts
        super().__init__(parts.parts[0].image, use_mmap)
        self.path = ", ".join(self.files)
        self.incomplete = bool(parts.incomplete)

    @property
    def files(self) -> tuple[str, ...]:
        """The parts, by the pages they have."""
        return tuple(part.path for part in self._parts.parts)

    def close(self) -> None:
        self._parts.close()

    def _refuse_part(self, headers: Headers) -> None:
        """All parts are there."""

    def _open_pages(self, headers: Headers, use_mmap: bool) -> Pages:
        del headers  # each part has its own
        return _PagesOfParts(self._parts, use_mmap)

    def _read_eraseinfo(self, headers: Headers) -> bytes:
        """What all parts say, one after the other, as in the dump that they are joined to."""
        extents = list(self._parts.eraseinfo())
        if not extents:
            return super()._read_eraseinfo(headers)
        size = sum(end - start for _, start, end in extents)
        if size > MAX_ERASEINFO_SIZE:
            part, start, _ = extents[0]
            raise FormatError(
                part.path, start, f"at most {MAX_ERASEINFO_SIZE} bytes of eraseinfo in all parts",
                f"{size} bytes", "the headers are damaged",
            )  # fmt: skip
        return b"".join(part.read(start, end - start) for part, start, end in extents)


class _PagesOfParts:
    """Each page by the part that has it; see :class:`pydumpfile.sources.pagestore.Pages`."""

    def __init__(self, parts: PartSet, use_mmap: bool) -> None:
        self._stores = [
            PageStore(part.image, part.headers, use_mmap, parts.data_off) for part in parts.parts
        ]
        self._end_pfns = [part.headers.end_pfn for part in parts.parts]
        self._current = 0
        """The part that was asked last, the only one of which anything is mapped."""

    def another(self) -> _PagesOfParts:
        """The same parts for another thread."""
        twin = copy.copy(self)
        twin._stores = [store.another() for store in self._stores]
        return twin

    def drop_views(self) -> None:
        """Give back the window on the part that was asked last."""
        self._stores[self._current].drop_views()

    def holds(self, pfn: int) -> bool:
        """Whether the dump should have the page."""
        return self._store(self._place(pfn)).holds(pfn)

    def page(self, pfn: int) -> bytes:
        """One page."""
        return self._store(self._place(pfn)).page(pfn)

    def fill(self, buffer: memoryview, first_pfn: int, spans: Sequence[Range]) -> None:
        """Put the pages of ``spans`` into ``buffer``, of one part after the other."""
        for place, pieces in groupby(self._cut(spans), key=itemgetter(0)):
            own = [(start, end) for _, start, end in pieces]
            self._store(place).fill(buffer, first_pfn, own)

    def _cut(self, spans: Sequence[Range]) -> Iterator[tuple[int, int, int]]:
        """``spans`` in pieces none of which is in two parts: place of the part, start and end."""
        for start, end in spans:
            at = start
            while at < end:
                place = self._place(at)
                stop = end if place == len(self._stores) - 1 else min(end, self._end_pfns[place])
                yield place, at, stop
                at = stop

    def _place(self, pfn: int) -> int:
        """Which part has the page; what is behind all of them the last one has not."""
        return min(bisect_right(self._end_pfns, pfn), len(self._stores) - 1)

    def _store(self, place: int) -> PageStore:
        if place != self._current:
            self._stores[self._current].drop_views()
            self._current = place
        return self._stores[place]
