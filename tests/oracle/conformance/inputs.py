# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that the command lines name: synthetic cores, and what makedumpfile makes of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.builders import CoreSpec, build_core
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import LocklessRing
from tests.lab import LabCore
from tests.oracle.cores import without_vmcoreinfo

from .programs import Program

MIB = 1 << 20
# Nothing of it that makedumpfile 1.7.2 is known to see otherwise: whole pages, sane free blocks, a
# kernel it knows.
PLAIN = CoreSpec(layout="5.15", memory=((MIB, 39 * MIB),), filled=0.3, bad_orders=False)
NAMES = (
    "core", "half", "bare", "log", "callers", "kdump", "logdump", "elf", "stream", "elfstream",
    "device", "part1", "part2", "info", "otherinfo", "crlf", "real", "silent", "vmlinux",
    "othervmlinux", "made",
)  # fmt: skip
CUTS = {
    "cut1": 1000, "cut2": 4096, "cut3": 4300, "cut4": 9000, "cut5": 77800, "cut6": 1 << 21,
    "cut7": -17, "cut8": -16, "cut9": -1,
}  # fmt: skip
"""Where the stream ends early: in its header, behind it; in the dump's header, a bitmap,
descriptors, pages, the last record; before the end mark, in it."""
_CALLER = "OFFSET(printk_info.caller_id)"


def make_inputs(
    theirs: Program, ours: Program, directory: Path, real: LabCore, other: LabCore
) -> dict[str, Path]:
    """The table's files by name; ``real`` and ``other`` are of different kernels."""
    made = {name: directory / name for name in (*NAMES, *CUTS)}
    core = build_core(made["core"], PLAIN)
    whole = made["core"].read_bytes()
    made["half"].write_bytes(whole[: len(whole) // 2])
    build_core(made["bare"], replace(PLAIN, note=False))
    made["info"].write_text(core.vmcoreinfo, "utf-8")
    made["otherinfo"].write_text(
        core.vmcoreinfo.replace("OSRELEASE=5.15.0", "OSRELEASE=5.14.0"), "utf-8"
    )
    made["crlf"].write_bytes(core.vmcoreinfo.encode().replace(b"\n", b"\r\n"))
    _make_logs(made)
    for words in (
        ("-l", "-d", 1, "core", "kdump"),
        ("-c", "-d", 0, "log", "logdump"),
        ("-E", "-d", 1, "core", "elf"),
        ("--split", "-d", 1, "core", "part1", "part2"),
    ):
        theirs.make(*words, cwd=directory)
    stream = theirs.make("-F", "-d", 31, "core", cwd=directory)
    made["stream"].write_bytes(stream)
    for name, end in CUTS.items():
        made[name].write_bytes(stream[:end])
    # What kdump-utils writes to a raw partition, and what was there.
    made["device"].write_bytes(stream + bytes(range(256)) * 4096)
    made["elfstream"].write_bytes(theirs.make("-F", "-E", "-d", 31, "core", cwd=directory))
    made["real"].symlink_to(real.vmcore)
    without_vmcoreinfo(real.vmcore, made["silent"])
    made["vmlinux"].symlink_to(real.vmlinux())
    made["othervmlinux"].symlink_to(other.vmlinux())
    ours.make("-g", "made", "-x", "vmlinux", cwd=directory)
    return made


def _make_logs(made: dict[str, Path]) -> None:
    ring = LocklessRing()
    ring.store(b"Linux version 5.15", 0, 0)
    ring.store(b"Kernel panic - not syncing", 1_000_000_000, 42)
    image = ring.image(PLACE)
    build_log_core(made["callers"], image, release="5.15.0")
    build_log_core(made["log"], image, release="5.15.0", changes={_CALLER: None})
