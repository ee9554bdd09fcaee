# SPDX-License-Identifier: GPL-2.0-or-later
"""Each command line of the table on both programs: the same is seen, but for what is told there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pydumpfile.cli.options import _REFUSED_TOGETHER, OPTIONS
from tests.oracle import witness
from tests.oracle.conftest import evidence_of
from tests.oracle.cores import SMALL

from .inputs import make_inputs
from .outcome import Outcome
from .programs import PROJECT, Program, ours, theirs
from .table import CommandLine, read_table

TABLE = read_table()
DIFFERENCES = PROJECT / "docs" / "differences.md"


class Bench(NamedTuple):
    """Both programs, and what to run them on."""

    theirs: Program
    ours: Program
    inputs: dict[str, Path]
    directory: Path

    def outcomes(self, line: str) -> tuple[Outcome, Outcome]:
        return (
            self.theirs.run(line, self.inputs, self.directory / "theirs"),
            self.ours.run(line, self.inputs, self.directory / "ours"),
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    makedumpfile = witness.program("makedumpfile")
    directory = tmp_path_factory.mktemp("bench")
    inputs = directory / "inputs"
    inputs.mkdir()
    their_program, our_program = theirs(makedumpfile, directory), ours(directory)
    real, other = (evidence_of(name, SMALL[name]).core for name in ("6.1 small", "6.12 small"))
    made = make_inputs(their_program, our_program, inputs, real, other)
    yield Bench(their_program, our_program, made, directory)
    for path in made.values():
        path.unlink()


@pytest.mark.lab
@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.line)
def test_both_do_the_same(entry: CommandLine, bench: Bench) -> None:
    their_outcome, our_outcome = bench.outcomes(entry.line)
    differs = our_outcome.differs_from(their_outcome)
    assert differs == entry.differs, f"makedumpfile {entry.line}\n" + "\n".join(
        f"  {name:<7} theirs {getattr(their_outcome, name)}\n"
        f"  {'':<7} ours   {getattr(our_outcome, name)}"
        for name in Outcome._fields
        if name in differs | entry.differs
    )


def test_every_difference_has_a_reason() -> None:
    headings = set(re.findall(r"^### (.*)$", DIFFERENCES.read_text("utf-8"), re.M))
    reasons = {entry.heading for entry in TABLE if entry.differs}
    assert reasons <= headings, reasons - headings
    assert not {name for entry in TABLE for name in entry.differs} - set(Outcome._fields)


def test_no_line_is_there_twice_but_in_what_services_run() -> None:
    lines = [entry.line for entry in TABLE if "(" not in entry.section]
    assert len(lines) == len(set(lines))


def test_most_lines_have_no_difference() -> None:
    assert len({entry.line for entry in TABLE if not entry.differs}) >= 200


def _flags(line: str) -> set[str]:
    """Options of a line as it spells them; letters of a bundle apart."""
    words = [word for word in shlex.split(line) if word[:1] == "-"]
    long = {word.partition("=")[0] for word in words if word[:2] == "--"}
    return long | {f"-{letter}" for word in words if word[:2] != "--" for letter in word[1:]}


def test_every_option_of_makedumpfile_is_in_some_line() -> None:
    used = set().union(*(_flags(entry.line) for entry in TABLE))
    known = {flag for option in OPTIONS if not option.extra for flag in option.flags.split()}
    assert known <= used, known - used


def test_every_refused_combination_is_in_some_line() -> None:
    used = [_flags(entry.line) for entry in TABLE]
    only_ours = {flag for option in OPTIONS if option.extra for flag in option.flags.split()}
    for flag, others in _REFUSED_TOGETHER:
        for other in others.split():
            if not {flag, other} & only_ours:
                assert any({flag, other} <= flags for flags in used), f"{flag} {other}"
