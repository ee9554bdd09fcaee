# SPDX-License-Identifier: GPL-2.0-or-later
"""A first kernel with nothing but busybox, which loads a crash kernel and panics at once.

What the crash kernel's initramfs is, and so which service runs, is up to the caller; the smallest
is `busybox_initrd`: busybox, a few lines of shell, and archives appended to it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..cache import require_program
from ..initramfs import add_modules, add_program, busybox_base, compiled
from ..kernels import CRASH_MODULES, EXT4_MODULES, KernelPackage
from .machine import GUEST, ServiceMachine, base_arguments, run_machine

_TIMEOUT_SECONDS = 1500.0
CRASH_COMMAND_LINE = "console=ttyS0 loglevel=4 panic=-1 reset_devices irqpoll"


@dataclass(frozen=True)
class Crash:
    """A kernel that panics, and what it has loaded for that.

    kernel: bzImage of both kernels.
    initrd: of the crash kernel.
    noise_mib: memory the first kernel fills.
    n_cpus: of both kernels.
    disks: QEMU's arguments for them; the crash kernel sees /dev/vda, /dev/vdb, ...
    """

    kernel: Path
    initrd: bytes
    memory_mib: int = 1024
    crashkernel: str = "192M"
    crash_parameters: str = ""
    noise_mib: int = 32
    n_cpus: int = 1
    disks: Sequence[str] = field(default_factory=tuple)


def run_crash(
    crash: Crash, directory: Path, last_marker: str, survives_reboot: bool = False
) -> ServiceMachine:
    """Boot, panic and let the crash kernel do its work; the console goes to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bare-") as name:
        scratch = Path(name)
        (scratch / "initrd").write_bytes(_first_initrd(crash))
        command_line = f"console=ttyS0 loglevel=4 panic=-1 crashkernel={crash.crashkernel}"
        machine = ServiceMachine(
            [
                *base_arguments(
                    crash.memory_mib, crash.kernel, scratch / "initrd", command_line, crash.n_cpus
                ),
                *crash.disks,
            ],
            scratch,
            last_marker,
            survives_reboot,
        )
        run_machine(machine, directory / "console.log", _TIMEOUT_SECONDS)
    return machine


def _first_initrd(crash: Crash) -> bytes:
    cpio = busybox_base()
    cpio.add_file("init", GUEST / "first.sh")
    settings = {
        "CRASH_COMMAND_LINE": (
            f"{CRASH_COMMAND_LINE} nr_cpus={crash.n_cpus} {crash.crash_parameters}"
        ),
        "NOISE_MIB": str(crash.noise_mib),
    }
    conf = "".join(f"{name}='{value}'\n" for name, value in settings.items())
    cpio.add_file("lab.conf", conf.encode(), 0o644)
    cpio.add_file("crash-kernel", crash.kernel)
    cpio.add_file("crash-initrd", crash.initrd)
    add_program(cpio, Path(require_program("kexec", "kexec-tools")), "sbin/kexec")
    return cpio.to_bytes()


def busybox_initrd(
    package: KernelPackage | None,
    steps: str,
    archives: Sequence[bytes] = (),
) -> bytes:
    """An initramfs that runs `steps` (shell; functions of guest/crash.sh and guest/services.sh).

    package: whose virtio and ext4 modules to load, if any.
    archives: cpio archives to append, as `pydumpfile initramfs` makes them.
    """
    cpio = busybox_base()
    cpio.add_file("init", GUEST / "crash.sh")
    cpio.add_file("services.sh", GUEST / "services.sh", 0o644)
    cpio.add_file("steps.sh", steps.encode(), 0o644)
    cpio.add_file("bin/footprint", compiled("footprint", [GUEST / "footprint.c"]))
    modules = package.module_files([*CRASH_MODULES, *EXT4_MODULES]) if package else []
    add_modules(cpio, modules)
    return b"".join([cpio.to_bytes(), *archives])
