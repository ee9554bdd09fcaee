# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page and the completions: as the table of options is now, and fit to be used."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.manual import generated
from docs.manual.words import OFFERED
from pydumpfile import errors
from pydumpfile.cli.options import OPTIONS
from tests.oracle import witness

MANUAL = Path(__file__).resolve().parent.parent / "docs" / "manual"
PAGE = MANUAL / "pydumpfile.8"
COMPLETIONS = MANUAL / "completions"


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_is_current(path: Path) -> None:
    assert path.read_text("utf-8") == generated()[path], "run `make manual`"


def test_the_page_has_every_option() -> None:
    page = PAGE.read_text("utf-8").replace("\\-", "-")
    for option in OPTIONS:
        for flag in option.flags.split():
            assert re.search(rf"(\\fB|^\.BR? ){flag}\b", page, re.M), flag
    assert "@" not in page


def test_the_page_has_every_exit_status() -> None:
    section = PAGE.read_text("utf-8").partition(".SH EXIT STATUS\n")[2].partition(".SH ")[0]
    told = [int(code) for code in re.findall(r"^\.TP\n\.B (\d+)$", section, re.M)]
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    codes = {kind.exit_code for kind in kinds if issubclass(kind, errors.PydumpfileError)}
    assert told == sorted({0, *codes})


@pytest.mark.lab
@pytest.mark.parametrize(
    "command", [("mandoc", "-T", "lint", "-W", "warning"), ("groff", "-man", "-ww", "-z")], ids=str
)
def test_the_page_is_right_to(command: tuple[str, ...]) -> None:
    program, *arguments = command
    found = subprocess.run(
        [witness.program(program), *arguments, str(PAGE)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def complete_in_bash(directory: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words, as readline splits them."""
    script = (
        "compopt() { :; }\n"  # only there while readline completes
        f". '{COMPLETIONS / 'pydumpfile'}'\n"
        'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))\n'
        "_pydumpfile\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    run = subprocess.run(
        ["bash", "-uc", script, "bash", "pydumpfile", *words],
        cwd=directory, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert run.stderr == ""
    return run.stdout.split("\n")[:-1] if run.stdout != "\n" else []


@pytest.mark.parametrize(
    ("words", "offered"),
    [(("--comp",), ["--compress", "--compress-level"]),
     (("-c", "--num"), ["--num-threads"]),
     (("--compress", "z"), ["zlib", "zstd"]),
     (("--compress", "=", "l"), ["lzo"]),
     (("--compress", "="), ["none", "zlib", "lzo", "snappy", "zstd", "auto"]),
     (("-d", ""), ["31", "1"]),
     (("--num-threads", ""), []),
     (("-x", "vm"), ["vm linux", "vmcore"]),
     (("vm",), ["vm linux", "vmcore"]),
     (("-z", "vmc"), ["vmcore"]),
     (("d",), ["doctor", "dump"]),
     (("doctor", "--j"), ["--json"]),
     (("initramfs", "--t"), ["--tree"]),
     (("-c", "d"), ["dump"])],
)  # fmt: skip
def test_bash_offers(tmp_path: Path, words: tuple[str, ...], offered: list[str]) -> None:
    for name in ("vmcore", "vm linux", "dump"):
        (tmp_path / name).touch()
    assert sorted(complete_in_bash(tmp_path, *words)) == sorted(offered)


def test_bash_offers_every_option(tmp_path: Path) -> None:
    flags = {flag for option in OFFERED for flag in option.flags.split()}
    assert set(complete_in_bash(tmp_path, "core", "-")) == flags


@pytest.mark.lab
def test_zsh_reads_its_completion() -> None:
    """With every option in it, each described once."""
    script = (
        "_arguments() { print -rl -- $@ }\n"
        f"words=(pydumpfile core -)\n. '{COMPLETIONS / '_pydumpfile'}'\n"
    )
    run = subprocess.run(
        [witness.program("zsh"), "-fc", script],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    specs = run.stdout.splitlines()
    assert run.stderr == ""
    assert len([spec for spec in specs if "[" in spec]) == sum(
        len(option.flags.split()) for option in OFFERED
    )
    assert "--num-threads=[threads that read and compress]:N:" in specs


@pytest.mark.lab
@pytest.mark.parametrize(
    ("line", "offered"),
    [("pydumpfile --compress-l", ["--compress-level"]),
     ("pydumpfile --compress=z", ["--compress=zlib", "--compress=zstd"]),
     ("pydumpfile doc", ["doctor"]), ("pydumpfile doctor --j", ["--json"])],
)  # fmt: skip
def test_fish_offers(tmp_path: Path, line: str, offered: list[str]) -> None:
    script = f"source '{COMPLETIONS / 'pydumpfile.fish'}'; complete -C '{line}'"
    run = subprocess.run(
        [witness.program("fish"), "--no-config", "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert [found.partition("\t")[0] for found in run.stdout.splitlines()] == offered
