# SPDX-License-Identifier: GPL-2.0-or-later
"""From the parts of a split dump to the dump they stand for, byte for byte.

Pages are copied as they are stored: only the headers, and where descriptors point to, change. What
can be found wrong with the set (:mod:`pydumpfile.sources.partset`) is found before the target is
touched. Of parts that are incomplete themselves the dump is marked as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError
from pydumpfile.formats.diskdump import pack_sub_header
from pydumpfile.formats.incomplete import mark_incomplete
from pydumpfile.formats.kdump import DESCRIPTOR_SIZE, DUMP_DH_COMPRESSED_ZLIB
from pydumpfile.progress import Progress, Throttled
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.base import Output
from pydumpfile.sinks.gathered import Gathered
from pydumpfile.sinks.salvage import salvage_pages
from pydumpfile.sources.partset import TABLE_SIZE, Part, PartSet, descriptor_of

_PIECE_SIZE = 1 << 20


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
    with PartSet(paths) as parts:
        output = open_output(target, *paths)
        try:
            join = _Join(parts, output, Throttled(progress))
            try:
                join.run()
            finally:
                join.salvage()
        finally:
            output.close()
        return Joined(output.size, parts.incomplete)


class _Join:
    """Writes the dump; data goes out before the descriptors that point at it."""

    def __init__(self, parts: PartSet, output: Output, progress: Throttled) -> None:
        self._set = parts
        self._output = output
        self._progress = progress
        self._headers = parts.headers
        self._descriptor = descriptor_of(self._headers)
        data_off = parts.data_off
        self._data = Gathered(output, data_off, _PIECE_SIZE)
        self._table = Gathered(output, self._headers.descriptors_off, TABLE_SIZE)
        self._described_off = data_off
        """Up to where the descriptors that are written tell of data."""
        self._zero_off = data_off if self._headers.sub.dump_level & 1 else -1
        """Where the page is that all zero pages share, in the dump as in each part."""
        self._done = 0

    def run(self) -> None:
        """All of it; marked complete at last, if all parts are."""
        block_size, output = self._headers.block_size, self._output
        header = self._set.parts[0].start[:block_size]
        output.write_at(0, mark_incomplete(header))
        self._copy_front()
        output.extend(self._set.data_off)
        if self._zero_off >= 0:
            self._data.write(bytes(block_size))
        for part in self._set.parts:
            for table in part.tables():
                self._copy_pages(part, table)
        self._copy_eraseinfo()
        self._flush()
        output.sync()
        if not self._set.incomplete:
            output.rewrite_start(header)
        output.end()

    def salvage(self) -> None:
        """Nothing more will come: have all pages that are in the file described, if any are not."""
        salvage_pages(
            self._output, self._data, self._table, self._described_off, self._headers.byte_order
        )

    def _copy_front(self) -> None:
        """Everything between the header and the descriptors."""
        first, headers = self._set.parts[0], self._headers
        sub = headers.sub._replace(split=0, start_pfn=0, end_pfn=0, start_pfn_64=0, end_pfn_64=0)
        packed = pack_sub_header(headers, sub)
        self._output.write_at(headers.block_size, packed)
        off = headers.block_size + len(packed)
        while off < headers.descriptors_off:
            data = first.read(off, min(_PIECE_SIZE, headers.descriptors_off - off))
            self._output.write_at(off, data)
            off += len(data)

    def _copy_pages(self, part: Part, table: bytes) -> None:
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
        self._progress("copying pages", self._done, self._set.n_pages)

    def _is_page(self, part: Part, off: int, size: int) -> bool:
        """Whether the part has such bytes; False if it is known to lack some.

        :raises FormatError: it does not, and should.
        """
        if self._set.data_off <= off and 0 < size <= self._headers.block_size:
            if off + size <= part.size:
                return True
            if part.is_incomplete:
                return False
            part.read(off, size)  # which says so
        raise FormatError(
            part.path, part.table_off,
            f"descriptors of pages of up to {self._headers.block_size} bytes behind "
            f"{self._set.data_off:#x}",
            f"one of {size} bytes at {off:#x}", "this part is damaged",
        )  # fmt: skip

    def _copy_data(self, part: Part, start: int, end: int) -> None:
        while start < end:
            data = part.read(start, min(_PIECE_SIZE, end - start))
            self._data.write(data)
            start += len(data)

    def _copy_eraseinfo(self) -> None:
        """What the parts say was erased, one after the other behind the pages.

        Where it is among the notes, as pydumpfile writes it, it is the same in all and copied.
        """
        start = self._data.end_off
        for extent in self._set.eraseinfo():
            self._copy_data(*extent)
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
