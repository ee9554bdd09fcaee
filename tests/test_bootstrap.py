# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bootstrap finds missing, and what it tells a user who may not install it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests import bootstrap
from tests.bootstrap import BootstrapError

PACKAGES = bootstrap.lab_packages()


@pytest.fixture
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which a test puts the programs it wants."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def add_program(directory: Path, name: str, script: str = "exit 0") -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def add_apt(directory: Path, installed: list[str], listed: list[str]) -> None:
    """apt-get, which must not run, and the programs that answer what is there and what could be."""
    states = "\n".join(f"echo 'installed {package}'" for package in installed)
    shown = "\n".join(f"echo 'Package: {package}'" for package in listed)
    add_program(directory, "apt-get", "echo apt-get ran; exit 99")
    add_program(directory, "dpkg-query", f"echo 'not-installed x'\n{states}")
    add_program(directory, "apt-cache", shown or "exit 100")


def test_list_of_packages_has_no_comments(tmp_path: Path) -> None:
    listing = tmp_path / "packages.txt"
    listing.write_text("# why\nqemu-system-x86\n\ngcc  # compiler\n", "utf-8")
    other = tmp_path / "other.txt"
    other.write_text("flex\ngcc\n", "utf-8")
    assert bootstrap.lab_packages([listing, other]) == ["qemu-system-x86", "gcc", "flex"]


def test_without_rights_it_says_what_root_must_run(
    no_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in ("gcc", "make"):
        add_program(no_programs, name)
    installed = [package for package in PACKAGES if package not in ("crash", "kexec-tools")]
    add_apt(no_programs, installed, listed=[])
    add_program(no_programs, "sudo", "exit 1")
    with pytest.raises(BootstrapError) as caught:
        bootstrap.install_packages(lab=True)
    assert "\n    apt-get update && apt-get install kexec-tools crash\n" in str(caught.value)


def test_without_rights_and_lists_kernels_cannot_be_found(
    no_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for name in ("gcc", "make"):
        add_program(no_programs, name)
    add_apt(no_programs, PACKAGES, listed=[])
    with pytest.raises(BootstrapError, match=r"no package lists(.|\n)*\n    apt-get update\n"):
        bootstrap.install_packages(lab=True)
    bootstrap.install_packages(lab=False)


def test_nothing_is_run_where_all_is_there(
    no_programs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bootstrap, "APT_WORKPLACE", tmp_path)
    for name in ("gcc", "make"):
        add_program(no_programs, name)
    add_apt(no_programs, PACKAGES, listed=[bootstrap.KERNEL_PACKAGE])
    bootstrap.install_packages(lab=True)
    assert capfd.readouterr() == ("", "")


def test_missing_packages_are_installed_once_more_with_new_lists(
    no_programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The first attempt fails, as it does when the lists name files the mirrors dropped."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap, "APT_WORKPLACE", tmp_path)
    for name in ("gcc", "make"):
        add_program(no_programs, name)
    (no_programs / "env").symlink_to("/usr/bin/env")
    installed = [package for package in PACKAGES if package != "crash"]
    add_apt(no_programs, installed, listed=[bootstrap.KERNEL_PACKAGE, "crash"])
    log = tmp_path / "log"
    add_program(
        no_programs,
        "apt-get",
        f'echo "$*" >>{log}; case "$*" in *install*) [ -e {tmp_path}/new ];;'
        f" *update*) : >{tmp_path}/new;; esac",
    )
    bootstrap.install_packages(lab=True)
    runs = ["install" if "install" in line else line for line in log.read_text().splitlines()]
    assert runs == ["install", "-q update", "install"]
    assert capfd.readouterr().out.splitlines() == [
        "bootstrap: apt-get install crash",
        "bootstrap: apt-get update (package lists are missing or old)",
    ]


def test_not_on_debian(no_programs: Path) -> None:
    add_program(no_programs, "gcc")
    with pytest.raises(BootstrapError, match=r"no apt-get here.*: make"):
        bootstrap.install_packages(lab=False)


def test_interpreter_that_debian_cannot_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    with pytest.raises(BootstrapError, match=r"lacks its headers \(Python.h\)"):
        bootstrap.missing_build_packages()
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert "python3-dev" in bootstrap.missing_build_packages()


@pytest.mark.usefixtures("no_programs")
def test_failure_is_one_message_and_exit_status_1(capfd: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["--no-lab"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("bootstrap: this needs Debian")


def test_what_is_compiled_decides_whether_to_install_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "PROJECT", tmp_path)
    monkeypatch.delenv("CFLAGS", raising=False)
    (tmp_path / "csrc").mkdir()
    source = tmp_path / "csrc" / "zero.c"
    source.write_text("int a;", "ascii")
    hashes = [bootstrap.ingredients_hash(), bootstrap.ingredients_hash()]
    source.write_text("int b;", "ascii")
    hashes.append(bootstrap.ingredients_hash())
    monkeypatch.setenv("CFLAGS", "-Werror")
    hashes.append(bootstrap.ingredients_hash())
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_needs_nothing_but_the_standard_library() -> None:
    run = subprocess.run(
        [sys.executable, "-I", "-S", bootstrap.__file__, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
