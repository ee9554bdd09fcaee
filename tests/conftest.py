# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of all tests: synthetic cores, each built once a session, and the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import HealthCheck, settings

from tests.builders import BuiltCore, CoreSpec, build_core
from tests.sources.rawelf import describe

# The same examples on every machine, however slow; new ones with --hypothesis-profile=search.
settings.register_profile(
    "repeat", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("repeat"), derandomize=False)
settings.load_profile("repeat")

MIB = 1 << 20

CoreMaker = Callable[[CoreSpec], BuiltCore]
Describer = Callable[[Mapping[str, object]], Path]
Command = Callable[..., "subprocess.CompletedProcess[str]"]

SMALL = CoreSpec(memory_size=40 * MIB, filled=0.3)
"""The least machine that has everything: for tests that run hundreds of times."""


@pytest.fixture(scope="session")
def core_of(tmp_path_factory: pytest.TempPathFactory) -> CoreMaker:
    """Builds the core of a spec, or gives the one built before. Nobody may write to its file."""
    directory = tmp_path_factory.mktemp("cores")
    built: dict[str, BuiltCore] = {}

    def make(spec: CoreSpec) -> BuiltCore:
        key = repr(spec)
        if key not in built:
            built[key] = build_core(directory / f"core{len(built)}", spec)
        return built[key]

    return make


@pytest.fixture(scope="session")
def small(core_of: CoreMaker) -> BuiltCore:
    """A small core, read only."""
    return core_of(SMALL)


@pytest.fixture
def scratch_core(small: BuiltCore, tmp_path: Path) -> Iterator[Path]:
    """A copy of the small core that the test may damage."""
    path = tmp_path / "vmcore"
    copy_sparse(small.path, path)
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def described(scratch_core: Path, small: BuiltCore) -> Describer:
    """The scratch core with some lines of VMCOREINFO changed; None takes a line away.

    Each call starts from the small core's own lines.
    """

    def describe_as(changes: Mapping[str, object]) -> Path:
        lines = {**small.keys, **changes}
        describe(scratch_core, {key: value for key, value in lines.items() if value is not None})
        return scratch_core

    return describe_as


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file and leave its holes holes."""
    size = source.stat().st_size
    with source.open("rb") as old, target.open("wb") as new:
        at = 0
        while at < size:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: no data behind
                break
            hole = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            os.pwrite(new.fileno(), os.pread(old.fileno(), hole - at, at), at)
            at = hole
        new.truncate(size)


@pytest.fixture(scope="session")
def command() -> Command:
    """Runs ``python -m pydumpfile`` with arguments; keywords go into its environment."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pydumpfile", *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            env={**os.environ, **environment},
        )

    return run
