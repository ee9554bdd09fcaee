# SPDX-License-Identifier: GPL-2.0-or-later
"""Run pydumpfile where it is meant to run: inside the crash kernel, on the real /proc/vmcore.

The interpreter that runs this, its standard library, pydumpfile as it lies in the source tree and
the packages it imports go onto an ext4 image, under the paths they have here; the crash kernel
mounts it and changes root to it.  The raw vmcore is copied as for any other core, so that the two
can be compared.  Nothing of this is cached: the program under test changes.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydumpfile.codecs import NAMES, make_codec

from .cache import require_program
from .cores import LabCore, build
from .errors import LabError
from .guest import SOURCES, AfterCopy, Guest
from .initramfs import shared_libraries
from .kernels import fetch, resolve

DEFAULT_ARGUMENTS = ("-z", "-d", "31")
# Top-level modules pydumpfile imports that are not in the standard library.
_PACKAGES = ("cffi", "_cffi_backend", "elftools", "tqdm")
_STDLIB_LEFT_OUT = shutil.ignore_patterns(
    *("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data"),
    *("site-packages", "dist-packages", "config-*", "*.a"),
)
_DISKS = ("python.ext4", "out.ext4")  # vdf and vdg in inkdump.sh
_PROJECT = SOURCES.parent.parent


@dataclass(frozen=True)
class InsideRun:
    """What came of a run in the crash kernel."""

    core: LabCore  # of the same crash
    directory: Path  # what the run left in /out: dump, console, cost, meminfo, status

    @property
    def dump(self) -> Path:
        """The dump pydumpfile wrote."""
        return self.directory / "dump"

    @property
    def console(self) -> str:
        """What pydumpfile printed."""
        return (self.directory / "console").read_text("utf-8")

    @property
    def status(self) -> int:
        """pydumpfile's exit status."""
        return int((self.directory / "status").read_text("ascii"))

    @property
    def cost(self) -> dict[str, float]:
        """seconds, user_seconds, system_seconds (emulated time) and max_rss_kib."""
        cost: dict[str, float] = json.loads((self.directory / "cost").read_text("ascii"))
        return cost


def dump_inside(
    guest: Guest, directory: Path, arguments: Sequence[str] = DEFAULT_ARGUMENTS
) -> InsideRun:
    """Crash `guest` and run `pydumpfile ARGUMENTS /proc/vmcore /out/dump` in its crash kernel.

    `directory` must not exist; the core is left there, and what the run wrote in `inside/` of it.
    Raises LabError if the run did not come to an end; its status tells whether it succeeded.
    """
    kernel = fetch(resolve(guest.kernel))
    directory.mkdir(parents=True)
    program = [*arguments, "/proc/vmcore", "/out/dump"]
    make_python_disk(directory / _DISKS[0], SOURCES / "inkdump_main.py", program)
    _make_disk(directory / _DISKS[1], guest.memory_mib + 512)
    build(guest, kernel, directory, AfterCopy(SOURCES / "inkdump.sh", _DISKS))
    inside = directory / "inside"
    _read_disk(directory / _DISKS[1], inside)
    for disk in _DISKS:
        (directory / disk).unlink()
    if not (inside / "status").exists():
        raise LabError(f"the run in the crash kernel did not end; see {directory / 'console.log'}")
    return InsideRun(LabCore(directory, guest, kernel), inside)


def make_python_disk(disk: Path, program: Path, arguments: Sequence[str]) -> None:
    """An ext4 image with Python, pydumpfile and a program; `/command` starts that with arguments.

    Besides what it needs there are empty directories to mount things on.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name in ("proc", "sys", "dev", "out", "tmp", "opt", "plain", "small-blocks"):
            (root / name).mkdir()
        python = Path(sys.executable).resolve()
        stdlib = Path(sysconfig.get_path("stdlib"))
        _copy(python, root)
        _copy(stdlib, root)
        shutil.copytree(_PROJECT / "pydumpfile", root / "opt" / "pydumpfile")
        shutil.copy2(program, root / "opt")
        for name in _PACKAGES:
            _copy_module(name, root / "opt")
        for library in [python, *root.rglob("*.so*")]:
            for name, path in shared_libraries(library).items():
                _copy(path, root, name)
        for name in _codec_libraries():
            _copy(Path(name).resolve(), root, name)
            for needed, path in shared_libraries(Path(name)).items():
                _copy(path, root, needed)
        command = [str(python), f"/opt/{program.name}", *arguments]
        (root / "command").write_text(" ".join(command), "utf-8")
        size = sum(path.lstat().st_size + 4096 for path in root.rglob("*"))
        _make_disk(disk, (size >> 20) * 5 // 4 + 64, root)


def _codec_libraries() -> list[str]:
    """Paths of what pydumpfile opens at run time, which ldd does not know of."""
    wanted = {make_codec(name).library for name in NAMES}
    cached = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True)
    entries = re.findall(r"^\s+(\S+) \(.*\) => (\S+)$", cached.stdout, re.M)
    return [path for soname, path in entries if soname in wanted]


def _copy(path: Path, root: Path, name: str = "") -> None:
    """Copy a file or a directory of this machine into `root`, by default under its own path."""
    target = root / (name or str(path)).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, ignore=_STDLIB_LEFT_OUT, dirs_exist_ok=True)
    elif not target.exists():
        shutil.copy2(path, target)


def _copy_module(name: str, target: Path) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise LabError(f"pydumpfile needs the Python package {name}, which is not installed")
    origin = Path(spec.origin)
    if spec.submodule_search_locations:
        shutil.copytree(origin.parent, target / name)
    else:
        shutil.copy2(origin, target)


def _make_disk(disk: Path, size_mib: int, content: Path | None = None) -> None:
    with disk.open("wb") as file:
        file.truncate(size_mib << 20)
    options = ["-d", str(content)] if content else []
    mkfs = require_program("mkfs.ext4", "e2fsprogs")
    subprocess.run([mkfs, "-q", "-F", *options, str(disk)], check=True)


def _read_disk(disk: Path, directory: Path) -> None:
    directory.mkdir()
    debugfs = require_program("debugfs", "e2fsprogs")
    subprocess.run(
        [debugfs, "-R", f"rdump / {directory}", str(disk)], check=True, capture_output=True
    )
