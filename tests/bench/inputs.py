# SPDX-License-Identifier: GPL-2.0-or-later
"""The cores that are measured: real ones of the lab, and synthetic ones as large as it takes.

Both are made by other processes, so that what they take is given back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.lab.cache import cache_dir

GIB = 1 << 30


class Lab(NamedTuple):
    """A core that a real kernel left, with the full workload."""

    kernel: str
    memory: str

    def __str__(self) -> str:
        return f"{self.kernel}, {self.memory.replace('G', ' GiB')}"


class Synthetic(NamedTuple):
    """A core of tests/builders/huge.py; the names are its own."""

    gib: int
    share_mem_map: bool = True
    split_loads: int = 1
    busy_every: int = 16

    def __str__(self) -> str:
        size = f"{self.gib} GiB" if self.gib < 1024 else f"{self.gib / 1024:g} TiB"
        return f"synthetic, {size}"


class Inputs:
    """Cores by what they should be; synthetic ones are removed by :meth:`close`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=cache_dir())
        self._made: dict[Synthetic, Path] = {}

    def lab(self, core: Lab) -> Path:
        """The vmcore, made in QEMU (minutes) if it is not there yet."""
        command = [sys.executable, "-m", "tests.lab", "make", core.kernel]
        command += ["--memory", core.memory, "--workload", "full"]
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return Path(made.stdout.strip()) / "vmcore"

    def synthetic(self, core: Synthetic) -> Path:
        """The vmcore, made now, on the disk and in the page cache."""
        if core not in self._made:
            path = Path(self._folder.name) / f"core{len(self._made)}"
            words = [str(path), *(str(int(value)) for value in core)]
            subprocess.run([sys.executable, "-m", "tests.bench.inputs", *words], check=True)
            self._made[core] = path
        return self._made[core]

    def drop(self, core: Synthetic) -> None:
        """Remove it: its pages leave the page cache with it."""
        self._made.pop(core).unlink()

    def close(self) -> None:
        """Remove the synthetic cores."""
        self._folder.cleanup()


def _build(path: str, core: Synthetic) -> None:
    from tests.builders.huge import build_huge_core

    build_huge_core(
        path,
        core.gib * GIB,
        share_mem_map=core.share_mem_map,
        split_loads=core.split_loads,
        busy_every=core.busy_every,
    )
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)  # not to be written back while something is measured
    os.close(fd)


if __name__ == "__main__":
    gib, share, split, busy = map(int, sys.argv[2:])
    _build(sys.argv[1], Synthetic(gib, bool(share), split, busy))
