# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that the command lines name: synthetic cores, and what makedumpfile makes of one."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from tests.builders import CoreSpec, build_core
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import LocklessRing

MIB = 1 << 20
# Nothing of it that makedumpfile 1.7.2 is known to see otherwise: whole pages, sane free blocks, a
# kernel it knows.
PLAIN = CoreSpec(layout="5.15", memory=((MIB, 39 * MIB),), filled=0.3, bad_orders=False)
NAMES = (
    "core", "bare", "log", "callers", "kdump", "logdump", "elf", "stream", "part1", "part2",
    "info", "otherinfo",
)  # fmt: skip
_CALLER = "OFFSET(printk_info.caller_id)"


def make_inputs(makedumpfile: str, directory: Path) -> dict[str, Path]:
    """The table's files by name."""
    made = {name: directory / name for name in NAMES}
    core = build_core(made["core"], PLAIN)
    build_core(made["bare"], replace(PLAIN, note=False))
    made["info"].write_text(core.vmcoreinfo, "utf-8")
    made["otherinfo"].write_text(
        core.vmcoreinfo.replace("OSRELEASE=5.15.0", "OSRELEASE=5.14.0"), "utf-8"
    )
    ring = LocklessRing()
    ring.store(b"Linux version 5.15", 0, 0)
    ring.store(b"Kernel panic - not syncing", 1_000_000_000, 42)
    image = ring.image(PLACE)
    build_log_core(made["callers"], image, release="5.15.0")
    build_log_core(made["log"], image, release="5.15.0", changes={_CALLER: None})
    for arguments in (
        ("-l", "-d", "1", "core", "kdump"),
        ("-c", "-d", "0", "log", "logdump"),
        ("-E", "-d", "1", "core", "elf"),
        ("--split", "-d", "1", "core", "part1", "part2"),
    ):
        _run(makedumpfile, *arguments, cwd=directory)
    made["stream"].write_bytes(_run(makedumpfile, "-F", "-d", "31", "core", cwd=directory))
    return made


def _run(makedumpfile: str, *arguments: str, cwd: Path) -> bytes:
    return subprocess.run(
        [makedumpfile, "--message-level", "4", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    ).stdout
