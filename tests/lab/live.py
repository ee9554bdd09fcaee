# SPDX-License-Identifier: GPL-2.0-or-later
"""Measure a guest while it runs, and have its memory as it was right after.

`pydumpfile --mem-usage /proc/kcore` runs in the guest, once while other processes take and give
back memory as fast as they can, once in peace. Then the guest panics and its crash kernel copies
/proc/vmcore, or it has no crash kernel at all, and QEMU dumps it. Nothing of this is cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .cache import require_program
from .cores import vmcore_of
from .guest import SOURCES, Guest, base_initramfs
from .initramfs import add_program
from .inkdump import make_python_disk
from .kernels import WANTED_MODULES, KernelPackage, fetch, resolve
from .qemu import Machine

_PYTHON_DISK = "python.ext4"
_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class LiveRun:
    """What came of one guest.

    core: its memory right after the measurement.
    said: what `--mem-usage` said in peace.
    churned_said: what it said while nothing stood still.
    status, churned_status: its exit statuses.
    """

    core: Path
    said: str
    churned_said: str
    status: int
    churned_status: int


def measure_live(guest: Guest, directory: Path, panics: bool) -> LiveRun:
    """Run `guest` in `directory`, which must not exist.

    panics: the core is /proc/vmcore; else there is no crash kernel, and QEMU writes the core.
    Raises LabError if the guest did not come to its end.
    """
    kernel = fetch(resolve(guest.kernel))
    directory.mkdir(parents=True)
    guest.make_disks(kernel, directory)
    ending = "panic" if panics else "dump"
    make_python_disk(directory / _PYTHON_DISK, SOURCES / "live_main.py", [ending])
    (directory / "initrd").write_bytes(_initrd(guest, kernel, panics))
    qemu_core = directory / "qemu_core"
    arguments = guest.qemu_arguments(kernel, directory, [_PYTHON_DISK])
    machine = Machine(
        arguments, directory, {"dump": lambda monitor, _: monitor.dump_guest_memory(qemu_core)}
    )
    machine.run(_TIMEOUT_SECONDS)
    return LiveRun(
        core=vmcore_of(directory) if panics else qemu_core,
        said="\n".join(machine.said("LAB-SAID")),
        churned_said="\n".join(machine.said("LAB-CHURN-SAID")),
        status=int(machine.said("LAB-MEASURED")[0]),
        churned_status=int(machine.said("LAB-CHURNED")[0]),
    )


def _initrd(guest: Guest, kernel: KernelPackage, panics: bool) -> bytes:
    cpio = base_initramfs(kernel, WANTED_MODULES, SOURCES / "live-init.sh")
    add_program(cpio, Path(require_program("kexec", "kexec-tools")), "sbin/kexec")
    command_line = guest.crash_command_line() if panics else ""
    cpio.add_file("lab.conf", f'CRASH_COMMAND_LINE="{command_line}"\n'.encode(), 0o644)
    return cpio.to_bytes()
