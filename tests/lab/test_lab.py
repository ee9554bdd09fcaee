# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the parts of the lab that need no guest."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab import LabError, kernels, truth
from tests.lab.cache import require_program
from tests.lab.cores import cache_key
from tests.lab.guest import SOURCES, Guest
from tests.lab.initramfs import Cpio
from tests.lab.kernels import KernelPackage

KERNEL = KernelPackage("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2", "6.1.0-56-cloud-amd64")


def sample_cpio() -> bytes:
    cpio = Cpio()
    cpio.add_file("bin/tool", b"12345", 0o755)
    cpio.add_symlink("bin/alias", "tool")
    cpio.add_file("/empty", b"")
    return cpio.to_bytes()


def parse_newc(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Name -> (mode, content), by the format's description."""
    found: dict[str, tuple[int, bytes]] = {}
    off = 0
    while True:
        assert data[off : off + 6] == b"070701"
        fields = [int(data[off + 6 + 8 * i : off + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[off + 110 : off + 110 + name_size]
        assert name.endswith(b"\0")
        content_off = (off + 110 + name_size + 3) & ~3
        if name == b"TRAILER!!!\0":
            return found
        found[name[:-1].decode()] = (mode, data[content_off : content_off + size])
        off = (content_off + size + 3) & ~3


def test_cpio_holds_what_was_added_and_the_parents() -> None:
    assert parse_newc(sample_cpio()) == {
        "bin": (0o040755, b""),
        "bin/tool": (0o100755, b"12345"),
        "bin/alias": (0o120777, b"tool"),
        "empty": (0o100755, b""),
    }


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_program_reads_the_archive() -> None:
    listing = subprocess.run(["cpio", "-t"], input=sample_cpio(), capture_output=True, check=True)
    assert listing.stdout.split() == [b"bin", b"bin/tool", b"bin/alias", b"empty"]


def test_alias_leads_through_the_metapackage_to_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {
        ("linux-image-cloud-amd64", "Depends"): "linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)"
    }
    monkeypatch.setattr(kernels, "_apt_field", lambda package, field: fields[package, field])
    assert kernels.resolve("6.1-cloud") == KERNEL


def test_exact_package_name_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_apt_field", lambda *_: "6.1.1-1")
    kernel = kernels.resolve("linux-image-6.1.0-1-amd64-unsigned")
    assert (kernel.package, kernel.release) == (
        "linux-image-6.1.0-1-amd64-unsigned",
        "6.1.0-1-amd64",
    )


def test_unknown_kernel_is_an_error_that_lists_the_aliases() -> None:
    with pytest.raises(LabError, match=r"6\.12-cloud"):
        kernels.resolve("5.0")


def test_modules_load_after_what_they_depend_on() -> None:
    depends = {"a": ["b", "c"], "b": ["c"], "c": []}
    assert kernels.load_order(["a", "built_in"], depends) == ["c", "b", "a"]


def test_module_depends_are_read_from_modinfo() -> None:
    assert kernels.module_depends(b"x\0license=GPL\0depends=virtio-ring,virtio\0") == [
        "virtio_ring",
        "virtio",
    ]
    assert kernels.module_depends(b"x\0depends=\0intree=Y\0") == []


def test_cache_key_follows_guest_kernel_and_workload(tmp_path: Path) -> None:
    sources = tmp_path / "lab"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("__pycache__"))
    guest = Guest(kernel="6.1-cloud")
    key = cache_key(guest, KERNEL, sources)
    assert key == cache_key(guest, KERNEL, SOURCES)
    assert key == cache_key(replace(guest, kernel=KERNEL.package), KERNEL, sources)
    assert key != cache_key(replace(guest, memory="512M"), KERNEL, sources)
    assert key != cache_key(guest, replace(KERNEL, version="6.1.193-1"), sources)
    with (sources / "workload" / "kinds.c").open("a") as file:
        file.write("\n")
    assert key != cache_key(guest, KERNEL, sources)


def test_guest_refuses_what_cannot_work() -> None:
    with pytest.raises(LabError, match="at least 384M"):
        Guest(kernel="6.1", memory="256M")
    with pytest.raises(LabError, match="a number and M or G"):
        Guest(kernel="6.1", memory="lots")
    with pytest.raises(LabError, match="small, full or none"):
        Guest(kernel="6.1", workload="huge")


def test_missing_program_names_its_package() -> None:
    with pytest.raises(LabError, match="apt-get install qemu-system-x86"):
        require_program("qemu-system-of-no-machine", "qemu-system-x86")


def test_five_level_paging_follows_the_cpu() -> None:
    models = {"max": True, "max,-la57": False, "qemu64": False}
    assert {cpu: Guest("6.1", cpu=cpu).five_level for cpu in models} == models


@pytest.mark.parametrize(
    ("shown", "comm"),
    [
        ("kworker/0:1-events", "kworker/0:1"),
        ("kworker/u4:2+flush-254:0", "kworker/u4:2"),
        ("kworker/1:0H-kblockd", "kworker/1:0H"),
        ("kworker/R-kvfree_rcu_reclaim", "kworker/R-kvfre"),
        ("lab-panic", "lab-panic"),
    ],
)
def test_task_comm_drops_what_proc_adds(shown: str, comm: str) -> None:
    assert truth.task_comm(shown) == comm


def write_record_disk(path: Path, *records: tuple[str, bytes]) -> None:
    with path.open("wb") as file:
        for name, data in records:
            file.write(f"PYDUMPFILE-LAB {name} {len(data)}\n".encode().ljust(4096, b"\0"))
            file.write(data + b"\0" * (-len(data) % 4096))
        file.truncate(file.tell() + 65536)


def test_records_are_read_up_to_the_end_record(tmp_path: Path) -> None:
    disk = tmp_path / "records"
    write_record_disk(disk, ("a", b"x" * 5000), ("b", b""), ("end", b""))
    assert truth.read_records(disk) == {"a": b"x" * 5000, "b": b"", "end": b""}


def test_record_disk_without_an_end_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "records"
    write_record_disk(disk, ("a", b"x"))
    with pytest.raises(LabError, match="the records end after"):
        truth.read_records(disk)


def test_pfns_are_read_through_the_program_headers(tmp_path: Path) -> None:
    pages = os.urandom(3 * 4096)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 7, 4096, 0xFFFF888000010000, 0x10000, *(3 * 4096,) * 2, 0)
    vmcore = tmp_path / "vmcore"
    vmcore.write_bytes((header + load).ljust(4096, b"\0") + pages)
    assert truth.read_pfns(vmcore, [(0x12, 0x13), (0x10, 0x11)]) == pages[8192:] + pages[:4096]
    with pytest.raises(LabError, match="no PT_LOAD"):
        truth.read_pfns(vmcore, [(0x12, 0x14)])


def test_differing_runs_are_half_open_and_merged() -> None:
    before = struct.pack("<6Q", 0, 1, 2, 3, 4, 5)
    after = struct.pack("<6Q", 0, 9, 9, 3, 4, 9)
    assert truth.differing_runs(before, after) == [(1, 3), (5, 6)]
