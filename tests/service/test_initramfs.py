# SPDX-License-Identifier: GPL-2.0-or-later
"""`pydumpfile initramfs`: it works inside, or nothing is left."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from pydumpfile.cli.initramfs import main
from pydumpfile.errors import OutputError, UnsupportedError, UsageError
from pydumpfile.service import initramfs, initrd
from pydumpfile.service.rehearsal import RehearsalError
from pydumpfile.service.trace import trace
from tests.conftest import Command
from tests.service.conftest import CODECS, Traced

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot takes root")


@pytest.fixture(autouse=True)
def _traced_once(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    def traced_before(codecs: Iterable[str], compares: bool) -> Traced:
        assert tuple(codecs) == CODECS
        assert not compares
        return traced

    monkeypatch.setattr(initramfs, "trace", traced_before)


def _files(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if not p.is_dir()}


@needs_root
def test_a_tree(tmp_path: Path) -> None:
    report = initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=False)
    assert report.isolated
    assert report.n_files == len(_files(tmp_path))
    assert report.unpacked == sum((tmp_path / name).stat().st_size for name in _files(tmp_path))
    assert report.gzipped < report.unpacked
    assert not (tmp_path / "usr/lib/pydumpfile/rehearsal").exists()


@needs_root
def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=True)
    before = {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)}
    (tmp_path / "usr/lib/pydumpfile/stale").touch()
    initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=True)
    assert {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)} == before


@needs_root
def test_with_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs, "trace", trace)
    initramfs.add_to_tree(str(tmp_path), ("none",), as_makedumpfile=False, compares=True)
    (archive,) = tmp_path.rglob("python3*.zip")
    modules = zipfile.ZipFile(archive).namelist() + sorted(_files(tmp_path))
    assert any(name.endswith("pydumpfile/comparison/compare.pyc") for name in modules)


def test_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initramfs.os, "geteuid", lambda: 1000)
    report = initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=False)
    assert not report.isolated


@needs_root
def test_the_launcher(tmp_path: Path) -> None:
    """By the shell of this system, put at the place that the script names."""
    initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=True)
    script = (tmp_path / "usr/bin/makedumpfile").read_text()
    assert script == (tmp_path / "usr/bin/pydumpfile").read_text()
    here = script.replace("/usr/lib/pydumpfile", f"{tmp_path}/usr/lib/pydumpfile")
    (tmp_path / "makedumpfile").write_text(here)
    done = subprocess.run(
        ["sh", str(tmp_path / "makedumpfile"), "-d", "99", "a b", "c"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "makedumpfile Failed." in done.stdout + done.stderr
    done = subprocess.run(["sh", str(tmp_path / "makedumpfile"), "-v"], check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0
    assert "snappy" in done.stdout


def test_a_rehearsal_that_fails_leaves_nothing(
    traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tuple(m for m in traced.path.modules if m.name != "pydumpfile.packing.native")
    broken = Traced(traced.path._replace(modules=modules), traced.digests)
    monkeypatch.setattr(initramfs, "trace", lambda *_: broken)
    with pytest.raises(RehearsalError, match=rf"in {tmp_path}: .*packing.native"):
        initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=True)
    assert _files(tmp_path) == set()


def test_other_dumps_than_outside_are_refused(
    traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Traced(traced.path, {**traced.digests, "zlib": "0" * 64})
    monkeypatch.setattr(initramfs, "trace", lambda *_: other)
    with pytest.raises(RehearsalError, match="not those made outside"):
        initramfs.write_cpio(str(tmp_path / "out.cpio"), CODECS, as_makedumpfile=False)
    assert _files(tmp_path) == set()


def test_a_tree_for_another_machine(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = bytearray(Path(os.path.realpath(sys.executable)).read_bytes()[:4096])
    program[18:20] = (183).to_bytes(2, "little")
    (tmp_path / "bin/busybox").write_bytes(program)
    with pytest.raises(UnsupportedError, match="/bin/busybox is for aarch64"):
        initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=False)


def test_this_machine_is_not_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.uname_result(("Linux", "n", "r", "v", "s390x"))
    monkeypatch.setattr(initramfs.os, "uname", lambda: there)
    with pytest.raises(UnsupportedError, match="s390x"):
        initramfs.write_cpio(str(tmp_path / "x"), CODECS, as_makedumpfile=False)


def test_no_such_tree(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        initramfs.add_to_tree(str(tmp_path / "none"), CODECS, as_makedumpfile=False)


def test_a_tree_that_is_this_system(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is this system's root"):
        initramfs.add_to_tree("/", CODECS, as_makedumpfile=True)
    (tmp_path / "usr").symlink_to("/usr")
    with pytest.raises(UsageError, match="would be outside"):
        initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=True)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "usr").write_text("no folder")
    with pytest.raises(OutputError, match="writing the initramfs"):
        initramfs.add_to_tree(str(tmp_path), CODECS, as_makedumpfile=False)


def test_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "out.cpio"
    report = initramfs.write_cpio(str(path), CODECS, as_makedumpfile=True)
    assert report.written == path.stat().st_size
    names, unpacked, obstacle = initrd.look_into(str(path))
    assert not obstacle
    assert 0 <= report.written - unpacked < 512, "but for the padding"
    assert {"usr/bin/pydumpfile", "usr/bin/makedumpfile", "usr/lib/pydumpfile/bin/python3"} <= names
    assert not [name for name in names if "rehearsal" in name]
    again = tmp_path / "again.cpio.gz"
    initramfs.write_cpio(str(again), CODECS, as_makedumpfile=True, compression="gzip")
    assert gzip.decompress(again.read_bytes()) == path.read_bytes()
    assert _files(tmp_path) == {"out.cpio", "again.cpio.gz"}


def test_an_archive_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="writing the archive"):
        initramfs.write_cpio(str(tmp_path / "none/out"), CODECS, as_makedumpfile=False)


def test_an_archive_in_the_place_of_a_device(tmp_path: Path) -> None:
    """/dev/null, by somebody who only wants to see the sizes."""
    path = tmp_path / "null"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="null is there, and no file"):
        initramfs.write_cpio(str(path), CODECS, as_makedumpfile=False)
    assert path.is_fifo()


@pytest.mark.skipif(
    not os.path.realpath(sys.executable).startswith("/usr/bin/"),
    reason="not the distribution's Python, which is stripped",
)
def test_it_fits_the_memory_of_a_crash_kernel(tmp_path: Path) -> None:
    report = initramfs.write_cpio(str(tmp_path / "out.cpio"), CODECS, as_makedumpfile=False)
    assert report.unpacked <= 16_000_000
    assert report.gzipped <= 6_000_000


def test_codecs_are_chosen_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'brotli' is not one of"):
        initramfs.choose_codecs(["zlib", "brotli"])
    assert initramfs.choose_codecs(["zlib", "zlib"]) == ("zlib",)
    lacking = {"none": "", "zlib": "", "lzo": "no lzo", "snappy": "", "zstd": ""}
    monkeypatch.setattr(initramfs.codecs, "available", lambda: lacking)
    assert initramfs.choose_codecs(None) == ("zlib", "zstd")
    monkeypatch.setattr(initramfs.codecs, "available", lambda: dict.fromkeys(lacking, "gone"))
    assert initramfs.choose_codecs(None) == ("none",)
    with pytest.raises(UsageError, match="no codec is named"):
        initramfs.choose_codecs([])


def test_the_command_says_what_it_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cpio", str(tmp_path / "out"), "--codec", "zlib"]) == 0
    said = capsys.readouterr().out
    assert f"added to {tmp_path}/out" in said
    assert "codecs: zlib" in said
    assert "rehearsed in there" in said


def test_the_command_says_why_not(command: Command, tmp_path: Path) -> None:
    done = command("initramfs", "--tree", tmp_path / "none")
    assert done.returncode == 1
    assert done.stderr == f"pydumpfile: {tmp_path}/none is not a folder\n"
    assert command("initramfs").returncode == 2
