# SPDX-License-Identifier: GPL-2.0-or-later
"""The series' functions that are plain arithmetic, compiled as they are for user space.

The files are taken out of the patches, so no kernel source is needed; shim/ stands in for the few
kernel headers they include.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import require_program
from tests.lab.errors import LabError

from .series import series

SHIM = Path(__file__).parent / "shim"
_FILES = (
    "fs/proc/oldmem_ranges.c",
    "fs/proc/oldmem_ranges.h",
    "arch/x86/mm/oldmem_tables.h",
)
PAGE_SHIFT, PMD_SHIFT, PUD_SHIFT = 12, 21, 30


class _OldmemRange(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("direct_pages", ctypes.c_ulong),
    )


class PureCode:
    """oldmem_merge_ranges(), oldmem_direct_bytes() and oldmem_tables_needed() of one base."""

    def __init__(self, base: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            directory = Path(scratch)
            extract_new_files(series(base), _FILES, directory)
            self._library = ctypes.CDLL(str(_compiled(directory)))
        self._library.oldmem_direct_bytes.restype = ctypes.c_uint64
        self._library.oldmem_direct_bytes.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint,
            ctypes.c_uint64,
        )
        self._library.tables_needed.restype = ctypes.c_ulong
        self._library.tables_needed.argtypes = (
            ctypes.c_ulong,
            ctypes.c_ulong,
            *(ctypes.c_uint,) * 3,
        )

    def merge(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """(start, end) in, what oldmem_merge_ranges() leaves out; direct_pages must be 0."""
        array = (_OldmemRange * len(ranges))(
            *(_OldmemRange(start, end, 1) for start, end in ranges)
        )
        left = self._library.oldmem_merge_ranges(array, len(ranges))
        assert all(one.direct_pages == 0 for one in array[:left])
        return [(one.start, one.end) for one in array[:left]]

    def direct_bytes(self, ranges: Sequence[tuple[int, int, int]], paddr: int) -> int:
        """What oldmem_direct_bytes() says; `ranges` are (start, end, direct_pages)."""
        array = (_OldmemRange * len(ranges))(*(_OldmemRange(*one) for one in ranges))
        found: int = self._library.oldmem_direct_bytes(array, len(ranges), paddr)
        return found

    def tables_needed(self, start: int, end: int, *, leaf_shift: int, five_level: bool) -> int:
        """oldmem_tables_needed() with 4 KiB pages."""
        top_shift = 48 if five_level else 39
        needed: int = self._library.tables_needed(start, end, PAGE_SHIFT, leaf_shift, top_shift)
        return needed


def extract_new_files(patches: Sequence[Path], paths: Sequence[str], directory: Path) -> None:
    """Write the files `paths` that the patches make from nothing into `directory`, flat."""
    git = require_program("git")
    for patch in patches:
        touched = set(re.findall(r"^\+\+\+ b/(\S+)$", patch.read_text("utf-8"), re.M))
        include = [f"--include={path}" for path in paths if path in touched]
        if not include:
            continue
        run = subprocess.run(
            [git, "apply", *include, str(patch)],
            cwd=directory,
            env={"GIT_CEILING_DIRECTORIES": str(directory.resolve().parent), "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise LabError(f"{patch.name}: {run.stderr.strip()}")
    for path in paths:
        if not (directory / path).exists():
            raise LabError(f"no patch makes {path}")
        (directory / path).rename(directory / Path(path).name)


def _compiled(directory: Path) -> Path:
    library = directory / "harness.so"
    run = subprocess.run(
        [
            *(require_program("gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"),
            *(f"-I{directory}", f"-I{SHIM}", "-o", str(library), str(SHIM / "harness.c")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise LabError(f"the patches' functions do not compile in user space:\n{run.stderr}")
    return library
