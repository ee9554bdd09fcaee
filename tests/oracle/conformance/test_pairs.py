# SPDX-License-Identifier: GPL-2.0-or-later
"""Any two options together, with up to three files: both programs' ``--check-params`` agree."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from pydumpfile.cli.options import OPTIONS, parse
from pydumpfile.errors import PydumpfileError
from tests.oracle import witness

from .test_command_lines import DIFFERENCES

_FILES = ("core", "out", "out2")
_ARGUMENTS = {
    "-b": "4", "-d": "31", "-L": "1G", "--cyclic-buffer": "64", "--message-level": "4",
    "--num-threads": "2", "--splitblock-size": "4", "--vtop": "0xffffffff81000000",
    "--xen_phys_start": "0",
}  # fmt: skip
_ASKING = {"-h", "--help", "-v", "--check-params"}
_UNSUPPORTED = {flag for option in OPTIONS if option.unsupported for flag in option.flags.split()}
_LOG = {"--dump-dmesg", "--partial-dmesg"}


# Where the answers may differ: headings in docs/differences.md that say why, and when they apply.
_MEANT: dict[str, Callable[[set[str], int], bool]] = {
    "No temporary files": lambda flags, _: "-e" in flags and "--work-dir" not in flags,
    "Not supported": lambda flags, _: bool(flags & _UNSUPPORTED),
    "Refused before anything is done": lambda flags, n_files: (
        ("--splitblock-size" in flags and "--split" not in flags)
        or ("--reassemble" in flags and n_files == 1)
        or ("--mem-usage" in flags and n_files > 1)
    ),
    "One job at a time": lambda flags, _: (
        bool(flags & {"-R", "--reassemble"} and flags & {*_LOG, "--dry-run"})
        or {"--dump-dmesg", "--split"} <= flags
        or {"--dump-dmesg", "--mem-usage"} <= flags
    ),
}


def _lines() -> Iterator[tuple[list[str], int]]:
    known = [
        flag
        for option in OPTIONS
        for flag in option.flags.split()
        if flag not in _ASKING and not (option.extra and flag != "-e")
    ]
    for flags in itertools.chain(
        itertools.combinations(known, 1), itertools.combinations(known, 2)
    ):
        for n_files in range(len(_FILES) + 1):
            yield list(flags), n_files


def _words(flags: list[str], n_files: int) -> list[str]:
    metavars = {flag: option.metavar for option in OPTIONS for flag in option.flags.split()}
    words = ["--check-params"]
    for flag in flags:
        words += [flag, _ARGUMENTS.get(flag, "missing")] if metavars[flag] else [flag]
    return [*words, *_FILES[:n_files]]


def _is_taken(words: list[str]) -> bool:
    try:
        parse(words)
    except PydumpfileError:
        return False
    return True


@pytest.mark.lab
def test_any_two_options(tmp_path: Path) -> None:
    makedumpfile = witness.program("makedumpfile")
    surprises, n_refused, needed = [], 0, set()
    for flags, n_files in _lines():
        words = _words(flags, n_files)
        done = subprocess.run(
            [makedumpfile, *words], cwd=tmp_path, capture_output=True, timeout=60, check=False
        )
        n_refused += done.returncode != 0
        if _is_taken(words) != (done.returncode == 0):
            reasons = {name for name, applies in _MEANT.items() if applies(set(flags), n_files)}
            needed |= reasons
            if not reasons:
                surprises.append(f"makedumpfile {' '.join(words)}: {done.returncode} by theirs")
    assert not surprises, "\n".join(surprises)
    assert needed == set(_MEANT)
    assert n_refused > 1000


def test_every_reason_is_told() -> None:
    assert set(_MEANT) <= set(re.findall(r"^### (.*)$", DIFFERENCES.read_text("utf-8"), re.M))
