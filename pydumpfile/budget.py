# SPDX-License-Identifier: GPL-2.0-or-later
"""How many threads this machine can afford, by its CPUs and above all by its free memory."""

from __future__ import annotations

import os
from typing import NamedTuple, Optional

DEFAULT_MAX_RSS = 64 << 20
"""What a dump takes at most where nobody says otherwise."""
_FIRST_THREAD_SIZE = 20 << 20
_THREAD_SIZE = 11 << 20
_LEAST_SIZE = 8 << 20
"""What the first thread takes at least, beyond what the process has before."""
_MOST_SIZE = 16 << 20
"""What it takes at most: 12 MiB of an ELF core, 15 with a dump as input or for ``-E``."""
_FIRST_THREAD_SPACE = 40 << 20
_THREAD_SPACE = 96 << 20
"""Of address space: a stack of 8 MiB, 64 MiB in which malloc serves one thread, and a copier."""
_UNLIMITED = 1 << 62
_MAX_THREADS = 1024
_LEAVE_SIZE = 16 << 20
"""Not ours: page cache for the target's file system, the kernel itself."""


class Spare(NamedTuple):
    """What there is."""

    n_cpus: int
    available_size: int
    """MemAvailable; how much could be allocated without anything being swapped out."""
    rss_size: int
    """What this process has already."""
    address_space: int = _UNLIMITED
    """By how much it may grow, whether or not that becomes resident (``ulimit -v``, ``-d``)."""


def look_around(proc: str = "/proc") -> Spare:
    """What the machine has now; generous where the kernel does not say."""
    available_size, rss_size = 1 << 40, 0
    address_space = _UNLIMITED
    try:
        with open(f"{proc}/meminfo", encoding="ascii") as meminfo:
            for line in meminfo:
                if line.startswith("MemAvailable:"):
                    available_size = int(line.split()[1]) << 10
        with open(f"{proc}/self/statm", encoding="ascii") as statm:
            total, resident, _, _, _, data, _ = (
                int(n_pages) * os.sysconf("SC_PAGE_SIZE") for n_pages in statm.read().split()
            )
        rss_size = resident
        used = {"Max address space": total, "Max data size": data}
        with open(f"{proc}/self/limits", encoding="ascii") as limits:
            for line in limits:
                name, soft = line[:26].rstrip(), line[26:].split()[0]
                if name in used and soft.isdecimal():
                    address_space = min(address_space, int(soft) - used[name])
    except (OSError, ValueError, IndexError):
        pass  # no /proc, or a strange one: it only advises
    n_cpus = len(os.sched_getaffinity(0))
    return Spare(n_cpus, available_size, rss_size, address_space)


def affordable_threads(spare: Spare, wanted: Optional[int], max_rss: Optional[int]) -> int:
    """Threads that may read and compress, at least 1.

    :param wanted: no more than these; None for one a CPU. 0 means 1, as makedumpfile has it.
    :param max_rss: bytes of memory the whole process may use; None for what is available if
        ``wanted`` says how many threads, else for :data:`DEFAULT_MAX_RSS`.
    """
    if max_rss is None and wanted is None:
        max_rss = DEFAULT_MAX_RSS
    room_size = spare.available_size - _LEAVE_SIZE
    if max_rss is not None:
        room_size = min(room_size, max_rss - spare.rss_size)
    afford = 1 + min(
        (room_size - _FIRST_THREAD_SIZE) // _THREAD_SIZE,
        (spare.address_space - _FIRST_THREAD_SPACE) // _THREAD_SPACE,
    )
    return max(1, min(spare.n_cpus if wanted is None else wanted, afford, _MAX_THREADS))


def shortage(spare: Spare, max_rss: Optional[int]) -> str:
    """Why memory may not do even for one thread, for people; empty if it should."""
    if spare.available_size < _LEAST_SIZE:
        return (
            f"{spare.available_size >> 20} MiB of memory are available, and a dump takes "
            f"{_LEAST_SIZE >> 20} MiB more than there are in use; if it is killed, reserve more "
            "(crashkernel=)"
        )
    if max_rss is not None and max_rss < spare.rss_size + _MOST_SIZE:
        return (
            f"a dump may take {(spare.rss_size + _MOST_SIZE) >> 20} MiB, more than --max-rss says; "
            "it is written with one thread"
        )
    return ""
