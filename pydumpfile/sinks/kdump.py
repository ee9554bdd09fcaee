# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a kdump-compressed dump: whole bitmaps first, then pages, and only then "complete".

From its first byte to the last but one the file says that it is incomplete. Data goes out before
the descriptors that point at it, so that a dump cut short has empty descriptors, which readers know
as lost pages, and no wild ones; where it is cut short for a reason that is noticed, whatever pages
are in it get theirs. Nothing but the header is ever written twice, and nothing needs to
be read back, so that the output may be a stream.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple, Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.formats.kdump import (
    DESCRIPTOR_SIZE,
    DUMP_DH_COMPRESSED_INCOMPLETE,
    DUMP_DH_EXCLUDED_VMEMMAP,
    LOST,
    Header,
    Layout,
    SubHeader,
)
from pydumpfile.pfn import Range
from pydumpfile.sinks.base import Bytes, Output
from pydumpfile.sinks.gathered import Gathered
from pydumpfile.sinks.salvage import salvage_pages

_DATA_BUFFER_SIZE = 1 << 20
_DESCRIPTOR_BUFFER_SIZE = 64 << 10


class Subject(NamedTuple):
    """What the headers say of the dead machine."""

    page_size: int
    utsname: bytes
    crash_time: int
    max_mapnr: int
    nr_cpus: int
    phys_base: int
    dump_level: int
    notes_size: int
    vmcoreinfo_off: int
    """Within the notes."""
    vmcoreinfo_size: int
    eraseinfo: bytes = b""
    """What was erased from the pages, as text."""
    lacks_mem_map: bool = False
    """Struct pages that describe nothing but pages left out were left out as well."""


class KdumpSink:
    """One dump on its way to ``output``, which it takes over.

    In this order: :meth:`write_headers`, :meth:`write_notes`, both bitmaps in windows,
    :meth:`start_pages`, :meth:`write_batch` in pfn order, :meth:`finish`. All raise OutputError.

    :param part: the pfns whose data this file gets, beside headers and bitmaps of all; None if the
        dump is not split.
    :param data_buffer_size: bytes of data that are gathered before they are written.
    """

    def __init__(
        self, output: Output, subject: Subject, codec_flag: int, part: Optional[Range] = None,
        data_buffer_size: int = _DATA_BUFFER_SIZE,
    ) -> None:  # fmt: skip
        self._output = output
        self._subject = subject
        self._codec_flag = codec_flag
        self._part = part
        self._data_buffer_size = data_buffer_size
        behind_sub_header = subject.notes_size + len(subject.eraseinfo)
        self._layout = Layout.plan(subject.page_size, behind_sub_header, subject.max_mapnr)
        self._descriptors = Gathered(output, self._layout.descriptors_off, _DESCRIPTOR_BUFFER_SIZE)
        self._data = Gathered(output, 0, 0)
        self._described_off = 0
        """Up to where the descriptors that are written tell of data."""
        self.zero_off = 0
        """Where the shared zero page is; 0 if there is none."""

    @property
    def reads_back(self) -> bool:
        """Whether :meth:`read_bitmap2` can be asked."""
        return self._output.reads_back

    @property
    def size(self) -> int:
        """Bytes of the dump, or of its stream."""
        return self._output.size

    def write_headers(self) -> None:
        """Say what the dump is of, and that it is incomplete."""
        self._output.write_at(0, self._header(DUMP_DH_COMPRESSED_INCOMPLETE))
        self._output.write_at(self._subject.page_size, self._sub_header().pack())
        if self._subject.eraseinfo:
            self._output.write_at(self._eraseinfo_off, self._subject.eraseinfo)

    def set_part(self, part: Range) -> None:
        """Which pages this part of a split dump gets is known now; its output has to be a file."""
        self._part = part
        self._output.write_at(self._subject.page_size, self._sub_header().pack())

    def write_notes(self, pieces: Iterable[bytes], done: int = 0) -> None:
        """Copy the notes, of which ``done`` bytes were copied before."""
        off = self._layout.notes_off + done
        for piece in pieces:
            self._output.write_at(off, piece)
            off += len(piece)

    def write_bitmap1(self, window: Bitmap) -> None:
        """The pages that exist, one window; windows that are never written are clear."""
        self._output.write_at(self._layout.bitmap1_off + window.first_pfn // 8, window.bits)

    def write_bitmap2(self, window: Bitmap) -> None:
        """The pages that are in the dump, one window; likewise."""
        self._output.write_at(self._layout.bitmap2_off + window.first_pfn // 8, window.bits)

    def read_bitmap2(self, first_pfn: int, end_pfn: int) -> Bitmap:
        """The bits ``[first_pfn, end_pfn)`` of the 2nd bitmap, if the output reads back."""
        window = Bitmap(first_pfn, end_pfn)
        off = self._layout.bitmap2_off + first_pfn // 8
        window.bits[:] = self._output.read_at(off, len(window.bits))
        return window

    def in_turns(self, windows: Iterable[Bitmap]) -> Iterable[Bitmap]:
        """The 2nd bitmap, ``windows`` of it, in the order in which the pages are wanted."""
        return windows

    def start_pages(self, n_pages: int, share_zero: bool) -> None:
        """All bitmaps are written and have ``n_pages`` bits set; reserve their descriptors.

        :param share_zero: store one page of zeros for all zero pages to share.
        """
        data_off = self._layout.data_off(n_pages)
        self._output.extend(data_off)  # a dump cut short here has empty descriptors
        self._data = Gathered(self._output, data_off, self._data_buffer_size)
        self._described_off = data_off
        if share_zero:
            self.zero_off = data_off
            self._data.write(bytes(self._subject.page_size))

    @property
    def next_data_off(self) -> int:
        """File offset at which the data of the next batch will lie."""
        return self._data.end_off

    def write_batch(self, descriptors: Bytes, data: Bytes, lost: Collection[int] = ()) -> None:
        """Pages that follow those written before.

        :param lost: indices of those that have no descriptor because they could not be read.
        """
        if lost:
            descriptors = _with_lost(descriptors, lost)
        if not self._descriptors.has_room(len(descriptors)):
            self._flush()
        self._descriptors.write(descriptors)  # known, should there be no space for all of the data
        self._data.write(data)

    def finish(self, complete: bool) -> None:
        """Write what is left, wait for the disk, and only then mark the dump complete, if it is."""
        self.settle()
        self.end(complete)

    def settle(self) -> None:
        """First half of :meth:`finish`: all is on the disk."""
        self._flush()
        self._output.sync()

    def end(self, complete: bool) -> None:
        """The other half."""
        if complete:
            self._output.rewrite_start(self._header(0))
        self._output.end()

    def close(self) -> None:
        """Let go of the file; without :meth:`finish` it stays marked incomplete."""
        try:
            salvage_pages(self._output, self._data, self._descriptors, self._described_off)
        finally:
            self._output.close()

    def _flush(self) -> None:
        """Data first, then the descriptors that point at it."""
        self._data.flush()
        self._descriptors.flush()
        self._described_off = self._data.end_off

    def _header(self, incomplete: int) -> bytes:
        subject, layout = self._subject, self._layout
        return Header(
            utsname=subject.utsname,
            tv_sec=subject.crash_time,
            status=self._codec_flag | incomplete | DUMP_DH_EXCLUDED_VMEMMAP * subject.lacks_mem_map,
            block_size=layout.block_size,
            sub_hdr_size=layout.sub_hdr_size,
            bitmap_blocks=layout.bitmap_blocks,
            max_mapnr=subject.max_mapnr,
            nr_cpus=subject.nr_cpus,
        ).pack()

    def _sub_header(self) -> SubHeader:
        subject, layout = self._subject, self._layout
        has_info = subject.vmcoreinfo_size > 0
        start_pfn, end_pfn = self._part or (0, 0)
        return SubHeader(
            phys_base=subject.phys_base,
            dump_level=subject.dump_level,
            offset_vmcoreinfo=layout.notes_off + subject.vmcoreinfo_off if has_info else 0,
            size_vmcoreinfo=subject.vmcoreinfo_size,
            offset_note=layout.notes_off if subject.notes_size else 0,
            size_note=subject.notes_size,
            max_mapnr_64=subject.max_mapnr,
            split=int(self._part is not None),
            start_pfn_64=start_pfn,
            end_pfn_64=end_pfn,
            offset_eraseinfo=self._eraseinfo_off if subject.eraseinfo else 0,
            size_eraseinfo=len(subject.eraseinfo),
        )

    @property
    def _eraseinfo_off(self) -> int:
        """Behind the notes, where its place is known from the start."""
        return self._layout.notes_off + self._subject.notes_size


def _with_lost(descriptors: Bytes, lost: Collection[int]) -> bytearray:
    """``descriptors`` with those of the lost pages put between them."""
    table = bytearray(descriptors)
    for index in sorted(lost):
        at = index * DESCRIPTOR_SIZE
        table[at:at] = LOST
    return table
