# SPDX-License-Identifier: GPL-2.0-or-later
"""Have the crash kernel judge struct pages: requests to /proc/vmcore_pfn_lists, and its answers.

The kernel of kpatch/linux-*/pfn-lists has that file. It is told where mem_map is, by offsets in
/proc/vmcore, and given the same plan as csrc/classify.c; it judges by the same csrc/page_judge.h.
Format: csrc/vmcore_pfn_lists.h.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from struct import Struct
from types import TracebackType
from typing import NamedTuple, Optional

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import (
    FaultError,
    FormatError,
    InputError,
    TruncatedError,
    UnsupportedError,
)
from pydumpfile.filter.answer import RECORD_SIZE, Answer, make_take_records
from pydumpfile.filter.plan import PageTest, Plan
from pydumpfile.filter.tally import Tally
from pydumpfile.formats.elf import Phdr
from pydumpfile.kernel.memmap import MemMapPiece
from pydumpfile.memory.space import AddressSpace
from pydumpfile.pfn import PageSet, Range

PATH = "/proc/vmcore_pfn_lists"
REQUEST_MAX = 64 << 10
"""Bytes of one request, tables included."""
_MAGIC = 0x7374736C6E667076
_VERSION = 1
_NOWHERE = (1 << 64) - 1
_PAGE_SIZE = 4096

_HEADER = Struct("<Q10IQ")
_PLAN = Struct("<6IQ4I" + 9 * "IIQQ" + "3Q")
_RANGE = Struct("<QQ")
_PIECE = Struct("<QQII")
_EXTENT = Struct("<QQ")
_REQUEST_SIZE = _HEADER.size + _PLAN.size
_READ_SIZE = 4096 * RECORD_SIZE


class Extent(NamedTuple):
    """``size`` bytes of /proc/vmcore from ``off`` on; or of nothing, which is read as zeros."""

    off: int
    size: int


class Piece(NamedTuple):
    """Struct pages of pfns ``[first_pfn, end_pfn)``: the bytes of all extents together."""

    first_pfn: int
    end_pfn: int
    extents: tuple[Extent, ...]

    def lost(self, struct_page_size: int) -> Iterator[Range]:
        """The pfns whose struct pages are nowhere."""
        off = 0
        for extent in self.extents:
            end_off = off + extent.size
            if extent.off == _NOWHERE:
                first, end = off // struct_page_size, end_off // struct_page_size
                yield self.first_pfn + first, self.first_pfn + end
            off = end_off


class PfnLists:
    """The kernel's filter, opened.

    :raises UnsupportedError: the kernel has none, or this process may not use it.
    """

    def __init__(self, path: str = PATH) -> None:
        self.path = path
        self._take_records = make_take_records()
        try:
            self._file = os.open(path, os.O_RDWR)
        except OSError as error:
            raise UnsupportedError(
                f"judging pages in the kernel without {path} ({error.strerror})",
                "it takes root, and a crash kernel with the series of kpatch/linux-*/pfn-lists",
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __enter__(self) -> PfnLists:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def judge(self, request: bytes, end_pfn: int, window: Bitmap, tally: Tally) -> None:
        """Have the kernel judge, and clear the bits in ``window`` of the pages that go.

        :param request: about pages of ``window`` only.
        :param end_pfn: that of the request.
        :param tally: counted up. If this fails, it and ``window`` are of no use any more.
        :raises InputError: the kernel refuses the request, or cannot read old memory.
        :raises FormatError: its answer is none, or not whole (TruncatedError).
        """
        answer = Answer(end_pfn)
        off = 0
        try:
            os.write(self._file, request)
            while records := os.read(self._file, _READ_SIZE):
                done = RECORD_SIZE * self._take_records(records, answer, window, tally)
                if done < len(records):
                    wrong = records[done : done + RECORD_SIZE].hex(" ", 8)
                    expected = f"a record about pages below pfn {end_pfn:#x}, as the format has it"
                    raise FormatError(self.path, off + done, expected, wrong)
                off += done
        except OSError as error:
            raise InputError(self.path, error.errno, "having pages judged by the kernel") from error
        if not answer.complete:
            raise TruncatedError(self.path, off, "one more record", "the end of the answer")


def locate(
    piece: MemMapPiece, struct_page_size: int, memory: AddressSpace, loads: Iterable[Phdr]
) -> Piece:
    """Where in the file the struct pages of ``piece`` are.

    Struct pages that are not all there are nowhere, as :meth:`AddressSpace.salvage` has it.

    :param loads: the PT_LOADs of the file, in file order; of two that overlap the first counts.
    :raises UnsupportedError: one of them begins or ends inside a word of a struct page.
    """
    loads = tuple(loads)
    size = (piece.end_pfn - piece.first_pfn) * struct_page_size
    try:
        extents = list(_extents(memory, piece.vaddr, size, loads))
    except FaultError:
        extents = []
        for at, end, there in _stretches(memory, piece.vaddr, size, struct_page_size, loads):
            if there:
                extents += _extents(memory, at, end - at, loads)
            else:
                extents.append(Extent(_NOWHERE, end - at))
    joined = tuple(_joined(extents, loads))
    if any((off % 8 and off != _NOWHERE) or size % 8 for off, size in joined):
        raise UnsupportedError(
            "judging pages in the kernel where a PT_LOAD begins or ends in a struct page's word",
            "let them be judged in user space",
        )
    return Piece(piece.first_pfn, piece.end_pfn, joined)


def make_requests(
    plan: Plan, memory: PageSet, pieces: Iterable[Piece], end_pfn: int
) -> Iterator[bytes]:
    """Requests to judge the pages of ``memory``, as few as their size allows.

    :param pieces: ascending and disjoint.
    :param end_pfn: behind all of them, and no answer goes past it.
    :raises UnsupportedError: mem_map is too scattered for the kernel's tables.
    """
    batch: list[Piece] = []
    size = _REQUEST_SIZE
    for piece in pieces:
        n_ranges = sum(1 for _ in memory.within(piece.first_pfn, piece.end_pfn))
        more = n_ranges * _RANGE.size + _PIECE.size + len(piece.extents) * _EXTENT.size
        if _REQUEST_SIZE + more > REQUEST_MAX:
            raise UnsupportedError(
                f"judging pages in the kernel that from pfn {piece.first_pfn:#x} on have their "
                f"struct pages in {len(piece.extents)} places, and are {n_ranges} ranges,",
                "let them be judged in user space",
            )
        if size + more > REQUEST_MAX:
            yield _request(plan, memory, batch, end_pfn)
            batch, size = [], _REQUEST_SIZE
        batch.append(piece)
        size += more
    if batch:
        yield _request(plan, memory, batch, end_pfn)


def _extents(
    memory: AddressSpace, vaddr: int, size: int, loads: tuple[Phdr, ...]
) -> Iterator[Extent]:
    """Raises FaultError where there is nothing."""
    for paddr, length in memory.translate(vaddr, size):
        end = paddr + length
        while paddr < end:
            load = next((p for p in loads if p.p_paddr <= paddr < p.p_paddr + p.p_filesz), None)
            if load is None:
                raise FaultError(paddr, "physical", "is not in the file")
            stop = min(end, load.p_paddr + load.p_filesz)
            yield Extent(load.p_offset + paddr - load.p_paddr, stop - paddr)
            paddr = stop


def _stretches(
    memory: AddressSpace, vaddr: int, size: int, unit: int, loads: tuple[Phdr, ...]
) -> Iterator[tuple[int, int, bool]]:
    """``[vaddr, vaddr + size)`` cut into ``(start, end, there)`` at multiples of ``unit``."""
    lost: set[int] = set()
    at = vaddr
    while at < vaddr + size:
        end = min(vaddr + size, at - at % _PAGE_SIZE + _PAGE_SIZE)
        try:
            list(_extents(memory, at, end - at, loads))
        except FaultError:
            lost.update(range((at - vaddr) // unit, -(-(end - vaddr) // unit)))
        at = end
    start = 0
    n = size // unit
    for i in range(1, n + 1):
        if i == n or (i in lost) != (start in lost):
            yield vaddr + start * unit, vaddr + i * unit, start not in lost
            start = i


def _joined(extents: Iterable[Extent], loads: tuple[Phdr, ...]) -> Iterator[Extent]:
    """Those that lie behind each other as one, unless a PT_LOAD ends between."""
    ends = {load.p_offset + load.p_filesz for load in loads}
    last: Optional[Extent] = None
    for extent in extents:
        follows = last and last.off + last.size == extent.off and extent.off not in ends
        if last and (follows or last.off == extent.off == _NOWHERE):
            last = Extent(last.off, last.size + extent.size)
        else:
            if last:
                yield last
            last = extent
    if last:
        yield last


def _request(plan: Plan, memory: PageSet, pieces: list[Piece], end_pfn: int) -> bytes:
    ranges = [part for piece in pieces for part in memory.within(piece.first_pfn, piece.end_pfn)]
    extents = [extent for piece in pieces for extent in piece.extents]
    header = _HEADER.pack(
        _MAGIC, _VERSION, _REQUEST_SIZE, _PLAN.size, _RANGE.size, _PIECE.size, _EXTENT.size,
        RECORD_SIZE, len(ranges), len(pieces), len(extents), end_pfn,
    )  # fmt: skip
    return b"".join(
        (
            header,
            pack_plan(plan),
            *(_RANGE.pack(*one) for one in ranges),
            *(_PIECE.pack(one.first_pfn, one.end_pfn, len(one.extents), 0) for one in pieces),
            *(_EXTENT.pack(*one) for one in extents),
        )
    )


def pack_plan(plan: Plan) -> bytes:
    """``struct pydump_plan``."""
    words: list[int] = []
    for value in plan:
        if isinstance(value, PageTest):
            words += (value.off, value.after, value.mask, value.value)
        else:
            words.append(value)
    return _PLAN.pack(*words)
