# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest is: its description, its initramfs, its kernel command lines, its QEMU arguments."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import require_program
from .errors import LabError
from .initramfs import Cpio, add_modules, add_program, busybox_base, compiled
from .kernels import CRASH_MODULES, EXT4_MODULES, WANTED_MODULES, KernelPackage

SOURCES = Path(__file__).parent
# In the order the guest sees them (vda, vdb, ...); init.sh and crash-init.sh count on it.
DISKS = ("vmcore", "records", "plain.ext4", "small-blocks.ext4", "swap")
DIMM_MIB = 128  # one memory block, the one the workload takes offline
MIN_MEMORY_MIB = 384
RECORDS_DISK_MIB = 4096


@dataclass(frozen=True)
class AfterCopy:
    """More work for the crash kernel once the vmcore is copied.

    script: runs in the crash kernel, with ext4 loaded.
    disks: files beside the guest's own disks; the guest sees them after those (vdf, vdg, ...).
    """

    script: Path
    disks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guest:
    """The machine to crash.  KASLR is always on.

    kernel: an alias (see kernels.ALIASES) or the exact name of a linux-image-* package.
    memory: size as QEMU writes it ("384M", "4G"), at least
        384M for small; one 128 MiB DIMM comes on top (see README.md).
    workload: "small", "full" or "none" (see workload/).
    cpu: a QEMU CPU model; "max" has 5-level paging and 1G pages, "max,-la57" 4-level paging,
        "qemu64" neither.
    crashkernel: value of crashkernel=, by default as little as works.
    dump_guest_memory: also let QEMU write an ELF core just before the panic.
    """

    kernel: str
    memory: str = "384M"
    workload: str = "small"
    cpu: str = "max"
    numa: int = 1
    smp: int = 1
    crashkernel: str | None = None
    extra_cmdline: str = ""
    dump_guest_memory: bool = False

    def __post_init__(self) -> None:
        if self.workload not in ("small", "full", "none"):
            raise LabError(f"workload {self.workload!r}: use small, full or none")
        if self.memory_mib < MIN_MEMORY_MIB:
            raise LabError(
                f"memory {self.memory}: two kernels need at least {MIN_MEMORY_MIB}M, wherever "
                "KASLR puts the first one"
            )
        if self.memory_mib % self.numa:
            raise LabError(f"{self.memory} cannot be shared evenly by {self.numa} NUMA nodes")

    @property
    def memory_mib(self) -> int:
        """Size of the memory present at boot, without the DIMM."""
        units = {"M": 1, "G": 1024}
        number, unit = self.memory[:-1], self.memory[-1:]
        if not number.isdigit() or unit not in units:
            raise LabError(f"memory {self.memory!r}: use a number and M or G")
        return int(number) * units[unit]

    @property
    def five_level(self) -> bool:
        """Whether the CPU, and with it the kernel, uses 5-level page tables."""
        return self.cpu.startswith("max") and "-la57" not in self.cpu

    def command_line(self) -> str:
        """Command line of the kernel that will crash."""
        words = ["console=ttyS0", "panic=-1", "nowatchdog", f"crashkernel={self._crashkernel()}"]
        words += ["memhp_default_state=offline"]  # the workload decides when the DIMM comes online
        if self.workload == "full" and self.memory_mib >= 4096 and self.cpu.startswith("max"):
            words += ["hugepagesz=1G", "hugepages=1"]
        return " ".join([*words, self.extra_cmdline]).strip()

    def crash_command_line(self) -> str:
        """Command line of the crash kernel.

        Without acpi_no_memhotplug it would add the DIMM to its own RAM and could not read it.
        """
        return (
            "console=ttyS0 loglevel=5 panic=-1 nr_cpus=1 reset_devices irqpoll acpi_no_memhotplug"
        )

    def qemu_arguments(
        self, kernel: KernelPackage, directory: Path, more_disks: Sequence[str] = ()
    ) -> list[str]:
        """QEMU's arguments; initrd and disks are in `directory`."""
        arguments = [
            *("-accel", "tcg,thread=multi"),
            # TCG runs `rep movsb` a byte at a time; without these flags the kernel uses words.
            *("-cpu", f"{self.cpu},-erms,-fsrm"),
            *("-smp", str(self.smp)),
            *("-m", f"{self.memory_mib}M,slots=1,maxmem={self.memory_mib + 2 * DIMM_MIB}M"),
            *("-object", f"memory-backend-ram,id=dimm,size={DIMM_MIB}M"),
            *("-device", "pc-dimm,id=dimm0,memdev=dimm"),
            *("-device", "virtio-balloon-pci", "-device", "vmcoreinfo"),
            *("-kernel", str(kernel.vmlinuz), "-initrd", str(directory / "initrd")),
            *("-append", self.command_line()),
        ]
        if self.numa > 1:
            size_mib = self.memory_mib // self.numa
            for node in range(self.numa):
                arguments += ["-object", f"memory-backend-ram,id=node{node},size={size_mib}M"]
                arguments += ["-numa", f"node,nodeid={node},memdev=node{node}"]
        for disk in (*DISKS, *more_disks):
            path = directory / disk
            arguments += ["-drive", f"file={path},format=raw,if=virtio,cache=unsafe"]
        return arguments

    def make_disks(
        self, kernel: KernelPackage, directory: Path, after_copy: AfterCopy | None = None
    ) -> None:
        """Make the guest's disks in `directory`, all sparse.

        What kexec loads is on the first ext4: as part of the initramfs it would be in a small
        guest's memory twice.
        """
        mkfs = require_program("mkfs.ext4", "e2fsprogs")
        ample_mib = self.memory_mib + DIMM_MIB + 64
        for disk in DISKS:
            path = directory / disk
            with path.open("wb") as file:
                file.truncate((RECORDS_DISK_MIB if disk == "records" else ample_mib) << 20)
        kdump = directory / "kdump"
        kdump.mkdir()
        shutil.copy(kernel.vmlinuz, kdump / "vmlinuz")
        (kdump / "initrd").write_bytes(self.crash_initrd(kernel, after_copy))
        for disk, options in (
            ("plain.ext4", ["-b", "4096", "-d", str(kdump)]),
            ("small-blocks.ext4", ["-b", "1024"]),
        ):
            subprocess.run([mkfs, "-q", "-F", *options, str(directory / disk)], check=True)
        shutil.rmtree(kdump)

    def initrd(self, kernel: KernelPackage) -> bytes:
        """Initramfs of the kernel that will crash."""
        cpio = base_initramfs(kernel, WANTED_MODULES, SOURCES / "init.sh")
        cpio.add_file("workload", compiled("workload", sorted((SOURCES / "workload").glob("*.c"))))
        add_program(cpio, Path(require_program("kexec", "kexec-tools")), "sbin/kexec")
        settings = {
            "WORKLOAD": self.workload,
            "ASK_FOR_DUMP": "dump" if self.dump_guest_memory else "",
            "CRASH_COMMAND_LINE": self.crash_command_line(),
        }
        lines = [f'{name}="{value}"\n' for name, value in settings.items()]
        cpio.add_file("lab.conf", "".join(lines).encode(), 0o644)
        return cpio.to_bytes()

    def crash_initrd(self, kernel: KernelPackage, after_copy: AfterCopy | None = None) -> bytes:
        """Initramfs of the crash kernel: enough to copy /proc/vmcore to a disk."""
        # Not all of WANTED_MODULES: a balloon driver would give the little memory away.
        wanted = (*CRASH_MODULES, *(EXT4_MODULES if after_copy else ()))
        cpio = base_initramfs(kernel, wanted, SOURCES / "crash-init.sh")
        cpio.add_file("vmcopy", compiled("vmcopy", [SOURCES / "vmcopy.c"]))
        if after_copy:
            cpio.add_file("after-copy.sh", after_copy.script)
        return cpio.to_bytes()

    def _crashkernel(self) -> str:
        if self.crashkernel:
            return self.crashkernel
        return "112M" if self.memory_mib < 1024 else "192M"


def base_initramfs(kernel: KernelPackage, wanted: Sequence[str], init: Path) -> Cpio:
    """busybox, an init script and modules, in the order it loads them."""
    cpio = busybox_base()
    cpio.add_file("init", init)
    add_modules(cpio, kernel.module_files(wanted))
    return cpio
