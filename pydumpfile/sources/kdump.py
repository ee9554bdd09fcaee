# SPDX-License-Identifier: GPL-2.0-or-later
"""Kdump-compressed files as memory: what an earlier dump kept, to be filtered or packed once more.

A page that the dump left out is not in the dump, here as for every reader; one that it should have
and lost is said to be lost. Neither is ever shown as zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Optional

from pydumpfile.errors import FormatError, InputError, TruncatedError, UnsupportedError
from pydumpfile.formats.diskdump import START_SIZE, Headers, parse_headers
from pydumpfile.formats.kdump import DUMP_DH_COMPRESSED_INCOMPLETE, DUMP_DH_EXCLUDED_VMEMMAP
from pydumpfile.pfn import Range, align_down
from pydumpfile.sources.base import MAX_PADDR, Source
from pydumpfile.sources.filebytes import room_for
from pydumpfile.sources.image import Image
from pydumpfile.sources.notes import MAX_NOTES_SIZE, survey_notes, vmcoreinfo_note
from pydumpfile.sources.pagestore import Pages, PageStore
from pydumpfile.sources.storedbitmap import PageAddresses, StoredBitmap

_STRETCH_SIZE = 4 << 20
"""Of memory, what one view best spans: where little of it is kept, still enough pages to be worth
asking for, and where all is, no more of them than a batch takes."""
_PIECE_SIZE = 1 << 20
MAX_ERASEINFO_SIZE = 16 << 20
_MAX_LEVEL = 31
_PAGE_SIZE_X86_64 = 4096


class KdumpSource(Source):
    """A kdump-compressed file of any version and byte order; takes over the open ``image``.

    :raises FormatError: its headers make no sense; TruncatedError: it ends inside its bitmaps.
    :raises UnsupportedError: it is one part of several, or needs a library that is not there.
    """

    reads_gaps = False

    def __init__(self, image: Image, use_mmap: bool = True) -> None:
        self.path = image.path
        self._image = image
        headers = parse_headers(self._pread(0, START_SIZE, "headers"), self.path)
        self._refuse_part(headers)
        self._check_sizes(headers)
        self._shift = headers.block_size.bit_length() - 1
        self.machine = headers.machine or _likely_machine(headers)
        if self.machine == "x86_64" and headers.block_size != _PAGE_SIZE_X86_64:
            raise FormatError(
                self.path, 0, f"blocks of {_PAGE_SIZE_X86_64} bytes, as x86_64 has pages",
                str(headers.block_size), "the header is damaged",
            )  # fmt: skip
        self.dump_level = headers.sub.dump_level & _MAX_LEVEL
        self.lacks_end_mark = image.is_cut_off
        is_marked = bool(headers.status & DUMP_DH_COMPRESSED_INCOMPLETE)
        self.incomplete = is_marked or image.is_cut_off
        self.lacks_mem_map = bool(headers.status & DUMP_DH_EXCLUDED_VMEMMAP)
        self.utsname_bytes = headers.utsname if any(headers.utsname) else None
        self.crash_time = max(0, headers.tv_sec)
        self.phys_base_hint = headers.sub.phys_base
        self._take_notes(headers)
        self.eraseinfo = self._read_eraseinfo(headers)
        existing = StoredBitmap(image, headers.bitmap1_off, 0, headers.max_mapnr)
        kept = StoredBitmap(image, headers.bitmap2_off, 0, headers.max_mapnr, existing)
        self.exists = PageAddresses(existing, self._shift)
        self.data = PageAddresses(kept, self._shift)
        self._pages = self._open_pages(headers, use_mmap)
        self._buffer = memoryview(b"")

    def another(self) -> KdumpSource:
        twin = copy.copy(self)
        twin._pages = self._pages.another()
        twin._buffer = memoryview(b"")
        return twin

    def drop_views(self) -> None:
        self._pages.drop_views()
        self._buffer = memoryview(b"")

    def view(self, paddr: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        shift = self._shift
        first_pfn, into_page = paddr >> shift, paddr & (1 << shift) - 1
        if 0 < size <= (1 << shift) - into_page:
            return memoryview(self._pages.page(first_pfn))[into_page : into_page + size]
        needed = into_page + size
        if len(self._buffer) < needed:
            self._buffer = room_for(-(-needed >> shift) << shift)
        spans = _page_spans(paddr, wanted if wanted is not None else ((0, size),), shift)
        self._pages.fill(self._buffer, first_pfn, spans)
        return self._buffer[into_page:needed]

    def stretch_end(self, paddr: int) -> int:
        if not self._pages.holds(paddr >> self._shift):
            return paddr
        return align_down(paddr, _STRETCH_SIZE) + _STRETCH_SIZE

    def read_page(self, pfn: int, page_shift: int) -> bytes:
        """One page; unlike a vmcore's it is there whole, or not at all.

        :raises NotInDumpError: it was left out, or never was.
        :raises FaultError: it was lost, or is damaged.
        """
        if page_shift != self._shift:
            raise ValueError(f"a dump of pages of {1 << self._shift} bytes has no others")
        return self._pages.page(pfn)

    def iter_notes(self) -> Iterator[bytes]:
        if self._own_notes:
            yield self._own_notes
            return
        for done in range(0, self.notes_size, _PIECE_SIZE):
            piece = min(_PIECE_SIZE, self.notes_size - done)
            yield self._read_extent(self._notes_off + done, piece, piece, "notes")

    def close(self) -> None:
        self._image.close()

    def _refuse_part(self, headers: Headers) -> None:
        """One part of several has but some of the pages."""
        if headers.sub.split:
            raise UnsupportedError(
                f"{self.path}: one part of a split dump (pages {headers.start_pfn:#x} to "
                f"{headers.end_pfn:#x})", "give all of its parts, or join them with --reassemble",
            )  # fmt: skip

    def _open_pages(self, headers: Headers, use_mmap: bool) -> Pages:
        """Where its pages are."""
        return PageStore(self._image, headers, use_mmap)

    def _read_eraseinfo(self, headers: Headers) -> bytes:
        sub = headers.sub
        return self._read_extent(
            sub.offset_eraseinfo, sub.size_eraseinfo, MAX_ERASEINFO_SIZE, "eraseinfo"
        )

    def _check_sizes(self, headers: Headers) -> None:
        """Refuse sizes that cannot be, and a file without all its bitmaps."""
        bits = 8 * (headers.descriptors_off - headers.bitmap2_off)
        most = MAX_PADDR // headers.block_size
        if not headers.max_mapnr <= min(bits, most):
            raise FormatError(
                self.path, 0, f"at most {min(bits, most)} pages, for which there are bits",
                str(headers.max_mapnr), "the headers are damaged",
            )  # fmt: skip
        if headers.descriptors_off > self._image.size:
            raise TruncatedError(
                self.path, self._image.size,
                f"bitmaps up to {headers.descriptors_off:#x}", "the end of the file",
                "the dump was not written or copied that far, and which pages it has is not known",
            )  # fmt: skip

    def _take_notes(self, headers: Headers) -> None:
        """Find VMCOREINFO and CPUs in the notes; before version 4 there is only its bare text."""
        sub = headers.sub
        self._notes_off = sub.offset_note
        self._own_notes = b""
        blob = self._read_extent(sub.offset_note, sub.size_note, MAX_NOTES_SIZE, "notes")
        if not blob and sub.size_vmcoreinfo:
            text = self._read_extent(
                sub.offset_vmcoreinfo, sub.size_vmcoreinfo, MAX_NOTES_SIZE, "VMCOREINFO"
            )
            blob = self._own_notes = vmcoreinfo_note(text)
        notes = survey_notes([(self._notes_off, blob)] if blob else [], self.path)
        self.notes_size = notes.size
        self.vmcoreinfo, self.vmcoreinfo_off = notes.vmcoreinfo, notes.vmcoreinfo_off
        self.only_system_ram = not notes.by_qemu
        self.nr_cpus = headers.nr_cpus if headers.nr_cpus > 0 else notes.nr_cpus

    def _read_extent(self, off: int, size: int, most: int, what: str) -> bytes:
        """``size`` bytes that a header says are at ``off``."""
        if size > most:
            raise FormatError(self.path, off, f"at most {most} bytes of {what}", f"{size} bytes",
                              "the headers are damaged")  # fmt: skip
        is_inside = size and off < self._image.size
        data = self._pread(off, size, what) if is_inside else b""
        if len(data) < size:
            raise TruncatedError(self.path, off, f"{size} bytes of {what}", f"{len(data)} bytes",
                                 "the dump was not copied whole")  # fmt: skip
        return data

    def _pread(self, off: int, size: int, what: str) -> bytes:
        try:
            return self._image.read(off, size)
        except OSError as error:
            raise InputError(self.path, error.errno, f"reading {what} at {off:#x}") from error


def _page_spans(paddr: int, wanted: Sequence[Range], shift: int) -> list[Range]:
    """The pfns that the byte ranges ``wanted``, relative to ``paddr``, lie in; ascending."""
    spans: list[Range] = []
    for start, end in wanted:
        if start < end:
            first_pfn, end_pfn = (paddr + start) >> shift, -(-(paddr + end) >> shift)
            if spans and first_pfn <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(spans[-1][1], end_pfn)
            else:
                spans.append((first_pfn, end_pfn))
    return spans


def _likely_machine(headers: Headers) -> str:
    """Of which machine a dump is whose writer could not read utsname."""
    is_x86_64 = (
        headers.block_size == _PAGE_SIZE_X86_64 and headers.encoding == "64-bit little-endian"
    )
    return "x86_64" if is_x86_64 else f"nameless {headers.encoding}"
