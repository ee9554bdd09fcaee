# SPDX-License-Identifier: GPL-2.0-or-later
"""The smallest case: busybox, a few lines of shell, and the archive of `pydumpfile initramfs`.

On the patched kernels of kpatch/, which have no disks, the dump leaves the guest through a second
serial port.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..cache import require_program
from ..errors import LabError
from ..initramfs import Cpio, add_program
from ..kernels import KernelPackage, fetch, resolve
from .bare import Crash, busybox_initrd, run_crash
from .debian import VENV, install_in_venv
from .machine import GUEST, Cost, disk_arguments, make_disk, read_disk
from .tree import make_tree, run_inside

KERNEL = "6.1-cloud"
# In front of the dumper, which is in one of the archives, see guest/footprint.c.
_COLLECTOR = b"""\
#!/bin/sh
exec footprint $KILL /usr/bin/makedumpfile "$@"
"""
_ARCHIVE_OPTIONS = ("initramfs", "--as-makedumpfile", "--cpio")
_TO_DISK = """\
disk vda
mount -t ext4 /dev/vda /mnt || fail "no ext4 on vda"
makedumpfile --dump-dmesg /proc/vmcore /mnt/dmesg
echo "LAB-STATUS dmesg $?"
kdump_utils /mnt
echo "LAB-STATUS kdump_utils $?"
ls -l /mnt
umount /mnt
"""
_TO_SERIAL = """\
echo "LAB-SWITCH $(cat /sys/module/kernel/parameters/vmcore_direct_map)"
mkdir /out
mount -t tmpfs out /out
kdump_utils /out
echo "LAB-STATUS kdump_utils $?"
ls -l /out
stty raw -echo </dev/ttyS1
cat /out/vmcore >/dev/ttyS1
"""


@dataclass(frozen=True)
class Busybox:
    """What to boot and what dumps.

    kernel: a name of the lab's, or "patched-6.1", "patched-6.12".
    dumper: "pydumpfile" or "makedumpfile".
    debian_python: with the interpreter of the Debian tree, which is as small as interpreters are in
        a distribution; otherwise with the one that runs this.
    """

    dumper: str = "pydumpfile"
    kernel: str = KERNEL
    memory_mib: int = 1024
    crashkernel: str = "192M"
    noise_mib: int = 32
    debian_python: bool = False


@dataclass(frozen=True)
class BusyboxRun:
    """What came of it; `crash` is what the crash kernel wrote, `package` what it was, if known."""

    console: str
    costs: list[Cost]
    crash: Path
    package: KernelPackage | None


def run_busybox(guest: Busybox, directory: Path) -> BusyboxRun:
    """Panic, dump as kdump-utils does, power off."""
    directory.mkdir(parents=True, exist_ok=True)
    crash = directory / "crash"
    shutil.rmtree(crash, ignore_errors=True)
    if guest.kernel.startswith("patched-"):
        return _run_patched(guest, directory, crash)
    package = fetch(resolve(guest.kernel))
    with tempfile.TemporaryDirectory(prefix="busybox-", dir=directory) as name:
        target = Path(name) / "target.ext4"
        make_disk(target, 2048)
        machine = run_crash(
            Crash(
                package.vmlinuz,
                _initrd(guest.dumper, package, _TO_DISK, guest.debian_python),
                guest.memory_mib,
                guest.crashkernel,
                noise_mib=guest.noise_mib,
                disks=disk_arguments("target", target),
            ),
            directory,
            "LAB-DONE",
        )
        read_disk(target, crash)
    return BusyboxRun(machine.text, machine.costs, crash, package)


def _run_patched(guest: Busybox, directory: Path, crash: Path) -> BusyboxRun:
    from tests.kernel_lab.builder import build_image

    image = build_image(guest.kernel.partition("-")[2])
    crash.mkdir()
    vmcore = crash / "vmcore"
    machine = run_crash(
        Crash(
            image.bzimage,
            _initrd(guest.dumper, None, _TO_SERIAL, guest.debian_python),
            guest.memory_mib,
            guest.crashkernel,
            noise_mib=guest.noise_mib,
            disks=[
                "-chardev",
                f"file,id=dump,path={vmcore}",
                "-device",
                "isa-serial,chardev=dump,index=1",
            ],
        ),
        directory,
        "LAB-DONE",
    )
    return BusyboxRun(machine.text, machine.costs, crash, None)


class Case(NamedTuple):
    """One thing that went wrong: how the service saw it end, and how the dumper did."""

    name: str
    service_status: int
    dumper_status: int
    files: list[Path]


def run_faults(dumper: str, directory: Path) -> list[Case]:
    """Everything of guest/faults.sh, in one crash kernel."""
    directory.mkdir(parents=True, exist_ok=True)
    package = fetch(resolve(KERNEL))
    with tempfile.TemporaryDirectory(prefix="faults-", dir=directory) as name:
        scratch = Path(name)
        for disk, size_mib in (("out", 2048), ("full", 6), ("gone", 256), ("copy", 2048)):
            make_disk(scratch / disk, size_mib)
        machine = run_crash(
            Crash(
                package.vmlinuz,
                _faults_initrd(dumper, package),
                crashkernel="256M",
                disks=[
                    *disk_arguments("out", scratch / "out"),
                    *disk_arguments("full", scratch / "full"),
                    *disk_arguments("gone", scratch / "gone"),
                    *disk_arguments("copy", scratch / "copy"),
                ],
            ),
            directory,
            "LAB-DONE",
        )
        left = directory / "left"
        shutil.rmtree(left, ignore_errors=True)
        read_disk(scratch / "out", left)
        read_disk(scratch / "gone", left / "vanished-utils")
    return _cases(machine.text, left)


def _faults_initrd(dumper: str, package: KernelPackage) -> bytes:
    steps = (GUEST / "faults.sh").read_text("utf-8")
    mapper = Cpio()
    # The lab keeps few modules of a kernel; the tree has all.
    modules = make_tree() / "lib/modules" / package.release
    mapper.add_file("modules/dm-mod.ko", modules / "kernel/drivers/md/dm-mod.ko")
    add_program(mapper, Path(require_program("dmsetup")), "sbin/dmsetup")
    return _initrd(dumper, package, steps) + mapper.to_bytes()


def _cases(text: str, left: Path) -> list[Case]:
    found = re.findall(r"^LAB-CASE (\S+)\n(.*?)^LAB-STATUS (\d+)$", text, re.M | re.S)
    cases = []
    for name, between, status in found:
        dumper = re.search(r'LAB-COST .*"status": (\d+)', between)
        files = sorted(path for path in (left / name).rglob("*") if path.is_file())
        cases.append(Case(name, int(status), int(dumper.group(1)) if dumper else -1, files))
    return cases


def _initrd(
    dumper: str, package: KernelPackage | None, steps: str, debian_python: bool = False
) -> bytes:
    front = Cpio()
    front.add_file("lab/makedumpfile", _COLLECTOR)
    if dumper == "makedumpfile":
        add_program(front, Path(require_program("makedumpfile")), "usr/bin/makedumpfile")
        return busybox_initrd(package, steps, [front.to_bytes()])
    archive = debian_archive() if debian_python else own_archive()
    return busybox_initrd(package, steps, [front.to_bytes(), archive])


def own_archive() -> bytes:
    """What `pydumpfile initramfs` makes of this tree and the interpreter that runs this."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pydumpfile.cpio"
        run = subprocess.run(
            [sys.executable, "-m", "pydumpfile", *_ARCHIVE_OPTIONS, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if run.returncode:
            raise LabError(f"pydumpfile initramfs failed:\n{run.stdout}")
        return path.read_bytes()


def debian_archive() -> bytes:
    """The same of Debian's interpreter, in the tree."""
    tree = make_tree()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        opt = scratch / "opt"
        opt.mkdir()
        install_in_venv(tree, opt, scratch / "wheels")
        command = [f"{VENV}/bin/pydumpfile", *_ARCHIVE_OPTIONS, "/mnt/pydumpfile.cpio"]
        print(run_inside(tree, command, {opt: "/opt", scratch: "/mnt"}))
        return (scratch / "pydumpfile.cpio").read_bytes()
