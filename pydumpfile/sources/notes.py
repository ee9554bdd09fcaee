# SPDX-License-Identifier: GPL-2.0-or-later
"""What the ELF notes say that every dump format carries along: VMCOREINFO, CPUs, who wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Optional

from pydumpfile.errors import FormatError, UnsupportedError
from pydumpfile.formats import elf

MAX_NOTES_SIZE = 64 << 20
"""More than the notes of any machine: a register set a CPU, and what drivers leave."""


class Notes:
    """What there is in the notes of one image."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of all of them."""
        self.vmcoreinfo: Optional[bytes] = None
        self.vmcoreinfo_off = 0
        """Within all notes; 0 without it."""
        self.nr_cpus = 0
        """NT_PRSTATUS notes."""
        self.by_qemu = False


def survey_notes(blobs: Iterable[tuple[int, bytes]], path: str) -> Notes:
    """Go through ``blobs`` of notes, each with its offset in the file at ``path``.

    :raises FormatError: a note runs past the end of its blob.
    :raises UnsupportedError: they are of a Xen machine.
    """
    notes = Notes()
    for off, blob in blobs:
        for note in elf.iter_notes(blob):
            if note is None:
                raise FormatError(path, off, "whole notes", "a note that runs past its PT_NOTE")
            if note.name == b"CORE" and note.type == elf.NT_PRSTATUS:
                notes.nr_cpus += 1
            elif note.name == b"VMCOREINFO" and notes.vmcoreinfo is None:
                notes.vmcoreinfo = blob[note.desc_off : note.desc_off + note.desc_size]
                notes.vmcoreinfo_off = notes.size + note.desc_off
            elif note.name == b"QEMU":
                notes.by_qemu = True
            elif note.name in (b"Xen", b"VMCOREINFO_XEN"):
                raise UnsupportedError(f"{path}: a core of a Xen machine")
        notes.size += len(blob)
    return notes


_VMCOREINFO = Struct("<III12s")


def vmcoreinfo_note(text: bytes) -> bytes:
    """The note that ``text`` would have come in."""
    name = b"VMCOREINFO\0"
    return _VMCOREINFO.pack(len(name), len(text), 0, name) + text + bytes(-len(text) % 4)
