# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kcore: the memory of the kernel that is running, as an ELF core that lies nowhere.

Its PT_LOADs are pieces of virtual address space, and a file offset is a virtual address with its
sign cut off. Only those of the direct map are physical memory: the kernel image is a second view
of some of it, vmalloc, modules and vmemmap have no physical address, and entry trampolines in Linux
4.19 have one that is not theirs (6855dc41b246; gone with bf904d2762ee). Before Linux 4.11
(464920104bf7) nothing had one.

Nothing stands still here: whoever reads a structure in two steps may find two halves that do not
fit. What cannot be read (memory that was offlined meanwhile, say) the kernel shows as zeros.

Source: ``fs/proc/kcore.c``.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from pydumpfile.errors import FaultError, UnsupportedError
from pydumpfile.formats import elf
from pydumpfile.pfn import Ranges
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.image import Image
from pydumpfile.sources.notes import survey_notes

PATH = "/proc/kcore"
_START_KERNEL_MAP = 0xFFFFFFFF80000000
_UNBOUNDED = 1 << 63
_MAX_NOTE_SIZE = 64 << 10
_RESERVED = re.compile(r"^\s*([0-9a-f]+)-([0-9a-f]+) : Crash kernel$", re.M)
_ADVICE = {
    errno.ENOENT: "the running kernel was built without CONFIG_PROC_KCORE",
    errno.EACCES: "root may read it",
    errno.EPERM: "root may read it, unless the kernel is locked down (Secure Boot)",
}


def advice(path: str, error: Optional[int]) -> str:
    """What to do about ``path``, if it is this one and cannot be opened."""
    return _ADVICE.get(error or 0, "") if path == PATH else ""


class KcoreSource(ElfSource):
    """The running kernel's System RAM, less what is reserved for a crash kernel.

    That is what /proc/vmcore would have as well. Where the crash kernel's memory is, the file
    ``iomem`` beside ``kcore`` tells.

    :raises UnsupportedError: the kernel is one that does not tell physical addresses.
    """

    is_live = True

    def __init__(self, image: Image) -> None:
        image.size = _UNBOUNDED  # its own answer depends on who opened it last
        self._vmcoreinfo_note = b""
        self._phys_base_hint: Optional[int] = None
        super().__init__(image, use_mmap=False)
        self.phys_base_hint = self._phys_base_hint
        if self.vmcoreinfo is None:
            self._read_vmcoreinfo_note()

    def iter_notes(self) -> Iterator[bytes]:
        yield from super().iter_notes()
        if self._vmcoreinfo_note:
            yield self._vmcoreinfo_note

    def _memory_loads(self, segments: Sequence[elf.Phdr]) -> list[elf.Phdr]:
        loads = [s for s in segments if s.p_type == elf.PT_LOAD and s.p_paddr != elf.NO_PADDR]
        if sum(load.p_paddr == 0 for load in loads) > 1:
            raise UnsupportedError(
                f"{self.path}: the memory of a kernel before Linux 4.11",
                "its PT_LOADs have no physical addresses",
            )
        self._phys_base_hint = next(
            (load.p_paddr - (load.p_vaddr - _START_KERNEL_MAP)
             for load in loads if load.p_vaddr >= _START_KERNEL_MAP), None)  # fmt: skip
        reserved = self._crash_kernel_memory()
        return [part for load in direct_map(loads) for part in without(load, reserved)]

    def _crash_kernel_memory(self) -> Ranges:
        """Nothing where /proc/iomem does not tell, which shows addresses to root alone."""
        lines = _RESERVED.findall(self._text_beside("iomem"))
        ranges = ((int(first, 16), int(last, 16) + 1) for first, last in lines)
        return Ranges((start, end) for start, end in ranges if end > 1)

    def _read_vmcoreinfo_note(self) -> None:
        """Before Linux 4.19 (23c85094fe18) it was in memory only, where /sys/kernel says."""
        words = self._text_beside("../sys/kernel/vmcoreinfo").split()
        try:
            paddr, size = (int(word, 16) for word in words)
            note = self.read(paddr, min(size, _MAX_NOTE_SIZE))
        except (ValueError, FaultError):
            return
        found = survey_notes([(0, note)], self.path)
        if found.vmcoreinfo is not None:
            self._vmcoreinfo_note = note
            self.vmcoreinfo = found.vmcoreinfo
            self.vmcoreinfo_off = self.notes_size + found.vmcoreinfo_off
            self.notes_size += len(note)

    def _text_beside(self, name: str) -> str:
        """Content of another file of /proc or /sys; empty if it cannot be read."""
        path = os.path.join(os.path.dirname(self.path), name)
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                return file.read()
        except OSError:
            return ""


def direct_map(loads: Iterable[elf.Phdr]) -> list[elf.Phdr]:
    """Those of ``loads`` that are physical memory: the most that are equally far from it."""
    by_distance: dict[int, list[elf.Phdr]] = {}
    for load in loads:
        if load.p_vaddr < _START_KERNEL_MAP:
            by_distance.setdefault(load.p_vaddr - load.p_paddr, []).append(load)
    groups = by_distance.values()
    return max(groups, key=lambda group: sum(load.p_memsz for load in group), default=[])


def without(load: elf.Phdr, reserved: Ranges) -> Iterator[elf.Phdr]:
    """``load`` less the physical addresses of ``reserved``."""
    start, end = load.p_paddr, load.p_paddr + load.p_memsz
    for low, high in (*reserved.within(start, end), (end, end)):
        if start < low:
            before, size = start - load.p_paddr, low - start
            yield load._replace(
                p_offset=load.p_offset + before, p_vaddr=load.p_vaddr + before, p_paddr=start,
                p_filesz=size, p_memsz=size,
            )  # fmt: skip
        start = high
