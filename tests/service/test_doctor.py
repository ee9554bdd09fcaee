# SPDX-License-Identifier: GPL-2.0-or-later
"""`pydumpfile doctor` on systems that are files in a folder: a good one, each time spoiled."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Optional

import pytest

from pydumpfile.cli.doctor import main
from pydumpfile.service import cpio, doctor, specimen
from pydumpfile.service.cpio import Entry
from pydumpfile.service.doctor import FAIL, OK, UNKNOWN, WARN, Finding
from pydumpfile.service.rehearsal import RehearsalError
from pydumpfile.service.system import System, find_kdump
from tests.service.conftest import Traced

MIB = 1 << 20
RELEASE = "6.1.0-test"
INITRD = f"/boot/initramfs-{RELEASE}kdump.img"
CONFIG = f"/boot/config-{RELEASE}"
GOOD_CONFIG = "CONFIG_KEXEC=y\nCONFIG_CRASH_DUMP=y\nCONFIG_PROC_VMCORE=y\n"
MEMINFO = """\
MemTotal:        4096000 kB
MemFree:         2048000 kB
Active:           600000 kB
Inactive:         900000 kB
Unevictable:       24000 kB
Hugetlb:          100000 kB
"""
WITH_PYDUMPFILE = cpio.archive(
    {name: Entry.file(b"x") for name in ("usr/bin/pydumpfile", "usr/lib/pydumpfile/bin/python3")}
)


class Machine:
    """A Fedora that is ready for a crash."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("/sys/kernel/kexec_crash_size", str(256 * MIB))
        self.write("/sys/kernel/kexec_crash_loaded", "1")
        self.write("/proc/cmdline", "root=/dev/sda crashkernel=256M quiet")
        self.write("/proc/sys/kernel/osrelease", RELEASE)
        self.write("/proc/sys/kernel/panic_on_oops", "1")
        self.write("/proc/meminfo", MEMINFO)
        self.write("/etc/kdump.conf", "path /var/crash\n")
        self.write(CONFIG, GOOD_CONFIG)
        self.write(INITRD, WITH_PYDUMPFILE)
        (root / "var/crash").mkdir(parents=True)
        specimen.write(str(root / "proc/kcore"))

    def write(self, name: str, content: object) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())

    def remove(self, name: str) -> None:
        (self.root / name.lstrip("/")).unlink()

    def ask(self, name: str, **options: Optional[str]) -> Finding:
        found = {f.name: f for f in doctor.examine_system(System(str(self.root)), **options)}
        return found[name]


@pytest.fixture(autouse=True)
def _traced_once(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "trace", lambda _: traced)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_all_is_well(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    findings = list(doctor.examine_system(System(str(machine.root))))
    assert [finding.name for finding in findings] == [
        "memory reserved", "crash kernel", "kernel support", "panic on oops", "VMCOREINFO",
        "codecs", "rehearsal", "crash initramfs", "crash memory", "would be kept", "target space",
    ]  # fmt: skip
    assert {finding.state for finding in findings} == {OK}, findings
    assert main(["--root", str(machine.root)]) == 0
    assert "not be dumped" not in capsys.readouterr().out


def test_json(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--root", str(machine.root)]) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True
    machine.write("/sys/kernel/kexec_crash_loaded", "0")
    assert main(["--json", "--root", str(machine.root)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is False
    (failing,) = [finding for finding in report["findings"] if finding["state"] == FAIL]
    assert failing["name"] == "crash kernel"
    assert failing["advice"] == "kdumpctl rebuild && kdumpctl restart"


def test_what_fails_is_said_last(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.write("/sys/kernel/kexec_crash_loaded", "0")
    assert main(["--root", str(machine.root)]) == 1
    said = capsys.readouterr().out
    assert said.endswith("A crash of this system would not be dumped: crash kernel.\n")


def test_nothing_is_known_of_an_empty_system(tmp_path: Path) -> None:
    states = {f.name: f.state for f in doctor.examine_system(System(str(tmp_path)))}
    assert {name for name, state in states.items() if state == OK} == {"codecs", "rehearsal"}
    assert FAIL not in states.values()


@pytest.mark.parametrize(
    ("size", "cmdline", "state", "says"),
    [
        ("0", "quiet", FAIL, "no crashkernel="),
        ("0", "crashkernel=1G,high crashkernel=64M,low", FAIL, "in spite of crashkernel=1G,high c"),
        (str(128 * MIB), "crashkernel=128M", OK, "128 MiB (crashkernel=128M)"),
    ],
)
def test_reservation(machine: Machine, size: str, cmdline: str, state: str, says: str) -> None:
    machine.write("/sys/kernel/kexec_crash_size", size)
    machine.write("/proc/cmdline", cmdline)
    finding = machine.ask("memory reserved")
    assert finding.state == state
    assert says in finding.found


def test_kernel_support(machine: Machine) -> None:
    machine.write(CONFIG, GOOD_CONFIG.replace("CONFIG_PROC_VMCORE=y", "# not set"))
    finding = machine.ask("kernel support")
    assert finding.state == FAIL
    assert f"{CONFIG} lacks CONFIG_PROC_VMCORE" in finding.found
    machine.write(CONFIG, GOOD_CONFIG.replace("CONFIG_KEXEC=y", "CONFIG_KEXEC_FILE=y"))
    assert machine.ask("kernel support").state == OK
    machine.remove(CONFIG)
    assert machine.ask("kernel support").state == UNKNOWN
    machine.write("/proc/config.gz", gzip.compress(GOOD_CONFIG.encode()))
    assert machine.ask("kernel support").found.endswith("/proc/config.gz")


def test_panic_on_oops(machine: Machine) -> None:
    machine.write("/proc/sys/kernel/panic_on_oops", "0")
    assert machine.ask("panic on oops").state == WARN


def test_description(machine: Machine) -> None:
    good = machine.ask("VMCOREINFO")
    assert specimen.RELEASE in good.found
    assert "all levels" in good.found
    kcore = machine.root / "proc/kcore"
    content = kcore.read_bytes()
    kcore.write_bytes(content.replace(b"OFFSET(page.mapping)", b"OFFSET(page.nothing)"))
    bad = machine.ask("VMCOREINFO")
    assert bad.state == FAIL
    assert "OFFSET(page.mapping)" in bad.found
    kcore.write_bytes(content.replace(b"SYMBOL(mem_section)", b"SYMBOL(nem_section)"))
    assert "SYMBOL(mem_section)" in machine.ask("VMCOREINFO").found
    kcore.write_bytes(content.replace(b"PAGE_BUDDY_MAP", b"PAGE_OTHER_MAP"))
    assert "free pages by the free lists" in machine.ask("VMCOREINFO").found
    kcore.write_bytes(content.replace(b"HUGETLB_PAGE_DTOR", b"HUGETLB_PAGE_XTOR"))
    assert machine.ask("VMCOREINFO").state == WARN
    kcore.write_bytes(content.replace(b"VMCOREINFO\0", b"SOMETHING!\0"))
    assert machine.ask("VMCOREINFO").state == UNKNOWN
    kcore.write_bytes(content[:30])
    assert machine.ask("VMCOREINFO").state == UNKNOWN
    kcore.unlink()
    assert "cannot be read: No such file" in machine.ask("VMCOREINFO").found


def test_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {"none": "", "zlib": "no libz", "lzo": "no lzo", "snappy": "", "zstd": "no zstd"}
    monkeypatch.setattr(doctor.codecs, "available", lambda: lacking)
    finding = doctor.codec_libraries()
    assert finding.state == WARN
    assert "none, snappy; no libz; no lzo" in finding.found


def test_a_rehearsal_that_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def trace(_: object) -> None:
        raise RehearsalError("it is broken")

    monkeypatch.setattr(doctor, "trace", trace)
    assert machine.ask("rehearsal")[1:3] == (FAIL, "it is broken")


def test_another_machine(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.uname_result(("Linux", "n", "r", "v", "aarch64"))
    monkeypatch.setattr(doctor.os, "uname", lambda: there)
    assert machine.ask("rehearsal").state == FAIL


def test_an_initramfs_without_pydumpfile(machine: Machine) -> None:
    entries = {name: Entry.file(b"") for name in ("init", "usr/sbin/makedumpfile")}
    machine.write(INITRD, cpio.archive(entries))
    finding = machine.ask("crash initramfs")
    assert finding.state == FAIL
    assert "no pydumpfile, but usr/sbin/makedumpfile" in finding.found
    assert finding.advice.endswith("then kdumpctl rebuild && kdumpctl restart")


def test_an_initramfs_that_cannot_be_looked_into(machine: Machine) -> None:
    machine.write(INITRD, cpio.archive({"squash-root.img": Entry.file(b"")}))
    assert machine.ask("crash initramfs").state == UNKNOWN


def test_an_initramfs_with_an_older_pydumpfile(machine: Machine) -> None:
    os.utime(machine.root / INITRD.lstrip("/"), (0, 0))
    assert machine.ask("crash initramfs").state == WARN


def test_no_initramfs(machine: Machine) -> None:
    machine.remove(INITRD)
    assert machine.ask("crash initramfs").state == FAIL
    assert machine.ask("crash memory").state == UNKNOWN


def test_an_initramfs_that_is_named(machine: Machine) -> None:
    machine.remove("/etc/kdump.conf")
    assert machine.ask("crash initramfs").state == UNKNOWN
    assert machine.ask("crash initramfs", initrd=INITRD).state == OK
    finding = machine.ask("crash initramfs", initrd="/boot/nowhere")
    assert (finding.state, finding.found) == (FAIL, "/boot/nowhere is not there")


def test_names_are_those_of_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dumps").mkdir()
    monkeypatch.chdir(tmp_path)
    main(["--target", "dumps", "--initrd", "none.img"])
    said = capsys.readouterr().out
    assert f"free at {tmp_path}/dumps, for" in said
    assert f"{tmp_path}/none.img is not there" in said


def test_debian_dumps_from_the_root_file_system(machine: Machine) -> None:
    machine.remove("/etc/kdump.conf")
    machine.write("/etc/default/kdump-tools", "USE_KDUMP=1")
    machine.write(f"/var/lib/kdump/initrd.img-{RELEASE}", cpio.archive({"init": Entry.file(b"")}))
    assert machine.ask("crash initramfs").state == FAIL
    (machine.root / "bin").symlink_to("usr/bin")
    machine.write("/usr/bin/makedumpfile", b"\x7fELF the other one")
    finding = machine.ask("crash initramfs")
    assert finding.state == WARN
    assert "is another (/bin/makedumpfile)" in finding.found
    script = "#!/opt/pydumpfile/bin/python3\nfrom pydumpfile.cli import entry\n"
    machine.write("/opt/pydumpfile/bin/pydumpfile", script)
    (machine.root / "opt/pydumpfile/bin/makedumpfile").symlink_to("pydumpfile")
    machine.write("/usr/local/bin/makedumpfile", script)
    assert machine.ask("crash initramfs").state == WARN, "kdump-config looks into neither"
    for path in ("/opt/pydumpfile/bin:/bin:/usr/bin", '"/opt/pydumpfile/bin:$PATH"'):
        machine.write("/etc/default/kdump-tools", f"USE_KDUMP=1\nPATH={path}\n")
        finding = machine.ask("crash initramfs")
        assert finding.state == WARN
        assert "/opt/pydumpfile/bin/makedumpfile), in a pipe that hides failures" in finding.found
        machine.write("/etc/default/kdump-tools", f"PATH={path}\nexec bash -o pipefail $0")
        assert machine.ask("crash initramfs").state == OK


def test_memory_for_the_crash_kernel(machine: Machine) -> None:
    packed = len(WITH_PYDUMPFILE)
    finding = machine.ask("crash memory")
    assert finding.state == OK
    machine.write(INITRD, WITH_PYDUMPFILE + cpio.archive({"more": Entry.file(bytes(90 * MIB))}))
    finding = machine.ask("crash memory")
    assert finding.state == WARN
    need = doctor._KERNEL_SIZE + doctor.DUMPER_SIZE + 2 * (90 * MIB + packed)
    assert 0 <= int(finding.advice.split("=")[1].rstrip("M")) * MIB - need <= 65 * MIB


def test_what_would_be_kept(machine: Machine) -> None:
    now = doctor.estimate(System(str(machine.root)))
    assert now is not None
    kib = 1024
    assert now.total == 4096000 * kib
    assert now.cache_and_user == 1624000 * kib
    in_use = (4096000 - 2048000 - 1624000) * kib
    assert now.kernel == in_use + 4096000 * kib // 64 + 64 * MIB
    machine.write("/proc/meminfo", "MemTotal: 5 kB\n")
    assert machine.ask("would be kept").state == UNKNOWN


@pytest.mark.parametrize(("free_mib", "state"), [(100, FAIL), (200, WARN), (2000, OK)])
def test_space(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, free_mib: int, state: str
) -> None:
    """The dump has 414 + 62 + 64 MiB at most."""
    monkeypatch.setattr(
        doctor.os, "statvfs",
        lambda _: os.statvfs_result((4096, MIB, 9999, 9999, free_mib, 0, 0, 0, 0, 255)),
    )  # fmt: skip
    finding = machine.ask("target space")
    assert finding.state == state
    assert f"{free_mib} MiB free at /var/crash, for a dump of up to 541 MiB" in finding.found


def test_space_elsewhere(machine: Machine) -> None:
    machine.write("/etc/kdump.conf", "nfs there:/export\n")
    assert machine.ask("target space").state == UNKNOWN
    assert machine.ask("target space", target="/var/crash").state == OK


def test_a_target_that_is_no_folder(machine: Machine) -> None:
    finding = machine.ask("target space", target="/proc/cmdline")
    assert (finding.state, finding.found) == (FAIL, "/proc/cmdline is not a folder")


def test_a_target_that_is_not_there_yet(machine: Machine) -> None:
    machine.write("/etc/kdump.conf", "path /var/crash/new/folder\n")
    assert "not there yet (/var/crash is)" in machine.ask("target space").found
    assert find_kdump(System(str(machine.root))) is not None
