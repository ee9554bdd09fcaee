# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes an ELF core: headers that say "incomplete", notes, memory, and only then "complete".

Memory goes out before the program headers that point at it, so that a core cut short has empty ones
(PT_NULL) at the end of its table, for which there is room from the start. Nothing but the ELF
header is written twice and nothing is read back, so that the output may be a stream; and nothing is
remembered of what was written. Where a file ends early for a reason that is noticed, the bytes of
the last PT_LOAD end with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Optional

from pydumpfile.errors import OutputError
from pydumpfile.formats import elf
from pydumpfile.formats.elf_loads import Load
from pydumpfile.formats.incomplete import mark_incomplete
from pydumpfile.pfn import align_down
from pydumpfile.sinks.base import Bytes, Output
from pydumpfile.sinks.gathered import Gathered

_DATA_BUFFER_SIZE = 1 << 20
_HEADERS_BUFFER_SIZE = 64 << 10
_MOST_UNDESCRIBED = 1 << 20
"""Bytes of memory after which the program headers gathered so far are written anyhow."""
_ZEROS = bytes(256 << 10)


class ElfSink:
    """One core on its way to ``output``; without :meth:`finish` it stays marked incomplete.

    In this order: :meth:`write_headers`, :meth:`write_notes`, of each segment of the input
    :meth:`start_segment`, of each PT_LOAD made of it :meth:`write` and :meth:`fill` and then
    :meth:`end_load`, :meth:`finish`. All raise OutputError. After any failure or interruption
    :meth:`salvage` makes the best of it.

    :param header: the ELF header of the input, of which all is kept that is still true.
    :param notes: the program header of the notes; its offset is of no interest.
    :param n_loads: how often :meth:`end_load` will be called.
    """

    def __init__(self, output: Output, header: elf.Ehdr, notes: elf.Phdr, n_loads: int) -> None:
        n_phdrs = 1 + n_loads
        phdrs_off = elf.EHDR.size
        self._section_off = phdrs_off + n_phdrs * elf.PHDR.size
        self._section = elf.pack_section_zero(n_phdrs) if n_phdrs >= elf.PN_XNUM else b""
        notes_off = self._section_off + len(self._section)
        self._output = output
        self._header = elf.EHDR.pack(*self._true_now(header, n_phdrs))
        self._notes = notes._replace(p_offset=notes_off)
        self._phdrs = Gathered(output, phdrs_off, _HEADERS_BUFFER_SIZE)
        self._data = Gathered(output, notes_off + notes.p_filesz, _DATA_BUFFER_SIZE)
        self._described_off = self._data.end_off
        """Up to where the program headers that are written tell of bytes."""
        self._segment: Optional[elf.Phdr] = None
        self._load_off = self._data.end_off
        """Where the bytes of the PT_LOAD under way begin, and below what they are of."""
        self._load_paddr = 0

    def _true_now(self, header: elf.Ehdr, n_phdrs: int) -> elf.Ehdr:
        """``header`` of what is written here; QEMU's has sections, and says that it has 8 bytes."""
        header = header._replace(
            e_ehsize=elf.EHDR.size, e_phoff=elf.EHDR.size, e_phnum=n_phdrs,
            e_shoff=0, e_shnum=0, e_shstrndx=0,
        )  # fmt: skip
        if not self._section:
            return header
        return header._replace(
            e_phnum=elf.PN_XNUM, e_shoff=self._section_off, e_shnum=1, e_shentsize=elf.SHDR_SIZE
        )

    def write_headers(self) -> None:
        """Say what the core is of, and that it is incomplete; have room for all its headers."""
        self._output.write_at(0, mark_incomplete(self._header))
        self._output.reserve(self._data.end_off)
        self._phdrs.write(elf.PHDR.pack(*self._notes))
        self._phdrs.flush()
        if self._section:
            self._output.write_at(self._section_off, self._section)

    def write_notes(self, pieces: Iterable[bytes]) -> None:
        """Copy the notes."""
        off = self._notes.p_offset
        for piece in pieces:
            self._output.write_at(off, piece)
            off += len(piece)

    def start_segment(self, segment: elf.Phdr) -> None:
        """The PT_LOADs that follow are what ``segment`` of the input becomes."""
        self._load_paddr = segment.p_paddr
        self._segment = segment

    def write(self, data: Bytes) -> None:
        """More bytes of the PT_LOAD that will be ended next."""
        self._data.write(data)

    def fill(self, size: int) -> None:
        """Likewise, zeros."""
        for done in range(0, size, len(_ZEROS)):
            self._data.write(_ZEROS[: size - done])

    def end_load(self, load: Load) -> None:
        """All of it was written: have it in the table."""
        phdr = load.phdr
        if phdr.p_filesz or load.is_last:  # makedumpfile's zero for the others is as good
            phdr = phdr._replace(p_offset=self._data.end_off - phdr.p_filesz)
        if not self._phdrs.has_room(elf.PHDR.size):
            self._flush()
        self._phdrs.write(elf.PHDR.pack(*phdr))
        self._load_off = self._data.end_off  # first: a wrong address would be worse than none
        self._load_paddr = phdr.p_paddr + phdr.p_memsz
        if self._load_off - self._described_off >= _MOST_UNDESCRIBED:
            self._flush()

    def finish(self, complete: bool) -> None:
        """Write what is left, wait for the disk, and only then mark the core complete, if it is."""
        self._flush()
        self._output.sync()
        if complete:
            self._output.rewrite_start(self._header)
        self._output.end()

    def salvage(self, page_size: int) -> None:
        """Nothing more will come: have all pages that are in the file in its program headers too.

        What of it cannot be written is left; there is a more important error to be told. A stream
        without an end mark is refused as a whole, so nothing is done to one.
        """
        if not self._output.reads_back:
            return
        with suppress(OutputError):
            self._data.flush()
        with suppress(OutputError):
            for phdr in self._in_the_file(self._output.size, page_size):
                if self._phdrs.end_off < self._section_off:
                    self._phdrs.write(elf.PHDR.pack(*phdr))
            self._phdrs.flush()

    def _in_the_file(self, file_size: int, page_size: int) -> list[elf.Phdr]:
        """The program headers not written yet, up to the one whose bytes end with the file."""
        phdrs = elf.parse_phdrs(self._phdrs.take())
        phdrs.extend(self._under_way())
        for i, phdr in enumerate(phdrs):
            there = max(0, file_size - phdr.p_offset)
            if there < phdr.p_filesz:
                end_paddr = align_down(phdr.p_paddr + there, page_size)
                size = max(0, end_paddr - phdr.p_paddr)
                shortened = phdr._replace(p_filesz=size, p_memsz=size)
                return [*phdrs[:i], *([shortened] if size else [])]
        return phdrs

    def _under_way(self) -> Iterator[elf.Phdr]:
        """The PT_LOAD that was not ended, if any, as if it went on to its segment's end."""
        segment = self._segment
        if segment is None:
            return
        before = self._load_paddr - segment.p_paddr
        if before < segment.p_memsz:
            yield segment._replace(
                p_offset=self._load_off,
                p_vaddr=(segment.p_vaddr + before) % (1 << 64),
                p_paddr=self._load_paddr,
                p_filesz=segment.p_memsz - before,
                p_memsz=segment.p_memsz - before,
            )

    def _flush(self) -> None:
        """Memory first, then the program headers that point at it."""
        self._data.flush()
        self._phdrs.flush()
        self._described_off = self._data.end_off
