# SPDX-License-Identifier: GPL-2.0-or-later
"""The running system as files below a root, and which kdump service is set up in it."""

from __future__ import annotations

import glob
import os
import shlex
from typing import NamedTuple, Optional


class System:
    """/proc, /sys, /etc, /boot and /var of one system; the root is ``/`` but for tests."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, name: str) -> str:
        """Where the file with the absolute name ``name`` is."""
        return os.path.join(self.root, name.lstrip("/"))

    def text(self, name: str) -> Optional[str]:
        """Its content without blanks around; None if there is none to be read."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return None

    def number(self, name: str) -> Optional[int]:
        """Its content as a number, or None."""
        text = self.text(name)
        return int(text) if text is not None and text.isdecimal() else None

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder, links followed."""
        return os.path.exists(self.path(name))

    def find(self, pattern: str) -> list[str]:
        """Absolute names that match, sorted."""
        found = glob.glob(self.path(pattern))
        return sorted("/" + os.path.relpath(path, self.root) for path in found)

    def settings(self, name: str) -> dict[str, str]:
        """``KEY=value`` lines of a file that a shell reads."""
        lines = (self.text(name) or "").splitlines()
        pairs = (line.partition("=")[::2] for line in lines if "=" in line.partition("#")[0])
        return {key.strip().removeprefix("export "): _unquoted(value) for key, value in pairs}

    @property
    def release(self) -> str:
        """Of the running kernel."""
        return self.text("/proc/sys/kernel/osrelease") or ""

    def memory(self) -> dict[str, int]:
        """/proc/meminfo: bytes by name."""
        found: dict[str, int] = {}
        for line in (self.text("/proc/meminfo") or "").splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[0].isdecimal() and words[1] == "kB":
                found[name] = int(words[0]) << 10
        return found


class Kdump(NamedTuple):
    """A kdump service as it is configured."""

    service: str
    reload: str
    """The command that makes its initramfs anew and loads the crash kernel."""
    initrd: str
    """Its initramfs; empty if there is none."""
    directory: str
    """Where dumps go."""
    elsewhere: str
    """The machine or device that ``directory`` is on, where that is not a folder of this system."""
    folders: tuple[str, ...] = ()
    """Of the root file system, if it boots that: where it looks for the dumper;
    empty if it dumps from the initramfs."""
    hides_failures: bool = False
    """Of the pipe it dumps through only the last program is asked how it went."""


_KDUMP_TOOLS_PATH = "/bin:/usr/bin:/sbin:/usr/sbin"
"""What kdump-config sets before it reads its settings."""
NO_SERVICE = Kdump("no kdump service", "load the crash kernel anew", "", "/var/crash", "")


def find_kdump(system: System) -> Optional[Kdump]:
    """The service whose configuration is there, or None."""
    for name, reader in (
        ("/etc/default/kdump-tools", _kdump_tools),
        ("/etc/kdump.conf", _kdump_utils),
        ("/etc/sysconfig/kdump", _opensuse),
    ):
        if system.exists(name):
            return reader(system, name)
    return None


def _kdump_tools(system: System, name: str) -> Kdump:
    """Debian and Ubuntu."""
    said = system.settings(name)
    remote = next((said[key] for key in ("SSH", "NFS", "FTP") if said.get(key)), "")
    path = said.get("PATH", _KDUMP_TOOLS_PATH)
    for variable in ("${PATH}", "$PATH"):
        path = path.replace(variable, _KDUMP_TOOLS_PATH)
    return Kdump(
        "kdump-tools", "kdump-config unload; kdump-config load",
        _first(system, said.get("KDUMP_INITRD", ""), "/var/lib/kdump/initrd.img",
               f"/var/lib/kdump/initrd.img-{system.release}"),
        said.get("KDUMP_COREDIR") or "/var/crash", remote, tuple(path.split(":")),
        hides_failures="pipefail" not in (system.text(name) or ""),
    )  # fmt: skip


def _kdump_utils(system: System, name: str) -> Kdump:
    """Fedora and RHEL: words separated by blanks."""
    said = {}
    for line in (system.text(name) or "").splitlines():
        key, _, value = line.partition("#")[0].strip().partition(" ")
        said[key] = value.strip()
    kinds = ("ssh", "nfs", "raw", "ext2", "ext3", "ext4", "xfs", "btrfs", "minix", "virtiofs")
    remote = next((f"{kind} {said[kind]}" for kind in kinds if said.get(kind)), "")
    return Kdump(
        "kdump-utils", "kdumpctl rebuild && kdumpctl restart",
        _first(system, f"/boot/initramfs-{system.release}kdump.img",
               f"/var/lib/kdump/initramfs-{system.release}kdump.img"),
        said.get("path") or "/var/crash", remote,
    )  # fmt: skip


def _opensuse(system: System, name: str) -> Kdump:
    said = system.settings(name).get("KDUMP_SAVEDIR") or "/var/crash"
    scheme, is_url, rest = said.partition("://")
    remote = is_url and scheme != "file"
    return Kdump(
        "kdump", "mkdumprd && systemctl restart kdump",
        _first(system, f"/boot/initrd-{system.release}-kdump",
               f"/var/lib/kdump/initrd-{system.release}-kdump"),
        rest if is_url and not remote else said, said if remote else "",
    )  # fmt: skip


def _first(system: System, *names: str) -> str:
    return next((name for name in names if name and system.exists(name)), "")


def _unquoted(value: str) -> str:
    """A shell word as the shell reads it."""
    try:
        words = shlex.split(value, comments=True)
    except ValueError:
        return value.strip()
    return words[0] if words else ""
