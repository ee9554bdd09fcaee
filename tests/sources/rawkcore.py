# SPDX-License-Identifier: GPL-2.0-or-later
"""Synthetic cores in the shape of /proc/kcore: file offsets are virtual addresses.

Sparse, and so large that only the direct map of 4-level page tables without KASLR fits into a file
of ext4; nothing lies where the other segments say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.builders import BuiltCore
from tests.builders.elfcore import note

PAGE = 4096
NO_PADDR = (1 << 64) - 1
START_KERNEL_MAP = 0xFFFFFFFF80000000
VMALLOC, VMEMMAP, VSYSCALL = 0xFFFFC90000000000, 0xFFFFEA0000000000, 0xFFFFFFFFFF600000
DATA_OFF = 0x4000
_PT_LOAD, _PT_NOTE = 1, 4


@dataclass(frozen=True)
class Segment:
    """One PT_LOAD."""

    vaddr: int
    paddr: int
    size: int


def file_off(vaddr: int) -> int:
    """As ``kc_vaddr_to_offset()`` of x86_64 and fs/proc/kcore.c have it."""
    return (vaddr & (1 << 47) - 1) + DATA_OFF


def usual_segments(core: BuiltCore) -> list[Segment]:
    """What Linux 6.1 lists for the machine of ``core``."""
    image = core.phys_base + 0x1000000
    ram = [
        Segment(core.page_offset + start, start, end - start) for start, end in whole_pages(core)
    ]
    return [
        Segment(VSYSCALL, NO_PADDR, PAGE),
        Segment(VMALLOC, NO_PADDR, (1 << 45) - 1),
        Segment(START_KERNEL_MAP + 0x1000000, image, 2 << 20),
        *ram[:1],
        Segment(VMEMMAP, NO_PADDR, PAGE),
        *ram[1:],
    ]


def whole_pages(core: BuiltCore) -> list[tuple[int, int]]:
    """Physical address ranges of memory as ``walk_system_ram_range()`` has them."""
    return [
        (-(-paddr // PAGE) * PAGE, (paddr + size) // PAGE * PAGE) for paddr, size in core.spec.ram()
    ]


def headers(segments: Sequence[Segment], notes: bytes) -> bytes:
    """The file up to its notes."""
    count = 1 + len(segments)
    notes_off = 64 + 56 * count
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 4, 62, 1, 0, 64, 0, 0, 64, 56,
        count, 0, 0, 0,
    )  # fmt: skip
    phdrs = struct.pack("<IIQQQQQQ", _PT_NOTE, 0, notes_off, 0, 0, len(notes), 0, 0)
    for s in segments:
        phdrs += struct.pack(
            "<IIQQQQQQ", _PT_LOAD, 7, file_off(s.vaddr), s.vaddr, s.paddr, s.size, s.size, PAGE
        )
    return header + phdrs + notes


def write_kcore(
    path: Path, core: BuiltCore, segments: Optional[Iterable[Segment]] = None, text: str = ""
) -> Path:
    """The memory of ``core`` at ``path`` as its kernel would have shown it before it died.

    :param text: VMCOREINFO; that of the core if empty, no note if it is a blank.
    """
    notes = note("CORE", 1, bytes(336)) + note("CORE", 3, bytes(136)) + note("CORE", 4, bytes(64))
    if text != " ":
        notes += note("VMCOREINFO", 0, (text or core.vmcoreinfo).encode())
    listed = usual_segments(core) if segments is None else list(segments)
    with path.open("wb") as file:
        file.write(headers(listed, notes))
        assert file.tell() <= DATA_OFF
        for start, end in whole_pages(core):
            for pfn in range(start // PAGE, end // PAGE):
                if pfn not in core.zero_pfns:
                    file.seek(file_off(core.page_offset + pfn * PAGE))
                    file.write(core.page(pfn))
        file.truncate(file_off(core.page_offset + end))
    return path
