# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole comparison, of a synthetic core: nothing here depends on how long anything takes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pydumpfile.comparison.compare import Request, compare
from pydumpfile.comparison.result import DUMPING, JUDGING, READING, STEPS, Comparison
from pydumpfile.errors import PydumpfileError
from tests.builders import BuiltCore
from tests.conftest import Command

USER_GUIDE = Path(__file__).resolve().parents[2] / "docs" / "user-guide.md"


def requested(path: Path, *, dumps: bool = True, level: int = 31) -> Request:
    own = (sys.executable, "-m", "pydumpfile") if dumps else ()
    return Request(str(path), level, 2, own, "no-such-makedumpfile")


@pytest.fixture(scope="module")
def comparison(small: BuiltCore) -> Comparison:
    return compare(requested(small.path))


def test_each_way_was_measured_or_says_why_not(comparison: Comparison) -> None:
    assert {one.step for one in comparison.found} == set(STEPS)
    for one in comparison.found:
        assert bool(one.missing) != bool(one.ns), one
        assert len(one.ns) in (0, 2)
        assert all(ns > 0 for ns in one.ns)
    missing = {one.way for one in comparison.found if one.missing}
    assert missing == {
        "kernel, in place", "kernel, by copying", "judged in kernel, read",
        "judged in kernel, mmap", "judged in kernel by copying, mmap",
        "makedumpfile, read", "makedumpfile, mmap",
    }  # fmt: skip


def test_bitmaps_are_made_by_judging_and_dumping_and_the_same(comparison: Comparison) -> None:
    made = [one for one in comparison.found if one.bitmap]
    assert len({one.bitmap for one in made}) == 1
    assert comparison.succeeded
    assert [one.step for one in made].count(JUDGING) == 6
    assert [one.step for one in made].count(DUMPING) == 2
    assert not any(one.bitmap for one in comparison.found if one.step == READING)


def test_the_user_guide_names_each_way(comparison: Comparison) -> None:
    """In the row of its step, which may count on those above."""
    _, _, table = USER_GUIDE.read_text("utf-8").partition("\n| step | ways |\n")
    lines = table.partition("\n\n")[0].splitlines()[1:]
    assert len(lines) == len(STEPS)
    for i, step in enumerate(STEPS):
        assert step in lines[i]
        named = set(re.findall(r"\w+", " ".join(lines[: i + 1])))
        ways = {one.way for one in comparison.found if one.step == step}
        assert [way for way in ways if not set(re.findall(r"\w+", way)) <= named] == []


def test_it_knows_the_machine(comparison: Comparison, small: BuiltCore) -> None:
    kept = sum(bin(byte).count("1") for byte in small.verdict(31))
    assert comparison.kept == kept
    assert comparison.pages == sum(bin(byte).count("1") for byte in small.exists)
    assert comparison.mem_map_size > 0
    assert comparison.direct_mapping is None


def test_progress_tells_of_each_turn(small: BuiltCore) -> None:
    told: list[str] = []
    compare(requested(small.path, dumps=False), told.append)
    assert told.count("reading mem_map: read 4K") == 2
    assert told.count("judging all pages: user space, mmap") == 3


def test_no_vmcore(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(b"no core")
    with pytest.raises(PydumpfileError):
        compare(requested(tmp_path / "core"))


def test_the_command(small: BuiltCore, tmp_path: Path, command: Command) -> None:
    json = tmp_path / "json"
    arguments = ("--rounds", 1, "--json", json, "--makedumpfile", "nobody", small.path)
    run = command("compare", *arguments)
    assert run.returncode == 0, run.stderr
    comparison = Comparison.from_json(json.read_text("utf-8"))
    assert comparison.succeeded
    assert "judging all pages: user space, mmap" in run.stderr
    assert "All ways of judging give the same bitmap." in run.stdout
    assert "not here: there is no nobody" in run.stdout
    assert "judged in user space, mmap" in run.stdout


def test_the_command_prints_json_alone(small: BuiltCore, command: Command) -> None:
    arguments = ("--rounds", 1, "--json", "-", "--quiet", "--no-dumps", "--level", 16)
    run = command("compare", *arguments, small.path)
    assert run.returncode == 0
    assert run.stderr == ""
    comparison = Comparison.from_json(run.stdout)
    assert comparison.level == 16
    assert not any(one.step == DUMPING for one in comparison.found)


@pytest.mark.parametrize("arguments", [("--rounds", "0"), ("--level", "32"), ("a", "b")])
def test_the_command_refuses(arguments: tuple[str, ...], command: Command) -> None:
    run = command("compare", *arguments)
    assert run.returncode == 2
    assert "usage: pydumpfile compare" in run.stderr


def test_errors_are_those_of_every_command(tmp_path: Path, command: Command) -> None:
    run = command("compare", tmp_path / "nothing")
    assert run.returncode == 12
    assert "nothing" in run.stderr
    assert command("compare", "--json", "/no/such/folder/x", "--no-dumps").returncode != 0
