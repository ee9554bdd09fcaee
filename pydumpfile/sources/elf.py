# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF vmcores: /proc/vmcore, copies of it, and what QEMU's dump-guest-memory writes.

Physical addresses come from ``p_paddr`` alone, so that the virtual duplicates of QEMU's ``-p`` and
the kernel image that /proc/vmcore lists twice are harmless. Where segments overlap, the first in
file order gives the bytes.

Of a core that was cut short all is read that is there. Bytes that its program headers tell of
behind the end of the file are lost.
"""

from __future__ import annotations

import copy
import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from pydumpfile.errors import (
    FaultError,
    FormatError,
    InputError,
    NotInDumpError,
    TruncatedError,
    UnsupportedError,
)
from pydumpfile.formats import elf
from pydumpfile.pfn import Range, Ranges
from pydumpfile.sources.base import MAX_PADDR, LostPageError, Source, UnreadableError
from pydumpfile.sources.filebytes import room_for
from pydumpfile.sources.image import Image
from pydumpfile.sources.notes import MAX_NOTES_SIZE, survey_notes

_START_KERNEL_MAP = 0xFFFFFFFF80000000
_NOTES_PIECE_SIZE = 1 << 20
_MAX_SEGMENTS = 1 << 20
_MOST_WITHOUT_BYTES = 1 << 46
"""64 TiB: a filtered core may have few of its bytes left."""
_MAX_OFF = 1 << 63
"""No file goes on beyond."""
_PAGE_SIZE = 4096
_MAX_SECTION_NAMES_SIZE = 64 << 10


class Run(NamedTuple):
    """Physical addresses ``[start, end)`` whose bytes lie in the file from ``off`` on."""

    start: int
    end: int
    off: int

    @property
    def size(self) -> int:
        """How many they are."""
        return self.end - self.start

    def before(self, end_off: int) -> Run:
        """Those of them that lie before ``end_off``, perhaps none."""
        return self._replace(end=min(self.end, self.start + max(0, end_off - self.off)))


class ElfSource(Source):
    """A 64-bit little-endian ELF core; takes over the open ``image``."""

    def __init__(self, image: Image, use_mmap: bool = True) -> None:
        self.path = path = image.path
        self._image = image
        self._file_size = image.size
        self.header = header = self._read_header()
        """The file's ELF header, as it is."""
        self.lacks_end_mark = image.is_cut_off
        self.incomplete = bool(header.e_flags & elf.EF_INCOMPLETE) or image.is_cut_off
        self.machine = elf.MACHINES.get(header.e_machine, f"machine {header.e_machine}")
        segments = self._read_segments(header)
        self._notes = [s for s in segments if s.p_type == elf.PT_NOTE]
        loads = self._memory_loads(segments)
        if not loads:
            self._refuse_xen_guest(header)
            raise FormatError(path, header.e_phoff, "at least one PT_LOAD with a physical address",
                              f"{len(segments)} program headers, none such")  # fmt: skip
        self.loads = tuple(loads)
        """Its PT_LOADs that have a physical address, in file order."""
        self._check_extents(loads, header)
        self.exists = Ranges((s.p_paddr, s.p_paddr + s.p_memsz) for s in loads)
        runs = file_runs(loads)
        self.data = Ranges((run.start, run.end) for run in runs)
        self._runs = [run for run in (run.before(self._file_size) for run in runs) if run.size]
        self._run_starts = [run.start for run in self._runs]
        self.missing = Ranges((run.start + run.before(self._file_size).size, run.end)
                              for run in runs)  # fmt: skip
        self._check_proportion(header)
        self.phys_base_hint = next(
            (s.p_paddr - (s.p_vaddr - _START_KERNEL_MAP)
             for s in loads if s.p_vaddr >= _START_KERNEL_MAP), None)  # fmt: skip
        self._parse_notes()
        self._use_mmap = use_mmap
        self._file = image.windows(use_mmap)

    @property
    def notes_phdr(self) -> elf.Phdr:
        """A program header for all :meth:`iter_notes` together, the file's own if it has one."""
        first = self._notes[0] if self._notes else elf.Phdr(elf.PT_NOTE, 0, 0, 0, 0, 0, 0, 0)
        size_in_memory = sum(note.p_memsz for note in self._notes)
        return first._replace(p_filesz=self.notes_size, p_memsz=size_in_memory)

    def view(self, paddr: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        run = self._run_at(paddr)
        if run is not None and paddr + size <= run.end:
            try:
                return self._file.view(run.off + paddr - run.start, size, wanted)
            except OSError:
                pass  # the careful way below finds the page at fault, or reads what mmap could not
        return self._assemble(paddr, size, wanted if wanted is not None else ((0, size),))

    def stretch_end(self, paddr: int) -> int:
        run = self._run_at(paddr)
        if run is not None:
            return run.end
        # Of what is lost as well, to have it done with in large batches.
        start, end = next(self.missing.within(paddr, MAX_PADDR), (paddr, paddr))
        return end if start == paddr else paddr

    def another(self) -> ElfSource:
        twin = copy.copy(self)
        twin._file = self._image.windows(self._use_mmap)
        return twin

    def drop_views(self) -> None:
        self._file.drop_views()

    def iter_notes(self) -> Iterator[bytes]:
        for note in self._notes:
            for done in range(0, note.p_filesz, _NOTES_PIECE_SIZE):
                piece = min(_NOTES_PIECE_SIZE, note.p_filesz - done)
                yield self._pread(note.p_offset + done, piece, "notes")

    def close(self) -> None:
        self._image.close()

    def _memory_loads(self, segments: Sequence[elf.Phdr]) -> list[elf.Phdr]:
        """Those of ``segments`` that are physical memory."""
        return [s for s in segments if s.p_type == elf.PT_LOAD and s.p_paddr != elf.NO_PADDR]

    def _run_at(self, paddr: int) -> Optional[Run]:
        at = bisect_right(self._run_starts, paddr) - 1
        if at >= 0 and paddr < self._runs[at].end:
            return self._runs[at]
        return None

    def _assemble(self, paddr: int, size: int, wanted: Sequence[Range]) -> memoryview:
        """A copy of the wanted ranges, piece by piece from wherever the file has them."""
        copy = room_for(size)
        for start, end in wanted:
            while start < end:
                run = self._run_at(paddr + start)
                if run is None:
                    raise self._nothing_at(paddr + start)
                piece_end = min(end, run.end - paddr)
                off = run.off + paddr + start - run.start
                self._read_into(off, copy[start:piece_end], paddr + start)
                start = piece_end
        return copy

    def _nothing_at(self, paddr: int) -> FaultError:
        """Why the file has no byte of ``paddr``."""
        if paddr in self.missing:
            return LostPageError(paddr, f"the file ends at {self._file_size:#x}, before it")
        return NotInDumpError(paddr)

    def _read_into(self, off: int, buffer: memoryview, paddr: int) -> None:
        """Fill ``buffer``; on failure go page by page, to name the first that cannot be read."""
        try:
            self._file.read_into(off, buffer)
        except OSError:
            done = 0
            while done < len(buffer):
                end = min(len(buffer), done + _PAGE_SIZE - (paddr + done) % _PAGE_SIZE)
                try:
                    self._file.read_into(off + done, buffer[done:end])
                except OSError as error:
                    raise UnreadableError(
                        paddr + done, error.errno or 0, error.strerror or ""
                    ) from error
                done = end

    def _read_header(self) -> elf.Ehdr:
        ident = self._pread(0, elf.EI_NIDENT, "ELF identification")
        if ident[elf.EI_CLASS] != elf.ELFCLASS64:
            raise UnsupportedError(f"{self.path}: a core of a 32-bit machine")
        if ident[elf.EI_DATA] != elf.ELFDATA2LSB:
            raise UnsupportedError(f"{self.path}: a core of a big-endian machine")
        header = elf.Ehdr._make(elf.EHDR.unpack(self._pread(0, elf.EHDR.size, "ELF header")))
        if header.e_type != elf.ET_CORE:
            raise FormatError(self.path, 16, "an ELF core (e_type 4)", f"e_type {header.e_type}",
                              "this is not a memory image")  # fmt: skip
        if header.e_phentsize != elf.PHDR.size:
            raise FormatError(self.path, 54, f"program headers of {elf.PHDR.size} bytes",
                              f"e_phentsize {header.e_phentsize}")  # fmt: skip
        return header

    def _read_segments(self, header: elf.Ehdr) -> list[elf.Phdr]:
        n = header.e_phnum
        if n == elf.PN_XNUM:
            n = elf.sh_info(self._pread(header.e_shoff, elf.SHDR_SIZE, "section header 0"))
        if n > _MAX_SEGMENTS:
            raise FormatError(
                self.path, header.e_shoff, f"at most {_MAX_SEGMENTS} program headers", str(n),
                "the headers are damaged",
            )  # fmt: skip
        return elf.parse_phdrs(
            self._pread(header.e_phoff, n * elf.PHDR.size, f"{n} program headers")
        )

    def _refuse_xen_guest(self, header: elf.Ehdr) -> None:
        """``xl dump-core`` writes sections alone, known by their names."""
        if not header.e_shstrndx < header.e_shnum:
            return
        off = header.e_shoff + elf.SHDR_SIZE * header.e_shstrndx
        names = elf.section(self._pread(off, elf.SHDR_SIZE, "a section header"))
        size = min(names.sh_size, _MAX_SECTION_NAMES_SIZE)
        if b".note.Xen\0" in self._pread(names.sh_offset, size, "names of sections"):
            raise UnsupportedError(f"{self.path}: a core of a Xen guest, as xl dump-core writes it")

    def _check_extents(self, loads: list[elf.Phdr], header: elf.Ehdr) -> None:
        """Refuse sizes and places that cannot be."""
        for i, s in enumerate(loads):
            if (
                s.p_filesz > s.p_memsz
                or s.p_paddr + s.p_memsz > MAX_PADDR
                or s.p_offset + s.p_filesz > _MAX_OFF
            ):
                raise FormatError(
                    self.path, header.e_phoff,
                    f"PT_LOAD {i} inside the {MAX_PADDR:#x} bytes a machine can address and the "
                    f"{_MAX_OFF:#x} of a file, and with p_filesz up to p_memsz",
                    f"p_paddr {s.p_paddr:#x}, p_offset {s.p_offset:#x}, p_filesz {s.p_filesz:#x}, "
                    f"p_memsz {s.p_memsz:#x}", "the program headers are damaged",
                )  # fmt: skip

    def _check_proportion(self, header: elf.Ehdr) -> None:
        """Refuse memory without bytes beyond all measure: its bitmap alone would fill disks."""
        there = self.data.total - self.missing.total
        if self.exists.total > max(_MOST_WITHOUT_BYTES, 1024 * there):
            raise FormatError(
                self.path, header.e_phoff, "program headers that describe a machine's memory",
                f"{self.exists.total:#x} bytes of memory, of which {there:#x} are there",
                "they are damaged",
            )  # fmt: skip
        if self.missing and not there:
            raise TruncatedError(
                self.path, self._file_size, f"{self.missing.total:#x} bytes of memory",
                "the end of the file, before the first of them", "the core was not copied whole",
            )  # fmt: skip

    def _parse_notes(self) -> None:
        """Find VMCOREINFO and count CPUs."""
        self.notes_size = sum(note.p_filesz for note in self._notes)
        if self.notes_size > MAX_NOTES_SIZE:
            raise FormatError(
                self.path, self._notes[0].p_offset, f"at most {MAX_NOTES_SIZE} bytes of notes",
                f"{self.notes_size} bytes", "the program headers are damaged",
            )  # fmt: skip
        blobs = ((s.p_offset, self._pread(s.p_offset, s.p_filesz, "notes")) for s in self._notes)
        notes = survey_notes(blobs, self.path)
        self.vmcoreinfo, self.vmcoreinfo_off = notes.vmcoreinfo, notes.vmcoreinfo_off
        self.nr_cpus = notes.nr_cpus
        self.only_system_ram = not notes.by_qemu  # which dumps all of a guest's memory, of any kind

    def _pread(self, off: int, size: int, what: str) -> bytes:
        if off + size > max(self._file_size, elf.EHDR.size):
            raise TruncatedError(
                self.path, off, f"{size} bytes of {what}",
                f"the end of the file at {self._file_size:#x}", "the core was not copied whole",
            )  # fmt: skip
        try:
            data = self._image.read(off, size)
        except OSError as error:
            raise InputError(self.path, error.errno, f"reading {what} at {off:#x}") from error
        if len(data) < size:
            raise TruncatedError(self.path, off, f"{size} bytes of {what}", f"{len(data)} bytes",
                                 "the core was not copied whole")  # fmt: skip
        return data


def file_runs(loads: Sequence[elf.Phdr]) -> list[Run]:
    """Which physical addresses lie where in the file: sorted, disjoint, joined where both go on.

    Of overlapping segments the first in file order counts. A sweep over the sorted starts with a
    heap of the segments that are open there: 65536 segments cost no more than a sort.
    """
    order = sorted((s.p_paddr, i) for i, s in enumerate(loads) if s.p_filesz)
    runs: list[Run] = []
    open_segments: list[int] = []
    at = 0
    position = 0
    while at < len(order) or open_segments:
        if not open_segments:
            position = order[at][0]
        while at < len(order) and order[at][0] <= position:
            heapq.heappush(open_segments, order[at][1])
            at += 1
        first = loads[open_segments[0]]
        end = first.p_paddr + first.p_filesz
        if end <= position:
            heapq.heappop(open_segments)
            continue
        if at < len(order):
            end = min(end, order[at][0])
        off = first.p_offset + position - first.p_paddr
        last = runs[-1] if runs else None
        if last and last.end == position and last.off + last.end - last.start == off:
            runs[-1] = Run(last.start, end, last.off)
        else:
            runs.append(Run(position, end, off))
        position = end
    return runs
