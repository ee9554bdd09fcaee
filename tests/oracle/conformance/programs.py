# SPDX-License-Identifier: GPL-2.0-or-later
"""Both programs, each run in a fresh folder that has the same files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .outcome import Outcome, observe

PROJECT = Path(__file__).resolve().parents[3]
_IN_THE_WAY = "there"


class Program(NamedTuple):
    """Something that answers to the name makedumpfile."""

    path: str
    environment: Mapping[str, str]

    def run(self, line: str, inputs: Mapping[str, Path], directory: Path) -> Outcome:
        """Run ``line``, which may end with ``< INPUT``, in the new ``directory``."""
        directory.mkdir()
        for name, path in inputs.items():
            (directory / name).symlink_to(path)
        in_the_way = directory / _IN_THE_WAY
        in_the_way.write_text("in the way\n", "utf-8")
        words, stdin = shlex.split(line), os.devnull
        if words[-2:-1] == ["<"]:
            stdin = str(directory / words[-1])
            words = words[:-2]
        with open(stdin, "rb") as stream:
            done = subprocess.run(
                [self.path, *words], cwd=directory, stdin=stream, capture_output=True, timeout=600,
                check=False, env={**os.environ, "LC_ALL": "C", **self.environment},
            )  # fmt: skip
        written = sorted(path for path in directory.iterdir() if path.name not in inputs)
        if in_the_way in written and in_the_way.read_bytes() == b"in the way\n":
            written.remove(in_the_way)
        outcome = observe(done.returncode, done.stdout, done.stderr, written)
        shutil.rmtree(directory)
        return outcome

    def make(self, *words: object, cwd: Path, stdin: bytes = b"", status: int = 0) -> bytes:
        """Run with ``words``, quietly, to end with ``status``; gives the standard output."""
        done = subprocess.run(
            [self.path, "--message-level", "4", *map(str, words)], cwd=cwd, input=stdin,
            capture_output=True, timeout=600, check=False,
            env={**os.environ, "LC_ALL": "C", **self.environment},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout


def theirs(path: str, directory: Path) -> Program:
    """An installed makedumpfile, which does not wait for more of a stream that has ended."""
    waited = directory / "waited.so"
    source = Path(__file__).with_name("waited.c")
    subprocess.run(
        ["gcc", "-std=gnu99", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", waited, source],
        check=True,
    )
    # Its threads end by pthread_exit(), for which glibc loads libgcc_s late and may then fail to.
    return Program(path, {"LD_PRELOAD": f"libgcc_s.so.1 {waited}"})


def ours(directory: Path) -> Program:
    """pydumpfile, called by that name."""
    path = directory / "makedumpfile"
    path.write_text(f"#!{sys.executable}\nfrom pydumpfile.cli import entry\n\nentry()\n", "utf-8")
    path.chmod(0o755)
    return Program(str(path), {"PYTHONPATH": str(PROJECT)})
