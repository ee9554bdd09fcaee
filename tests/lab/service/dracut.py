# SPDX-License-Identifier: GPL-2.0-or-later
"""A crash initramfs made by dracut, which does what kdump-utils of Fedora and RHEL does.

dracut runs in the Debian tree, under an overlay that is thrown away: what `pydumpfile initramfs
--install dracut` puts there is the module users get.  The few lines that stand for kdump-utils are
guest/99lab-kdump.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..initramfs import compiled
from ..kernels import fetch
from .bare import Crash, run_crash
from .debian import VENV, install_in_venv
from .machine import GUEST, Cost, disk_arguments, make_disk, read_disk
from .tree import kernel, make_tree, run_inside

CORE_COLLECTOR = "makedumpfile -l --message-level 7 -d 31"
_MODULES = (
    "base bash systemd systemd-initrd dracut-systemd fs-lib rootfs-block udev-rules lab-kdump"
)
_DRIVERS = "virtio_pci virtio_blk ext4 crc32c_generic"
_ROOT = "root=/dev/vda rw rootfstype=ext4 systemd.show_status=false"
_DIRECTORIES = (
    "proc",
    "sys",
    "dev",
    "run",
    "etc",
    "var/crash",
)  # dracut wants a root to look like one


@dataclass(frozen=True)
class Dracut:
    """What the initramfs has in it, and the machine.

    dumper: "pydumpfile" or "makedumpfile".
    """

    dumper: str = "pydumpfile"
    memory_mib: int = 2048
    crashkernel: str = "256M"
    n_cpus: int = 1
    core_collector: str = CORE_COLLECTOR


@dataclass(frozen=True)
class DracutRun:
    """What came of it."""

    console: str
    costs: list[Cost]
    crash: Path  # what was under /var/crash of the target
    initrd_size: int


def run_dracut(guest: Dracut, directory: Path) -> DracutRun:
    """Panic, and let the initramfs dump and reboot; what it wrote is left in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    package = fetch(kernel())
    initrd = make_initrd(guest, directory / "build.log")
    with tempfile.TemporaryDirectory(prefix="dracut-", dir=directory) as name:
        target = Path(name) / "target.ext4"
        root = Path(name) / "root"
        for place in _DIRECTORIES:
            (root / place).mkdir(parents=True)
        make_disk(target, 1024, root)
        machine = run_crash(
            Crash(
                package.vmlinuz,
                initrd,
                guest.memory_mib,
                guest.crashkernel,
                _ROOT,
                n_cpus=guest.n_cpus,
                disks=disk_arguments("target", target),
            ),
            directory,
            "LAB-DONE",
        )
        left = Path(name) / "left"
        read_disk(target, left)
        crash = directory / "crash"
        shutil.rmtree(crash, ignore_errors=True)
        shutil.move(left / "var/crash", crash)
    return DracutRun(machine.text, machine.costs, crash, len(initrd))


def make_initrd(guest: Dracut, log: Path) -> bytes:
    """Let dracut make the initramfs; what was printed goes to `log`."""
    tree = make_tree()
    with tempfile.TemporaryDirectory(prefix="dracut-") as name:
        scratch = Path(name)
        module = scratch / "99lab-kdump"
        shutil.copytree(GUEST / "99lab-kdump", module)
        (module / "footprint").write_bytes(compiled("footprint", [GUEST / "footprint.c"]))
        (module / "footprint").chmod(0o755)
        (module / "core_collector").write_text(f"footprint {guest.core_collector}\n", "utf-8")
        modules, steps = _MODULES, []
        binds = {scratch: "/mnt"}
        if guest.dumper == "pydumpfile":
            opt = scratch / "opt"
            opt.mkdir()
            install_in_venv(tree, opt, scratch / "wheels")
            binds[opt] = "/opt"
            steps = [f"{VENV}/bin/pydumpfile initramfs --install dracut --as-makedumpfile"]
            modules += " pydumpfile"
        options = "--force --no-hostonly --no-early-microcode --zstd --show-modules"
        if guest.dumper == "makedumpfile":
            options += " --install /usr/bin/makedumpfile"
        release = kernel().release
        steps += [
            "cp -r /mnt/99lab-kdump /usr/lib/dracut/modules.d/",
            f"dracut {options} --modules '{modules}' --drivers '{_DRIVERS}' --kver {release} "
            "/mnt/initrd",
            "lsinitrd /mnt/initrd | tail -n +1",
        ]
        text = run_inside(tree, ["bash", "-exc", "\n".join(steps)], binds, scratch / "overlay")
        log.write_text(text, "utf-8")
        return (scratch / "initrd").read_bytes()
