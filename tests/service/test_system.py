# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kdump service is set up, by the configuration of each distribution."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydumpfile.service.system import System, find_kdump

RELEASE = "6.1.0-test"


@pytest.fixture
def make(tmp_path: Path):
    """Writes files below a root; gives the system there."""

    def make(**files: str) -> System:
        for name, text in {"/proc/sys/kernel/osrelease": RELEASE, **files}.items():
            path = tmp_path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return System(str(tmp_path))

    return make


def test_no_service(make) -> None:
    assert find_kdump(make()) is None


def test_debian(make) -> None:
    system = make(**{
        "/etc/default/kdump-tools": '# KDUMP_COREDIR="/no"\nKDUMP_COREDIR="/srv/x y"\n',
        f"/var/lib/kdump/initrd.img-{RELEASE}": "",
    })  # fmt: skip
    kdump = find_kdump(system)
    assert kdump is not None
    assert kdump.service == "kdump-tools"
    assert kdump.initrd == f"/var/lib/kdump/initrd.img-{RELEASE}"
    assert kdump.directory == "/srv/x y"
    assert kdump.folders == ("/bin", "/usr/bin", "/sbin", "/usr/sbin")
    assert not kdump.elsewhere


def test_debian_over_ssh(make) -> None:
    kdump = find_kdump(make(**{"/etc/default/kdump-tools": 'SSH="root@there"'}))
    assert kdump is not None
    assert kdump.elsewhere == "root@there"
    assert kdump.directory == "/var/crash"
    assert kdump.initrd == ""


def test_fedora(make) -> None:
    kdump = find_kdump(make(**{
        "/etc/kdump.conf": "# nfs there:/no\npath /crash  # here\ncore_collector makedumpfile -l\n",
        f"/boot/initramfs-{RELEASE}kdump.img": "",
    }))  # fmt: skip
    assert kdump is not None
    assert kdump.directory == "/crash"
    assert kdump.initrd == f"/boot/initramfs-{RELEASE}kdump.img"
    assert not kdump.folders
    assert not kdump.elsewhere


@pytest.mark.parametrize("line", ["nfs there:/export", "ssh root@there", "ext4 /dev/vdb1"])
def test_fedora_to_elsewhere(make, line: str) -> None:
    kdump = find_kdump(make(**{"/etc/kdump.conf": f"{line}\n"}))
    assert kdump is not None
    assert kdump.elsewhere == line


@pytest.mark.parametrize(
    ("said", "directory", "elsewhere"),
    [
        ("/var/crash", "/var/crash", ""),
        ("file:///srv/dumps", "/srv/dumps", ""),
        ("nfs://there/export", "nfs://there/export", "nfs://there/export"),
    ],
)
def test_opensuse(make, said: str, directory: str, elsewhere: str) -> None:
    kdump = find_kdump(make(**{"/etc/sysconfig/kdump": f'KDUMP_SAVEDIR="{said}"'}))
    assert kdump is not None
    assert (kdump.directory, kdump.elsewhere) == (directory, elsewhere)


def test_memory_is_in_bytes(make) -> None:
    system = make(**{"/proc/meminfo": "MemTotal:  1000 kB\nHugePages_Total:  3\nOdd\n"})
    assert system.memory() == {"MemTotal": 1024000}


def test_what_is_not_there(make) -> None:
    system = make(**{"/sys/kernel/text": "abc"})
    assert system.text("/none") is None
    assert system.number("/none") is None
    assert system.number("/sys/kernel/text") is None
    assert system.settings("/none") == {}
    assert not system.exists("/none")
