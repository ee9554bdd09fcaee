# SPDX-License-Identifier: GPL-2.0-or-later
"""How many threads a machine can afford."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

import pytest

from pydumpfile.budget import Spare, affordable_threads, look_around, shortage

MIB = 1 << 20
PLENTY = 1 << 40
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("n_cpus", "available", "wanted", "max_rss", "threads"),
    [(1, PLENTY, None, None, 1), (2, PLENTY, None, None, 2), (64, PLENTY, None, None, 3),
     (2, PLENTY, 8, None, 8), (64, PLENTY, 0, None, 1), (64, PLENTY, 1, None, 1),
     (64, 200 * MIB, 64, None, 15), (64, 40 * MIB, 64, None, 1), (64, 0, 64, None, 1),
     (64, PLENTY, 64, 128 * MIB, 9), (64, PLENTY, None, 40 * MIB, 1),
     (2, PLENTY, 1 << 20, None, 1024),
     (2, PLENTY, None, 1 << 30, 2), (64, 64 * MIB, None, 1 << 30, 3)],
)  # fmt: skip
def test_affordable_threads(
    n_cpus: int, available: int, wanted: Optional[int], max_rss: Optional[int], threads: int
) -> None:
    spare = Spare(n_cpus, available, 16 * MIB)
    assert affordable_threads(spare, wanted, max_rss) == threads


@pytest.mark.parametrize(
    ("space", "threads"),
    [(1 << 62, 8), (1 << 30, 8), (300 * MIB, 3), (231 * MIB, 2), (136 * MIB, 2), (135 * MIB, 1),
     (MIB, 1), (-MIB, 1)],
)  # fmt: skip
def test_threads_take_address_space(space: int, threads: int) -> None:
    assert affordable_threads(Spare(2, PLENTY, 16 * MIB, space), 8, None) == threads


@pytest.mark.parametrize(
    ("limits", "space"),
    [("Max data size             unlimited            unlimited            bytes", 1 << 62),
     ("Max data size             1048576              unlimited            bytes", MIB - 3 * PAGE),
     ("Max address space         1048576              1048576              bytes", MIB - 9 * PAGE),
     ("Max address space         4096                 unlimited            bytes", -8 * PAGE),
     ("Max address space", 1 << 62), ("", 1 << 62)],
)  # fmt: skip
def test_limits_of_the_process_count(tmp_path: Path, limits: str, space: int) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 1024 kB\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "self/statm").write_text("9 5 1 1 0 3 0\n")
    (tmp_path / "self/limits").write_text(f"Limit  Soft Limit  Hard Limit  Units\n{limits}\n")
    spare = look_around(str(tmp_path))
    assert (spare.available_size, spare.rss_size) == (MIB, 5 * PAGE)
    assert spare.address_space == space


@pytest.mark.parametrize(
    ("available", "max_rss", "says"),
    [(PLENTY, None, ""), (8 * MIB, None, ""), (8 * MIB - 1, None, "^7 MiB of memory are available"),
     (0, 40 * MIB, "crashkernel="), (PLENTY, 32 * MIB, ""),
     (PLENTY, 32 * MIB - 1, "may take 32 MiB, more than --max-rss"), (PLENTY, 0, "one thread")],
)  # fmt: skip
def test_shortage(available: int, max_rss: Optional[int], says: str) -> None:
    found = shortage(Spare(2, available, 16 * MIB), max_rss)
    assert bool(found) == bool(says)
    assert re.search(says, found)


def test_no_memory_left_is_not_taken_for_plenty(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:          0 kB\n")
    spare = look_around(str(tmp_path))
    assert spare.available_size == 0
    assert affordable_threads(spare, 64, None) == 1
    assert shortage(spare, None)


def test_this_machine() -> None:
    spare = look_around()
    assert spare.n_cpus == len(os.sched_getaffinity(0))
    assert MIB < spare.rss_size < spare.available_size < PLENTY


@pytest.mark.parametrize("meminfo", ["", "MemAvailable:\n", "MemAvailable: much kB\n"])
def test_a_strange_proc_takes_nothing_away(tmp_path: Path, meminfo: str) -> None:
    (tmp_path / "meminfo").write_text(meminfo)
    assert look_around(str(tmp_path)).available_size == PLENTY
