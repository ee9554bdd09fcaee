# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the lab keeps what it fetched and made, and how processes keep out of each other's way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import LabError


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/pydumpfile`, by default `~/.cache/pydumpfile`; made if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(base) / "pydumpfile"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock called `name` (a file in the cache); waits for whoever has it."""
    directory = cache_dir() / "locks"
    directory.mkdir(exist_ok=True)
    with (directory / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def require_program(name: str, package: str = "") -> str:
    """Path of a host program; LabError names the Debian package that has it."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise LabError(f"{name} is not installed: apt-get install {package or name}")
    return path
