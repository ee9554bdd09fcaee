# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens when a witness (QEMU, crash, makedumpfile, ...) is missing: the test fails.

A judge that is not there must not look like an acquittal. Whoever cannot have the lab says so with
PYDUMPFILE_NO_LAB=1 in the environment, and the tests are reported as skipped.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

NO_LAB = "PYDUMPFILE_NO_LAB"


def missing(what: str) -> NoReturn:
    """Give up the running test because of `what`."""
    if no_lab():
        pytest.skip(f"{NO_LAB}=1: {what}")
    pytest.fail(f"{what} (set {NO_LAB}=1 to skip what needs it)", pytrace=False)


def no_lab() -> bool:
    """Whether the environment says to do without the lab."""
    return os.environ.get(NO_LAB) == "1"


def program(name: str, package: str = "") -> str:
    """Path of an installed program."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        missing(f"{name} is not installed: apt-get install {package or name}")
    return path
