# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of a split dump: what makes several files a set, and what each of them has.

:mod:`pydumpfile.sources.split` reads a set as it is, :mod:`pydumpfile.reassemble` joins it. What
can be found wrong with one (a part that is missing, of another dump, or cut short) is found as it
is opened. Incomplete parts are taken, because what they have may be all there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from struct import Struct

from pydumpfile.errors import (
    FormatError,
    InputError,
    PydumpfileError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)
from pydumpfile.formats.diskdump import START_SIZE, Headers, pack_sub_header, parse_headers
from pydumpfile.formats.incomplete import mark_incomplete
from pydumpfile.formats.kdump import DESCRIPTOR_SIZE, DUMP_DH_COMPRESSED_INCOMPLETE
from pydumpfile.sources.image import FileImage, advice_on_opening, open_seekable

TABLE_SIZE = 2730 * DESCRIPTOR_SIZE
"""Bytes of descriptors taken at once, just under 64 KiB."""
_PIECE_SIZE = 1 << 20


class PartSet:
    """All parts of one dump, open.

    :param paths: of the parts, in any order.
    :raises UsageError: they are not the parts of one dump, or not all of them.
    :raises UnsupportedError: they are of a 32-bit machine.
    :raises FormatError: one is no part of a dump, or damaged (TruncatedError: cut short).
    :raises InputError: one cannot be read.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        with ExitStack() as opened:
            parts = [opened.enter_context(Part(path)) for path in paths]
            parts.sort(key=lambda part: (part.headers.start_pfn, part.headers.end_pfn))
            self.parts = tuple(parts)
            """By the pages they have."""
            _check_set(self.parts)
            for part in self.parts:
                part.n_pages = sum(_pages_within(part))
            self.n_pages = sum(part.n_pages for part in self.parts)
            """Descriptors that all parts have."""
            self.data_off = self.headers.descriptors_off + self.n_pages * DESCRIPTOR_SIZE
            """Where the first data is, in each of them and in the dump."""
            for part in self.parts:
                part.check_end()
            self._opened = opened.pop_all()

    def __enter__(self) -> PartSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._opened.close()

    @property
    def headers(self) -> Headers:
        """Of the first part; but for whose pages it has, and what was erased, of all."""
        return self.parts[0].headers

    @property
    def incomplete(self) -> tuple[str, ...]:
        """The parts that lack pages; then so does the dump."""
        return tuple(part.path for part in self.parts if part.is_incomplete)

    def eraseinfo(self) -> Iterator[tuple[Part, int, int]]:
        """Where parts say what was erased: which part, from where and up to where in it.

        Not where that is among the notes, as pydumpfile writes it: there it is the same in all.
        """
        for part in self.parts:
            start, size = part.headers.sub.offset_eraseinfo, part.headers.sub.size_eraseinfo
            end = min(start + size, part.size)
            if self.data_off <= start < end:
                yield part, start, end


class Part:
    """One file of the set.

    :raises FormatError: it is none.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            fd = open_seekable(path)
        except OSError as error:
            hint = advice_on_opening(error)
            raise InputError(path, error.errno, "opening a part of the dump", hint) from error
        try:
            self.image = FileImage(fd, path)
            self.size = self.image.size
            self.start = self._read_up_to(0, START_SIZE)
            """Its first bytes: both headers and more."""
            self.headers = parse_headers(self.start, path)
            if not self.headers.sub.split:
                raise UsageError(f"{path} is a whole dump, not a part of one")
        except BaseException:
            os.close(fd)
            raise
        self.n_pages = 0
        """Descriptors it has, once they are counted."""

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.image.close()

    @property
    def is_incomplete(self) -> bool:
        """Whether it says so itself."""
        return bool(self.headers.status & DUMP_DH_COMPRESSED_INCOMPLETE)

    @property
    def table_off(self) -> int:
        """Where its descriptors are."""
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
        for off in range(self.table_off, end_off, TABLE_SIZE):
            yield self.read(off, min(TABLE_SIZE, end_off - off))

    def check_end(self) -> None:
        """Pages lie in order, so if the last ones are in the file, so are the others."""
        last = self.n_pages - self.n_pages % (TABLE_SIZE // DESCRIPTOR_SIZE)
        descriptor = descriptor_of(self.headers)
        off = self.table_off + last * DESCRIPTOR_SIZE
        table = self.read(off, (self.n_pages - last) * DESCRIPTOR_SIZE)
        for page_off, size, _, _ in descriptor.iter_unpack(table):
            if page_off + size > self.size and not self.is_incomplete:
                self.read(page_off, size)

    def _read_up_to(self, off: int, size: int) -> bytes:
        try:
            return self.image.read(off, size)
        except OSError as error:
            raise InputError(self.path, error.errno, f"reading this part at {off:#x}") from error


def descriptor_of(headers: Headers) -> Struct:
    """``struct page_desc``: offset, size, flags, page_flags."""
    return Struct(headers.byte_order + "qIIQ")


def is_part(path: str) -> bool:
    """Whether there is such a file, and it is a part of a split dump."""
    if not os.path.isfile(path):  # to open a pipe is to wait for its writer
        return False
    try:
        with Part(path):
            return True
    except PydumpfileError:
        return False


def _check_set(parts: Sequence[Part]) -> None:
    """Whether ``parts``, in order, are all of one dump."""
    first = parts[0]
    _check_common(parts)
    at_pfn, before = 0, None
    for part in parts:
        start_pfn, end_pfn = part.headers.own_pfns
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


def _check_common(parts: Sequence[Part]) -> None:
    """Refuse parts that differ in what all parts of a dump have, and those of 32-bit machines."""
    for part in parts:
        if part.headers.is_32_bit:
            raise UnsupportedError(f"{part.path}: a part of a split dump of a 32-bit machine")
    first = parts[0]
    for part in parts[1:]:
        if part.headers.version != first.headers.version or _common(part) != _common(first):
            raise _of_another(first, part, "headers")
    headers = first.headers
    notes_off = headers.block_size + len(pack_sub_header(headers, headers.sub))
    bitmaps_off = headers.bitmap1_off
    _check_equal(parts, "notes", notes_off, bitmaps_off)
    _check_equal(parts, "bitmaps", bitmaps_off, headers.descriptors_off)


def _check_equal(parts: Sequence[Part], what: str, start_off: int, end_off: int) -> None:
    """Refuse parts that have other bytes there; each is read once."""
    for off in range(start_off, end_off, _PIECE_SIZE):
        size = min(_PIECE_SIZE, end_off - off)
        piece = parts[0].read(off, size)
        for part in parts[1:]:
            if part.read(off, size) != piece:
                raise _of_another(parts[0], part, what)


def _of_another(first: Part, part: Part, what: str) -> UsageError:
    return UsageError(
        f"{first.path} and {part.path} are not parts of the same dump: they have different {what}"
    )


def _common(part: Part) -> tuple[bytes, object]:
    """Of the headers what has to be the same in all parts."""
    sub = part.headers.sub._replace(
        start_pfn=0, end_pfn=0, start_pfn_64=0, end_pfn_64=0, offset_eraseinfo=0, size_eraseinfo=0
    )
    return mark_incomplete(part.start[: part.headers.block_size]), sub


def _pages_within(part: Part) -> Iterator[int]:
    """How many pages of its range are in the dump, piece by piece."""
    start_pfn, end_pfn = part.headers.own_pfns
    while start_pfn < end_pfn:
        stop_pfn = min(end_pfn, start_pfn - start_pfn % 8 + 8 * TABLE_SIZE)
        off = start_pfn // 8
        bits = int.from_bytes(
            part.read(part.headers.bitmap2_off + off, -(-stop_pfn // 8) - off), "little"
        )
        bits &= (1 << stop_pfn - 8 * off) - 1
        yield bin(bits >> start_pfn - 8 * off).count("1")
        start_pfn = stop_pfn
