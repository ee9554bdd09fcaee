# SPDX-License-Identifier: GPL-2.0-or-later
"""What a service left: whether drgn finds a dead kernel in it, whether it says it is incomplete."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import drgn

from tests.oracle import deadkernel
from tests.oracle.dumpreader import DumpReader
from tests.oracle.kdumpfile import KdumpFile

FLATTENED_MAGIC = b"makedumpfile\0"
_KDUMP_MAGIC = b"KDUMP   "
# struct disk_dump_header of makedumpfile's IMPLEMENTATION: signature, version, utsname, timestamp.
_STATUS_OFF = 424
_INCOMPLETE = 0x8
PANIC_TEXT = b"Kernel panic - not syncing: sysrq triggered crash"
PANIC_FUNCTION = "sysrq_handle_crash"


class Autopsy(NamedTuple):
    """What drgn says about a dump."""

    n_tasks: int
    stack: list[str]  # of the panicking task, innermost first

    def __str__(self) -> str:
        return f"{self.n_tasks} tasks; {' <- '.join(self.stack[:6])}"


def autopsy(dump: Path, vmlinux: Path) -> Autopsy:
    """Open a dump with drgn; raises what drgn raises if it cannot."""
    program = deadkernel.open_program(dump, vmlinux)
    return Autopsy(len(deadkernel.tasks(program)), deadkernel.crash_stack(program))


def try_autopsy(dump: Path, vmlinux: Path) -> str:
    """The same in words, an error of drgn's included."""
    try:
        return str(autopsy(dump, vmlinux))
    except (drgn.FaultError, LookupError, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


class Pages(NamedTuple):
    """What libkdumpfile says about a dump, of a kernel without debugging information."""

    release: str
    n_pages: int  # every one of them was read
    n_with_text: int

    def __str__(self) -> str:
        return f"{self.release}, {self.n_pages} pages, the text looked for in {self.n_with_text}"


def read_pages(dump: Path, text: bytes) -> Pages:
    """Read all kept pages of a dump by libkdumpfile, and look for `text` in them."""
    with DumpReader(dump) as plain, KdumpFile(dump) as reader:
        n_with_text = sum(text in reader.page(pfn) for pfn in plain.descriptors)
        return Pages(plain.release, len(plain.descriptors), n_with_text)


def rearrange(stream: Path, dump: Path, dumper: str = "pydumpfile") -> tuple[int, str]:
    """Make a dump of a flattened stream with `-R`: (exit status, what was printed)."""
    command = [sys.executable, "-m", "pydumpfile"] if dumper == "pydumpfile" else [dumper]
    with stream.open("rb") as file:
        run = subprocess.run(
            [*command, "-R", str(dump)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    return run.returncode, run.stdout


def describe(path: Path) -> str:
    """What a file is, by its first bytes and its size."""
    size = os.stat(path).st_size
    with path.open("rb") as file:
        head = file.read(_STATUS_OFF + 4)
    if head.startswith(FLATTENED_MAGIC):
        return f"flattened, {size} bytes, {'with' if has_end_mark(path) else 'without'} its end"
    if not head.startswith(_KDUMP_MAGIC):
        return f"not a dump, {size} bytes"
    return f"{'incomplete' if is_incomplete(path) else 'complete'} dump, {size} bytes"


def is_incomplete(dump: Path) -> bool:
    """Whether the header of a kdump-compressed file says that the dump was not finished."""
    with dump.open("rb") as file:
        file.seek(_STATUS_OFF)
        status: int = struct.unpack("<I", file.read(4))[0]
    return bool(status & _INCOMPLETE)


def has_end_mark(stream: Path) -> bool:
    """Whether a flattened stream ends as it should: offset and size are both -1."""
    with stream.open("rb") as file:
        file.seek(-16, os.SEEK_END)
        return file.read() == b"\xff" * 16
