# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with a service in it: what it prints, how it may end, what its dumper cost.

Beside the lines tests/lab/qemu.py knows, the guests of this lab print

    LAB-COST {...}      a program run by guest/footprint.c: arguments, status, memory, times
    LAB-BACK release    the system is up again after the dump
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

from ..cache import require_program
from ..errors import LabError
from ..qemu import Machine, Monitor

HERE = Path(__file__).parent
GUEST = HERE / "guest"


class Cost(NamedTuple):
    """One run of a program in a crash kernel; times are those of an emulated CPU."""

    argv: list[str]
    status: int
    max_rss_kib: int
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    available_before_kib: int
    available_least_kib: int
    available_after_kib: int


class ServiceMachine(Machine):
    """A guest that must print `last_marker` before it ends.

    survives_reboot: a reboot of the guest is a reboot, and not QEMU's end.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        last_marker: str,
        survives_reboot: bool = False,
        answers: Mapping[str, Callable[[Monitor, list[str]], None]] | None = None,
    ) -> None:
        super().__init__(arguments, directory, dict(answers or {}))
        self._last_marker = last_marker
        if survives_reboot:
            self._monitor.execute("set-action", reboot="reset")

    @property
    def text(self) -> str:
        """All lines so far, without colours and cursor movements."""
        text = "".join(f"{line}\n" for line in self._lines)
        return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[c7-8=>])", "", text)

    @property
    def costs(self) -> list[Cost]:
        """What guest/footprint.c measured, in order."""
        found = re.findall(r"LAB-COST (\{.*\})", self.text)
        return [Cost(**json.loads(line)) for line in found]

    def _check_ending(self) -> None:
        failure = next((line for line in self._lines if "LAB-FAIL" in line), None)
        if failure:
            raise LabError(self._with_tail(failure.partition("LAB-FAIL ")[2]))
        if not self.has_seen(self._last_marker):
            raise LabError(self._with_tail(f"the guest ended without {self._last_marker}"))


def run_machine(machine: ServiceMachine, log: Path, timeout_seconds: float) -> None:
    """Run a guest to its end; its console goes to `log` whatever happens."""
    try:
        machine.run(timeout_seconds)
    finally:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(machine.text, "utf-8")


def base_arguments(
    memory_mib: int, kernel: Path, initrd: Path, command_line: str, n_cpus: int = 1
) -> list[str]:
    """QEMU's arguments besides disks; memory the guest does not touch need not be there."""
    return [
        *("-accel", "tcg,thread=multi", "-machine", "pc,memory-backend=ram"),
        # TCG runs `rep movsb` a byte at a time; without these flags kernels use words.
        *("-cpu", "max,-la57,-erms,-fsrm", "-smp", str(n_cpus), "-m", f"{memory_mib}M"),
        *("-object", f"memory-backend-ram,size={memory_mib}M,reserve=off,id=ram"),
        *("-device", "virtio-rng-pci"),
        *("-kernel", str(kernel), "-initrd", str(initrd), "-append", command_line),
    ]


def disk_arguments(name: str, path: Path, options: str = "", device: str = "") -> list[str]:
    """QEMU's arguments for a virtio disk, which `device_del` knows as `name`."""
    return [
        *("-drive", f"file={path},format=raw,if=none,id=drive-{name},cache=unsafe{options}"),
        *("-device", f"virtio-blk-pci,id={name},drive=drive-{name}{device}"),
    ]


def make_disk(disk: Path, size_mib: int, content: Path | None = None) -> None:
    """Make an ext4 file system in the file `disk`, sparse, with what is in `content`."""
    with disk.open("wb") as file:
        file.truncate(size_mib << 20)
    mkfs = require_program("mkfs.ext4", "e2fsprogs")
    options = ["-d", str(content)] if content else []
    _run([mkfs, "-q", "-F", "-m", "0", *options, str(disk)])


def read_disk(disk: Path, directory: Path) -> None:
    """Copy all files of an ext4 file system into the new directory `directory`."""
    directory.mkdir(parents=True)
    # The journal is played back first: a guest that was reset did not unmount.
    subprocess.run(
        [require_program("e2fsck", "e2fsprogs"), "-fp", str(disk)], capture_output=True, check=False
    )
    _run([require_program("debugfs", "e2fsprogs"), "-R", f"rdump / {directory}", str(disk)])


def _run(command: Sequence[str], **options: Any) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if run.returncode:
        raise LabError(f"{' '.join(command)} failed:\n{run.stdout}{run.stderr}")
