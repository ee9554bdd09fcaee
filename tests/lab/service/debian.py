# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian 12 with systemd and unmodified kdump-tools: panic, dump, reboot.

The root disk is made once from the tree and booted once, so that kdump-tools has made its initrd;
after that guests only see snapshots of it.  /opt and /var/crash are disks of their own, made for
each run: /opt has pydumpfile in a virtual environment, as docs/kdump-service.md installs it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache import locked
from ..initramfs import compiled
from .machine import (
    GUEST,
    Cost,
    ServiceMachine,
    base_arguments,
    disk_arguments,
    make_disk,
    read_disk,
    run_machine,
)
from .tree import kernel, make_tree, make_wheels, run_inside

_ROOT_MIB = 4096
_OPT_MIB = 512
_TIMEOUT_SECONDS = 1500.0
_COMMON = "root=/dev/vda rw console=ttyS0 loglevel=4 net.ifnames=0 systemd.show_status=false"
VENV = "/opt/pydumpfile"
_FSTAB = """\
/dev/vda / ext4 errors=remount-ro 0 1
/dev/vdb /opt ext4 defaults 0 2
/dev/vdc /var/crash ext4 defaults 0 2
"""
_UNIT = """\
[Unit]
Description=What the lab does once the system is up
After=kdump-tools.service

[Service]
Type=oneshot
ExecStart=/opt/lab/debian.sh

[Install]
WantedBy=multi-user.target
"""
# Set after kdump-config has set its own PATH: the file is read by it, not only by systemd.
PYDUMPFILE_SETTINGS = f"""\
PATH={VENV}/bin:/bin:/usr/bin:/sbin:/usr/sbin
"""
# The pipe's other end must not hide that the dumper failed; kdump-tools' shell has no pipefail.
PIPEFAIL_SETTINGS = """\
[ -n "$BASH_VERSION" ] || exec bash -o pipefail "$0" "$@"
"""


@dataclass(frozen=True)
class Debian:
    """What is installed, and how the machine is made.

    dumper: "pydumpfile" or "makedumpfile".
    settings: lines to append to /etc/default/kdump-tools.
    record: put guest/footprint.c between the service and the dumper.
    kill: "SIGNAL:BYTES" for it, see there.
    before: shell lines that run before the panic, as root.
    """

    dumper: str = "pydumpfile"
    memory_mib: int = 4096
    crashkernel: str = "256M"
    settings: str = ""
    record: bool = True
    kill: str = ""
    before: str = ""
    target_mib: int = 2048


@dataclass(frozen=True)
class DebianRun:
    """What came of it: the console, what was measured, and what is under /var/crash."""

    console: str
    costs: list[Cost]
    crash: Path


def run_debian(guest: Debian, directory: Path) -> DebianRun:
    """Panic `guest`, let kdump-tools dump and reboot, and leave what it wrote in `directory`.

    Raises LabError if the system does not come back.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tree = make_tree()
    image = root_image(tree)
    with tempfile.TemporaryDirectory(prefix="debian-", dir=directory) as name:
        scratch = Path(name)
        make_opt_disk(guest, tree, scratch)
        make_disk(scratch / "crash.ext4", guest.target_mib)
        arguments = [
            *_qemu_arguments(tree, guest.memory_mib, f"crashkernel={guest.crashkernel} lab=crash"),
            *disk_arguments("root", image, ",snapshot=on"),
            *disk_arguments("opt", scratch / "opt.ext4"),
            *disk_arguments("crash", scratch / "crash.ext4"),
        ]
        machine = ServiceMachine(arguments, scratch, "LAB-BACK", survives_reboot=True)
        run_machine(machine, directory / "console.log", _TIMEOUT_SECONDS)
        crash = directory / "crash"
        shutil.rmtree(crash, ignore_errors=True)
        read_disk(scratch / "crash.ext4", crash)
    return DebianRun(machine.text, machine.costs, crash)


def root_image(tree: Path) -> Path:
    """The root disk made of `tree`, settled; from the cache or made now."""
    digest = hashlib.sha256(f"{_FSTAB}{_UNIT}".encode()).hexdigest()[:8]
    image = tree.with_name(f"{tree.name}-{digest}.ext4")
    if not image.exists():
        with locked(f"service-{image.name}"):
            if not image.exists():
                _make_root_image(tree, image)
    return image


def _make_root_image(tree: Path, image: Path) -> None:
    (tree / "etc/fstab").write_text(_FSTAB, "utf-8")
    (tree / "etc/hostname").write_text("debian\n", "utf-8")
    (tree / "etc/systemd/system/lab.service").write_text(_UNIT, "utf-8")
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    link = wants / "lab.service"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc/systemd/system/lab.service")
    building = image.with_suffix(".building")
    make_disk(building, _ROOT_MIB, tree)
    with tempfile.TemporaryDirectory(prefix="settle-", dir=image.parent) as name:
        scratch = Path(name)
        make_opt_disk(Debian(dumper="makedumpfile"), tree, scratch)
        make_disk(scratch / "crash.ext4", 64)
        arguments = [
            *_qemu_arguments(tree, 1024, "crashkernel=128M lab=settle"),
            *disk_arguments("root", building),
            *disk_arguments("opt", scratch / "opt.ext4"),
            *disk_arguments("crash", scratch / "crash.ext4"),
        ]
        machine = ServiceMachine(arguments, scratch, "LAB-SETTLED")
        run_machine(machine, image.with_suffix(".log"), _TIMEOUT_SECONDS)
    building.rename(image)


def _qemu_arguments(tree: Path, memory_mib: int, command_line: str) -> list[str]:
    release = kernel().release
    return base_arguments(
        memory_mib,
        tree / f"boot/vmlinuz-{release}",
        tree / f"boot/initrd.img-{release}",
        f"{_COMMON} {command_line}",
    )


def make_opt_disk(guest: Debian, tree: Path, directory: Path) -> None:
    """Make `directory`/opt.ext4: pydumpfile's environment and the lab's own files."""
    opt = directory / "opt"
    lab = opt / "lab"
    (lab / "bin").mkdir(parents=True)
    _write_script(lab / "debian.sh", (GUEST / "debian.sh").read_text("utf-8"))
    settings = guest.settings
    if guest.dumper == "pydumpfile":
        install_in_venv(tree, opt, directory / "wheels")
        settings = PYDUMPFILE_SETTINGS + settings
    dumper = f"{VENV}/bin/makedumpfile" if guest.dumper == "pydumpfile" else "/usr/bin/makedumpfile"
    if guest.record:
        program = lab / "bin" / "footprint"
        program.write_bytes(compiled("footprint", [GUEST / "footprint.c"]))
        kill = f"-k {guest.kill} " if guest.kill else ""
        _write_script(lab / "bin" / "makedumpfile",
                      f'exec /opt/lab/bin/footprint {kill}{dumper} "$@"')  # fmt: skip
        program.chmod(0o755)
        settings += "PATH=/opt/lab/bin:$PATH\n"
    (lab / "kdump-tools.add").write_text(settings, "utf-8")
    if guest.before:
        _write_script(lab / "before.sh", guest.before)
    make_disk(directory / "opt.ext4", _OPT_MIB, opt)
    shutil.rmtree(opt)


def _write_script(path: Path, text: str) -> None:
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)


def install_in_venv(tree: Path, opt: Path, wheels: Path) -> None:
    """Do what docs/kdump-service.md says, with `opt` as /opt of the tree."""
    wheel = make_wheels(tree, wheels)
    steps: Sequence[Sequence[str]] = (
        ("python3", "-m", "venv", VENV),
        (f"{VENV}/bin/pip", "install", "--no-index", "--find-links", "/mnt", f"/mnt/{wheel.name}"),
        ("ln", "-s", "pydumpfile", f"{VENV}/bin/makedumpfile"),
    )
    for step in steps:
        run_inside(tree, step, {opt: "/opt", wheels: "/mnt"})
