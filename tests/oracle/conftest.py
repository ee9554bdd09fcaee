# SPDX-License-Identifier: GPL-2.0-or-later
"""The cores under judgement and the dumps made of them, each once a session."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import pydumpfile
from tests.lab import Guest, LabError, make_core

from . import witness
from .cores import FULL, SMALL, Evidence


class Shelf:
    """Dumps by core, level and compression, written when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def dump(self, evidence: Evidence, level: int = 31, compression: str = "zstd") -> Path:
        """A finished dump; nothing was lost on the way."""
        path = self._directory / f"{evidence.core.directory.name}-{level}-{compression}"
        if not path.exists():
            statistics = pydumpfile.dump(evidence.core.vmcore, path, level, compression)
            assert statistics.lost == 0
            assert statistics.warnings == []
        return path


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    directory = tmp_path_factory.mktemp("dumps")
    yield Shelf(directory)
    shutil.rmtree(directory)


_EVIDENCE: dict[str, Evidence] = {}


def evidence_of(name: str, guest: Guest) -> Evidence:
    """The core is made on first use, which takes minutes; then the lab's cache has it."""
    if witness.no_lab():
        witness.missing("no real cores")
    if name not in _EVIDENCE:
        try:
            _EVIDENCE[name] = Evidence(make_core(guest))
        except LabError as error:
            witness.missing(str(error))
    return _EVIDENCE[name]


@pytest.fixture(scope="session", autouse=True)
def _close_cores() -> Iterator[None]:
    """drgn's programs hold the cores open until they are collected."""
    yield
    _EVIDENCE.clear()
    gc.collect()


_SMALL = [pytest.param(name, marks=pytest.mark.lab) for name in SMALL]
_FULL = [pytest.param(name, marks=pytest.mark.full) for name in FULL]


@pytest.fixture(params=_SMALL)
def small(request: pytest.FixtureRequest) -> Evidence:
    """Each small core in turn."""
    return evidence_of(request.param, SMALL[request.param])


@pytest.fixture(params=_FULL)
def full(request: pytest.FixtureRequest) -> Evidence:
    """Each full core in turn."""
    return evidence_of(request.param, FULL[request.param])


@pytest.fixture(params=_SMALL + _FULL)
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Every core in turn."""
    return evidence_of(request.param, {**SMALL, **FULL}[request.param])


@pytest.fixture(params=[*_SMALL[:1], *_FULL[:2]])
def evidence_6_1(request: pytest.FixtureRequest) -> Evidence:
    """Each core of Linux 6.1, the last one that makedumpfile 1.7.2 understands."""
    return evidence_of(request.param, {**SMALL, **FULL}[request.param])


@pytest.fixture(params=[*_SMALL[:1], *_FULL[:1]])
def crashable(request: pytest.FixtureRequest) -> Evidence:
    """Cores that crash 8.0.2 opens, which is slow, so not all of them: it knows no 6.12."""
    return evidence_of(request.param, {**SMALL, **FULL}[request.param])


@pytest.fixture(params=_FULL[2:])
def evidence_6_12(request: pytest.FixtureRequest) -> Evidence:
    """The full core of Linux 6.12."""
    return evidence_of(request.param, FULL[request.param])
