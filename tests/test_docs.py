# SPDX-License-Identifier: GPL-2.0-or-later
"""README.md and the user guide promise nothing that does not work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pydumpfile import errors
from pydumpfile.errors import PydumpfileError
from pydumpfile.filter.level import Level
from tests.builders import BuiltCore
from tests.conftest import Command

PROJECT = Path(__file__).resolve().parent.parent
README = PROJECT / "README.md"
USER_GUIDE = PROJECT / "docs" / "user-guide.md"
# Where the documents have the input and the dump; the tests put their own there.
INPUT, OUTPUT = "/proc/vmcore", "/var/crash/dump"


def blocks(language: str) -> list[tuple[str, str]]:
    """(where, text) of each fenced block in `language`."""
    found = []
    for path in (README, USER_GUIDE):
        text = path.read_text("utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start()) + 2
            found.append((f"{path.name}:{line}", match[1]))
    return found


def rows(path: Path, head: str) -> list[list[str]]:
    """The cells of the table whose first line is `head`, less its head."""
    _, found, rest = path.read_text("utf-8").partition(f"{head}\n")
    assert found, f"{path.name} has no table {head}"
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


PYTHON = blocks("python")
COMMANDS = [
    (where, line)
    for where, text in blocks("sh")
    for line in text.splitlines()
    if line.startswith("pydumpfile ")
]


def test_there_are_examples() -> None:
    assert len(PYTHON) >= 5
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize("source", [text for _, text in PYTHON], ids=[at for at, _ in PYTHON])
def test_python_example_runs_and_writes_a_dump(
    source: str, small: BuiltCore, tmp_path: Path
) -> None:
    dump = tmp_path / "dump"
    source = source.replace(INPUT, str(small.path)).replace(OUTPUT, str(dump))
    exec(compile(source, "example", "exec"), {"__name__": "example"})
    assert dump.read_bytes()[:8] == b"KDUMP   "


@pytest.mark.parametrize("line", [text for _, text in COMMANDS], ids=[text for _, text in COMMANDS])
def test_command_runs_and_writes_a_dump(
    line: str, small: BuiltCore, tmp_path: Path, command: Command
) -> None:
    dump = tmp_path / "dump"
    places = {INPUT: str(small.path), OUTPUT: str(dump)}
    run = command(*(places.get(word, word) for word in shlex.split(line)[1:]))
    assert run.returncode == 0, run.stderr
    assert dump.read_bytes()[:8] == b"KDUMP   "


def test_exit_codes_are_those_of_the_errors() -> None:
    documented = {
        cells[1].strip("`"): int(cells[0])
        for cells in rows(USER_GUIDE, "| code | error | meaning |")
    }
    existing = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, PydumpfileError)
        and kind is not PydumpfileError
    }
    assert documented == existing


def test_every_level_bit_is_explained() -> None:
    documented = [
        int(cells[0]) for cells in rows(USER_GUIDE, "| level | leaves out | makes you lose |")
    ]
    assert documented == sorted(level.value for level in Level)


def test_options_are_those_of_the_command(command: Command) -> None:
    pattern = r"(?<![\w-])--?[a-z][a-z-]*"
    table = " ".join(cells[0] for cells in rows(USER_GUIDE, "| option | meaning |"))
    text = command("--help").stdout
    options = text[text.index("\noptions:") : text.index("dump levels")]
    assert set(re.findall(pattern, table)) == {
        found
        for line in options.splitlines()
        for found in re.findall(pattern, line[:26])
        if line.startswith("  -")
    }


@pytest.mark.parametrize("path", [README, USER_GUIDE], ids=lambda path: path.name)
def test_linked_files_exist(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    wanted = set(re.findall(r"\bmake ([a-z-]+)(?= +[#K]|`)", README.read_text("utf-8")))
    assert {"demo", "test", "quick"} <= wanted <= targets
