# SPDX-License-Identifier: GPL-2.0-or-later
"""The series in a crash kernel: the cases of the matrix that are quickest and say most.

The whole matrix, on both bases: python -m tests.kernel_lab matrix
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .filtering import filter_cases, run_filter_case
from .matrix import cases, run_case


@pytest.mark.lab
@pytest.mark.parametrize("name", ["hole-above-4G-numa", "straddle"])
def test_vmcore_reads_the_same(name: str, tmp_path: Path) -> None:
    case = next(case for case in cases() if case.name == name)
    outcome = run_case(case, "6.1", tmp_path)
    assert outcome.errors == []


@pytest.mark.lab
@pytest.mark.parametrize("name", ["levels", "hostile", "command"])
def test_the_kernel_judges_as_user_space_does(name: str, tmp_path: Path) -> None:
    case = next(case for case in filter_cases() if case.name == name)
    assert run_filter_case(case, "6.1", tmp_path) == []
