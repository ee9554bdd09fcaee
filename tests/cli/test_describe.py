# SPDX-License-Identifier: GPL-2.0-or-later
"""-x, -i and -g by their command lines: what is written, said, and returned."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pydumpfile import cli
from tests.builders import BuiltCore
from tests.builders.layouts import layout_named
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import LocklessRing
from tests.conftest import SMALL, CoreMaker, copy_sparse
from tests.kernel.vmlinux_maker import make_vmlinux
from tests.sinks.kdump_reader import Dump

MOVED = replace(SMALL, kaslr_offset=0x1C600000)


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vmlinux(tmp_path_factory.mktemp("vmlinux"), layout_named("6.12"))


def run(*arguments: object, program: str = "pydumpfile") -> int:
    return cli.main([str(argument) for argument in arguments], program)


def test_from_vmlinux_to_file_to_dump(
    core_of: CoreMaker, vmlinux: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    built, silent = core_of(MOVED), core_of(replace(MOVED, note=False))
    file = tmp_path / "vmcoreinfo"
    assert run("-g", file, "-x", vmlinux) == 0
    assert f"The vmcoreinfo is saved to {file}." in capfd.readouterr().out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = file.read_text("ascii").splitlines()
    assert "OSRELEASE=6.12.0" in lines and "SIZE(page)=64" in lines
    assert run("-d", 31, silent.path, tmp_path / "unknown") == 6
    assert "give its vmlinux with -x, or -i" in capfd.readouterr().err
    for option, given in (("-x", vmlinux), ("-i", file)):
        output = tmp_path / f"dump{option}"
        assert run("-d", 31, option, given, silent.path, output) == 0
        dump = Dump(output)
        assert dump.bitmap2.startswith(built.verdict(31))
        assert not dump.vmcoreinfo  # the core has none, and none is invented


def test_a_contradiction_is_told(
    core_of: CoreMaker, vmlinux: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "vmcoreinfo"
    assert run("-g", file, "-x", vmlinux) == 0
    text = file.read_text("ascii")
    file.write_text(text.replace("OFFSET(page.lru)=8", "OFFSET(page.lru)=16"), "ascii")
    built = core_of(MOVED)
    for level in (7, 0):  # nobody may miss it
        arguments = ("-f", "--message-level", level, "-d", 31, "-i", file, built.path)
        assert run(*arguments, tmp_path / "dump") == 0
        assert (
            f"warning: OFFSET(page.lru) is 8 in VMCOREINFO of {built.path}, but 16 in {file}"
        ) in capfd.readouterr().err


def test_another_kernel_is_exit_status_2(
    core_of: CoreMaker, vmlinux: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    core, output = core_of(replace(MOVED, layout="6.1")).path, tmp_path / "dump"
    file = tmp_path / "vmcoreinfo"
    assert run("-g", file, "-x", vmlinux) == 0
    for option, given in (("-x", vmlinux), ("-i", file)):
        assert run("-d", 31, option, given, core, output) == 2
        assert "the release is 6.12.0 there, but 6.1.0 in the core" in capfd.readouterr().err
        assert run("-d", 31, option, given, core, output, program="makedumpfile") == 2
        assert "makedumpfile Failed." in capfd.readouterr().out
        assert not output.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("-g", "out"),
        ("-g", "out", "-x", "vmlinux", "operand"),
        ("-g", "out", "-x", "vmlinux", "-d", "31"),
        ("-g", "out", "-x", "vmlinux", "-c"),
        ("-g", "out", "-x", "vmlinux", "-F"),
        ("-g", "out", "-x", "vmlinux", "--dry-run"),
        ("-g", "out", "-x", "vmlinux", "-i", "in"),
        ("-x", "vmlinux", "-i", "in", "core", "dump"),
        ("-R", "-x", "vmlinux", "dump"),
        ("-R", "-i", "in", "dump"),
        ("--reassemble", "-x", "vmlinux", "part1", "part2", "dump"),
        ("--reassemble", "-i", "in", "part1", "part2", "dump"),
    ],
)
def test_what_does_not_go_together(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 1
    assert run(*arguments, program="makedumpfile") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(
    vmlinux: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("-g", tmp_path / "none" / "vmcoreinfo", "-x", vmlinux) == 10
    assert "writing the vmcoreinfo file: No such file" in capfd.readouterr().err


def test_a_pipe_that_nobody_reads(
    vmlinux: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Is not waited for; one that is read takes the text."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert run("-g", pipe, "-x", vmlinux) == 10
    assert "nobody is there to read it" in capfd.readouterr().err
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run("-g", pipe, "-x", vmlinux) == 0
        assert os.read(reading, 1 << 16).startswith(b"OSRELEASE=6.12.0\n")
    finally:
        os.close(reading)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_directory_is_no_file(
    vmlinux: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("-g", tmp_path, "-x", vmlinux) == 1
    assert f"{tmp_path} is a directory; name a file" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def another_name(file: Path, name: Path, way: str) -> Path:
    """``file`` by that name, where it has to be another."""
    if way == "hard link":
        os.link(file, name)
    elif way == "symlink":
        name.symlink_to(file)
    else:
        return file
    return name


@pytest.mark.parametrize("way", ["same", "hard link", "symlink"])
def test_never_over_the_vmlinux(
    vmlinux: Path, tmp_path: Path, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "vmlinux"
    shutil.copy(vmlinux, source)
    file = another_name(source, tmp_path / "vmcoreinfo", way)
    assert run("-g", file, "-x", source) == 1
    assert "is the input itself" in capfd.readouterr().err
    assert source.read_bytes() == vmlinux.read_bytes()


@pytest.mark.parametrize("way", ["same", "hard link", "symlink"])
@pytest.mark.parametrize("option", ["-x", "-i"])
@pytest.mark.parametrize("job", ["-d31", "-E", "--split", "--dump-dmesg", "-F", "-F --dump-dmesg"])
def test_no_output_goes_over_what_describes_the_kernel(
    core_of: CoreMaker, vmlinux: Path, tmp_path: Path, option: str, job: str, way: str,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    given, core = tmp_path / "given", tmp_path / "core"
    assert run("-g", given, "-x", vmlinux) == 0
    if option == "-x":
        shutil.copy(vmlinux, given)
    before = given.read_bytes()
    if "dmesg" in job:
        build_log_core(core, LocklessRing().image(PLACE), release="6.12.0")
    else:
        core = core_of(MOVED).path
    target = another_name(given, tmp_path / "another", way)
    outputs = [tmp_path / "first", target] if job == "--split" else [target]
    if "-F" in job:
        outputs = []
        with target.open("ab") as file:
            monkeypatch.setattr(sys, "stdout", file)
            status = run("-f", *job.split(), option, given, core)
    else:
        status = run("-f", *job.split(), option, given, core, *outputs)
    assert status == 1
    assert "is the input itself" in capfd.readouterr().err
    assert given.read_bytes() == before
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("way", ["same", "hard link", "symlink"])
@pytest.mark.parametrize("job", ["-d31", "-E", "--split", "--dump-dmesg"])
def test_no_output_goes_over_the_core(
    small: BuiltCore, tmp_path: Path, job: str, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    core = tmp_path / "core"
    if "dmesg" in job:
        build_log_core(core, LocklessRing().image(PLACE))
    else:
        copy_sparse(small.path, core)
    before = core.read_bytes()
    target = another_name(core, tmp_path / "another", way)
    first = [tmp_path / "first"] if job == "--split" else []
    assert run("-f", job, core, *first, target) == 1
    assert "is the input itself" in capfd.readouterr().err
    assert core.read_bytes() == before
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("through_link", [False, True])
def test_what_is_there_is_replaced_as_a_whole(
    vmlinux: Path, tmp_path: Path, through_link: bool, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Or, where there is no space, not at all."""
    file = name = tmp_path / "vmcoreinfo"
    file.write_bytes(b"OSRELEASE=old\n" * 10_000)
    if through_link:
        name = tmp_path / "link"
        name.symlink_to(file)
    before, names = file.read_bytes(), sorted(os.listdir(tmp_path))

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, f"descriptor {fd}: full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert run("-g", name, "-x", vmlinux) == 10
    assert "No space left" in capfd.readouterr().err
    assert (file.read_bytes(), sorted(os.listdir(tmp_path))) == (before, names)
    assert run("-g", name, "-x", vmlinux) == 0
    assert "OSRELEASE=6.12.0" in file.read_text("ascii")
    assert "OSRELEASE=old" not in file.read_text("ascii")
    assert sorted(os.listdir(tmp_path)) == names and name.is_symlink() == through_link


def test_help_has_them(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capfd.readouterr().out
    assert all(f"  {option} " in text for option in ("-x VMLINUX", "-i FILE", "-g FILE"))
