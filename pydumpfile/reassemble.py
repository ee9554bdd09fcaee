# SPDX-License-Identifier: GPL-2.0-or-later
"""From the parts of a split dump to the dump they stand for, byte for byte.

Pages are copied as they are stored: only the headers, and where descriptors point to, change. What
can be found wrong with the set (a part that is missing, of another dump, or cut short) is found
before the target is touched. Parts that are incomplete themselves are joined, because what they
have may be all there is, and the dump is marked as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from struct import Struct
from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError, InputError, TruncatedError, UsageError
from pydumpfile.formats.diskdump import START_SIZE, Headers, pack_sub_header, parse_headers
from pydumpfile.formats.incomplete import mark_incomplete
from pydumpfile.formats.kdump import (
    DESCRIPTOR_SIZE,
    DUMP_DH_COMPRESSED_INCOMPLETE,
    DUMP_DH_COMPRESSED_ZLIB,
)
from pydumpfile.progress import Progress, Throttled
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.base import Output
from pydumpfile.sinks.gathered import Gathered
from pydumpfile.sinks.salvage import salvage_pages

_PIECE_SIZE = 1 << 20
_TABLE_SIZE = 2730 * DESCRIPTOR_SIZE
"""Bytes of descriptors taken at once, just under 64 KiB."""


class Joined(NamedTuple):
    """What came of it."""

    size: int
    """Bytes of the dump."""
    incomplete: tuple[str, ...]
    """The parts that lack pages; then so does the dump, and is marked."""


def reassemble(paths: Sequence[str], target: Target, progress: Optional[Progress] = None) -> Joined:
    """Join the parts at ``paths``, given in any order, to the dump ``target``, a file.

    :raises UsageError: they are not the parts of one dump, or not all of them.
    :raises FormatError: one is no part of a dump, or damaged (TruncatedError: cut short).
    :raises InputError: one cannot be read.
    :raises OutputError: ``target`` cannot be written, or exists. What was written is kept, and
        marked incomplete.
    """
    with ExitStack() as stack:
        parts = [stack.enter_context(_Part(path)) for path in paths]
        parts.sort(key=lambda part: (part.headers.start_pfn, part.headers.end_pfn))
        _check_set(parts)
        _count_pages(parts)
        for part in parts:
            part.check_end()
        output = open_output(target, *paths)
        try:
            join = _Join(parts, output, Throttled(progress))
            try:
                join.run()
            finally:
                join.salvage()
        finally:
            output.close()
    return Joined(output.size, tuple(part.path for part in parts if part.is_incomplete))


class _Part:
    """One file of the set.

    :raises FormatError: it is none.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(path, error.errno, "opening a part of the dump") from error
        try:
            self.size = os.fstat(self._fd).st_size
            self.start = self._read_up_to(0, START_SIZE)
            self.headers = parse_headers(self.start, path)
            if not self.headers.sub.split:
                raise UsageError(f"{path} is a whole dump, not a part of one")
        except BaseException:
            os.close(self._fd)
            raise
        self.n_pages = 0
        """Descriptors it has, once they are counted."""
        self.data_off = 0
        """Where the first data is."""

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def is_incomplete(self) -> bool:
        return bool(self.headers.status & DUMP_DH_COMPRESSED_INCOMPLETE)

    @property
    def table_off(self) -> int:
        return self.headers.descriptors_off

    def read(self, off: int, size: int) -> bytes:
        """``size`` bytes at ``off``, all of them."""
        data = self._read_up_to(off, size)
        if len(data) < size:
            raise TruncatedError(
                self.path, off, f"{size} bytes", f"{len(data)}", "this part is cut short"
            )
        return data

    def tables(self) -> Iterator[bytes]:
        """The descriptors of its pages."""
        end_off = self.table_off + self.n_pages * DESCRIPTOR_SIZE
        for off in range(self.table_off, end_off, _TABLE_SIZE):
            yield self.read(off, min(_TABLE_SIZE, end_off - off))

    def check_end(self) -> None:
        """Pages lie in order, so if the last ones are in the file, so are the others."""
        last = self.n_pages - self.n_pages % (_TABLE_SIZE // DESCRIPTOR_SIZE)
        descriptor = descriptor_of(self.headers)
        off = self.table_off + last * DESCRIPTOR_SIZE
        table = self.read(off, (self.n_pages - last) * DESCRIPTOR_SIZE)
        for page_off, size, _, _ in descriptor.iter_unpack(table):
            if page_off + size > self.size and not self.is_incomplete:
                self.read(page_off, size)

    def _read_up_to(self, off: int, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, off)
            while 0 < len(data) < size:
                more = os.pread(self._fd, size - len(data), off + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise InputError(self.path, error.errno, f"reading this part at {off:#x}") from error
        return data


def descriptor_of(headers: Headers) -> Struct:
    """``struct page_desc``: offset, size, flags, page_flags."""
    return Struct(headers.byte_order + "qIIQ")


def _check_set(parts: Sequence[_Part]) -> None:
    """Whether ``parts``, in order, are all of one dump."""
    first = parts[0]
    _check_common(parts)
    at_pfn, before = 0, None
    for part in parts:
        start_pfn, end_pfn = part.headers.start_pfn, part.headers.end_pfn
        if start_pfn > end_pfn or end_pfn > part.headers.max_mapnr:
            raise FormatError(
                part.path, part.headers.block_size,
                f"a part of the pages up to {part.headers.max_mapnr:#x}",
                f"the pages {start_pfn:#x} to {end_pfn:#x}", "its sub header is damaged",
            )  # fmt: skip
        if start_pfn > at_pfn:
            raise _missing(at_pfn, start_pfn)
        if start_pfn < at_pfn and before is not None:
            raise UsageError(
                f"{before.path} and {part.path} both have the pages from {start_pfn:#x} on; give "
                "each part once"
            )
        at_pfn, before = end_pfn, part
    if at_pfn < first.headers.max_mapnr:
        raise _missing(at_pfn, first.headers.max_mapnr)


def _missing(start_pfn: int, end_pfn: int) -> UsageError:
    return UsageError(
        f"a part is missing: none of these has the pages {start_pfn:#x} to {end_pfn:#x}"
    )


def _check_common(parts: Sequence[_Part]) -> None:
    """Refuse parts that differ in what all parts of a dump have."""
    first = parts[0]
    for part in parts[1:]:
        if part.headers.version != first.headers.version or _common(part) != _common(first):
            raise _of_another(first, part, "headers")
    headers = first.headers
    notes_off = headers.block_size + len(pack_sub_header(headers, headers.sub))
    bitmaps_off = headers.bitmap1_off
    _check_equal(parts, "notes", notes_off, bitmaps_off)
    _check_equal(parts, "bitmaps", bitmaps_off, headers.descriptors_off)


def _check_equal(parts: Sequence[_Part], what: str, start_off: int, end_off: int) -> None:
    """Refuse parts that have other bytes there; each is read once."""
    for off in range(start_off, end_off, _PIECE_SIZE):
        size = min(_PIECE_SIZE, end_off - off)
        piece = parts[0].read(off, size)
        for part in parts[1:]:
            if part.read(off, size) != piece:
                raise _of_another(parts[0], part, what)


def _of_another(first: _Part, part: _Part, what: str) -> UsageError:
    return UsageError(
        f"{first.path} and {part.path} are not parts of the same dump: they have different {what}"
    )


def _common(part: _Part) -> tuple[bytes, object]:
    """Of the headers what has to be the same in all parts."""
    sub = part.headers.sub._replace(
        start_pfn=0, end_pfn=0, start_pfn_64=0, end_pfn_64=0, offset_eraseinfo=0, size_eraseinfo=0
    )
    return mark_incomplete(part.start[: part.headers.block_size]), sub


def _count_pages(parts: Sequence[_Part]) -> None:
    """Tell each part how many descriptors it has, and where its data starts."""
    first = parts[0]
    total = 0
    for part in parts:
        part.n_pages = sum(_pages_within(first, part.headers.start_pfn, part.headers.end_pfn))
        total += part.n_pages
    for part in parts:
        part.data_off = part.table_off + total * DESCRIPTOR_SIZE


def _pages_within(part: _Part, start_pfn: int, end_pfn: int) -> Iterator[int]:
    """How many pages from ``start_pfn`` to ``end_pfn`` are in the dump, piece by piece."""
    while start_pfn < end_pfn:
        stop_pfn = min(end_pfn, start_pfn - start_pfn % 8 + 8 * _TABLE_SIZE)
        off = start_pfn // 8
        bits = int.from_bytes(
            part.read(part.headers.bitmap2_off + off, -(-stop_pfn // 8) - off), "little"
        )
        bits &= (1 << stop_pfn - 8 * off) - 1
        yield bin(bits >> start_pfn - 8 * off).count("1")
        start_pfn = stop_pfn


class _Join:
    """Writes the dump; data goes out before the descriptors that point at it."""

    def __init__(self, parts: Sequence[_Part], output: Output, progress: Throttled) -> None:
        self._parts = parts
        self._output = output
        self._progress = progress
        self._headers = parts[0].headers
        self._descriptor = descriptor_of(self._headers)
        data_off = parts[0].data_off
        self._data = Gathered(output, data_off, _PIECE_SIZE)
        self._table = Gathered(output, self._headers.descriptors_off, _TABLE_SIZE)
        self._described_off = data_off
        """Up to where the descriptors that are written tell of data."""
        self._zero_off = data_off if self._headers.sub.dump_level & 1 else -1
        """Where the page is that all zero pages share, in the dump as in each part."""
        self._n_pages = sum(part.n_pages for part in parts)
        self._done = 0

    def run(self) -> None:
        """All of it; marked complete at last, if all parts are."""
        block_size, output = self._headers.block_size, self._output
        header = self._parts[0].start[:block_size]
        output.write_at(0, mark_incomplete(header))
        self._copy_front()
        output.extend(self._parts[0].data_off)
        if self._zero_off >= 0:
            self._data.write(bytes(block_size))
        for part in self._parts:
            for table in part.tables():
                self._copy_pages(part, table)
        self._copy_eraseinfo()
        self._flush()
        output.sync()
        if not any(part.is_incomplete for part in self._parts):
            output.rewrite_start(header)
        output.end()

    def salvage(self) -> None:
        """Nothing more will come: have all pages that are in the file described, if any are not."""
        salvage_pages(
            self._output, self._data, self._table, self._described_off, self._headers.byte_order
        )

    def _copy_front(self) -> None:
        """Everything between the header and the descriptors."""
        first, headers = self._parts[0], self._headers
        sub = headers.sub._replace(split=0, start_pfn=0, end_pfn=0, start_pfn_64=0, end_pfn_64=0)
        packed = pack_sub_header(headers, sub)
        self._output.write_at(headers.block_size, packed)
        off = headers.block_size + len(packed)
        while off < headers.descriptors_off:
            data = first.read(off, min(_PIECE_SIZE, headers.descriptors_off - off))
            self._output.write_at(off, data)
            off += len(data)

    def _copy_pages(self, part: _Part, table: bytes) -> None:
        """The pages of one piece of a part's table; neighbours in the file are copied at once."""
        moved = bytearray(table)
        extents = []  # of the data that is to be copied, in the part
        start = end = 0
        new_off = self._data.end_off
        for i, (off, size, flags, page_flags) in enumerate(self._descriptor.iter_unpack(table)):
            if off == self._zero_off or (off == 0 == size and part.is_incomplete):
                continue  # the zero page is at the same place; a page that was lost is at none
            if not self._is_page(part, off, size):
                self._descriptor.pack_into(
                    moved, i * DESCRIPTOR_SIZE, 0, 0, DUMP_DH_COMPRESSED_ZLIB, 0
                )
                continue
            if off != end:
                extents.append((start, end))
                start = off
            end = off + size
            self._descriptor.pack_into(moved, i * DESCRIPTOR_SIZE, new_off, size, flags, page_flags)
            new_off += size
        extents.append((start, end))
        if not self._table.has_room(len(moved)):
            self._flush()
        self._table.write(moved)  # known, should there be no space for all of the data
        for extent in extents:
            self._copy_data(part, *extent)
        self._done += len(table) // DESCRIPTOR_SIZE
        self._progress("copying pages", self._done, self._n_pages)

    def _is_page(self, part: _Part, off: int, size: int) -> bool:
        """Whether the part has such bytes; False if it is known to lack some.

        :raises FormatError: it does not, and should.
        """
        if part.data_off <= off and 0 < size <= self._headers.block_size:
            if off + size <= part.size:
                return True
            if part.is_incomplete:
                return False
            part.read(off, size)  # which says so
        raise FormatError(
            part.path, part.table_off,
            f"descriptors of pages of up to {self._headers.block_size} bytes behind "
            f"{part.data_off:#x}",
            f"one of {size} bytes at {off:#x}", "this part is damaged",
        )  # fmt: skip

    def _copy_data(self, part: _Part, start: int, end: int) -> None:
        while start < end:
            data = part.read(start, min(_PIECE_SIZE, end - start))
            self._data.write(data)
            start += len(data)

    def _copy_eraseinfo(self) -> None:
        """What the parts say was erased, one after the other behind the pages.

        Where it is among the notes, as pydumpfile writes it, it is the same in all and copied.
        """
        start = self._data.end_off
        for part in self._parts:
            off, size = part.headers.sub.offset_eraseinfo, part.headers.sub.size_eraseinfo
            if off >= part.data_off and size:
                self._copy_data(part, off, min(off + size, part.size))
        size = self._data.end_off - start
        if size:
            sub = self._headers.sub._replace(
                split=0, start_pfn=0, end_pfn=0, start_pfn_64=0, end_pfn_64=0,
                offset_eraseinfo=start, size_eraseinfo=size,
            )  # fmt: skip
            self._output.write_at(self._headers.block_size, pack_sub_header(self._headers, sub))

    def _flush(self) -> None:
        self._data.flush()
        self._table.flush()
        self._described_off = self._data.end_off
