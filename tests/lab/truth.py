# SPDX-License-Identifier: GPL-2.0-or-later
"""Turn what the guest wrote down before it died into ground truth about its pages.

The workload's record disk holds records (see record() in workload/truth.c).  Its last reading of
/proc/kpageflags was never written out: it lies in the dead kernel's memory, at page frames the
truth record names, and is read from the vmcore here.  The ELF reading below is deliberately
independent of the package under test.
"""

from __future__ import annotations

import array
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import LabError

PAGE_SIZE = 4096
_COMM_LENGTH = 15  # TASK_COMM_LEN without the final zero
_ELF64_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_ELF64_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1

Run = tuple[int, int]


def read_records(disk: Path) -> dict[str, bytes]:
    """All records of a record disk by name; raises LabError if the last one ("end") is missing."""
    records: dict[str, bytes] = {}
    with disk.open("rb") as file:
        while "end" not in records:
            header = file.read(PAGE_SIZE)
            match = re.match(rb"PYDUMPFILE-LAB (\S+) (\d+)\n", header)
            if not match:
                raise LabError(f"{disk}: the records end after {list(records)}")
            size = int(match.group(2))
            records[match.group(1).decode()] = file.read(size)
            file.seek(-size % PAGE_SIZE, 1)
    return records


def vmcore_size(disk: Path) -> int:
    """Size vmcopy wrote into the last 4096 bytes of the disk it copied /proc/vmcore to."""
    with disk.open("rb") as file:
        file.seek(-PAGE_SIZE, 2)
        match = re.match(rb"PYDUMPFILE-LAB vmcore (\d+)\n", file.read(PAGE_SIZE))
    if not match:
        raise LabError(f"{disk}: the copy of /proc/vmcore is not complete")
    return int(match.group(1))


def read_pfns(vmcore: Path, runs: list[Run]) -> bytes:
    """Contents of runs of page frames from an ELF vmcore, one after the other."""
    with vmcore.open("rb") as file:
        loads = list(_pt_loads(file))
        return b"".join(_read_paddr(file, loads, first, end) for first, end in runs)


def differing_runs(before: bytes, after: bytes) -> list[Run]:
    """Runs of indices at which two arrays of 64-bit words differ."""
    words = [array.array("Q", data) for data in (before, after)]
    pfns = (pfn for pfn, (old, new) in enumerate(zip(*words)) if old != new)
    return _as_runs(pfns)


def task_comm(shown: str) -> str:
    """`comm` of a task as task_struct has it, from what /proc/PID/comm shows.

    For a kworker /proc adds what it works on ("kworker/0:1-events"; wq_worker_comm() in
    kernel/workqueue.c); other names come as they are.
    """
    match = re.match(r"(kworker/u?\d+:\d+H?)[-+]", shown)
    return (match.group(1) if match else shown)[:_COMM_LENGTH]


def tidy(truth: dict[str, Any]) -> dict[str, Any]:
    """The workload's truth record as JSON gives it, task names as the kernel has them."""
    truth["tasks"] = sorted([pid, task_comm(comm)] for pid, comm in truth["tasks"])
    return truth


def parse_truth(record: bytes) -> dict[str, Any]:
    """Decode the truth record."""
    truth = json.loads(record.decode("utf-8", "replace"))
    if not isinstance(truth, dict):
        raise LabError("the truth record is no JSON object")
    return tidy(truth)


def _pt_loads(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """(p_paddr, p_filesz, p_offset) of each PT_LOAD."""
    fields = _ELF64_HEADER.unpack(file.read(_ELF64_HEADER.size))
    header_off, count = fields[5], fields[10]
    if not fields[0].startswith(b"\x7fELF\x02\x01"):
        raise LabError("the vmcore is no little-endian ELF64 file")
    file.seek(header_off)
    table = file.read(count * _ELF64_PROGRAM_HEADER.size)
    for kind, _, off, _, paddr, file_size, _, _ in _ELF64_PROGRAM_HEADER.iter_unpack(table):
        if kind == _PT_LOAD:
            yield paddr, file_size, off


def _read_paddr(
    file: BinaryIO, loads: list[tuple[int, int, int]], first_pfn: int, end_pfn: int
) -> bytes:
    start, size = first_pfn * PAGE_SIZE, (end_pfn - first_pfn) * PAGE_SIZE
    for paddr, file_size, off in loads:
        if paddr <= start and start + size <= paddr + file_size:
            file.seek(off + start - paddr)
            return file.read(size)
    raise LabError(f"no PT_LOAD of the vmcore holds the pages {first_pfn:#x}-{end_pfn:#x}")


def _as_runs(pfns: Iterator[int]) -> list[Run]:
    runs: list[Run] = []
    for pfn in pfns:
        if runs and runs[-1][1] == pfn:
            runs[-1] = (runs[-1][0], pfn + 1)
        else:
            runs.append((pfn, pfn + 1))
    return runs
