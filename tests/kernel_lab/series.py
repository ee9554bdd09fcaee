# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch series of kpatch/: find it, apply it, and change a tree no more than necessary.

make rebuilds what depends on a file with a new time stamp, so a file of the tree is written only if
its content changes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import require_program
from tests.lab.errors import LabError

KPATCH = Path(__file__).parents[2] / "kpatch"
BASES = ("6.1", "6.12")


def series(base: str, *, first: int | None = None) -> list[Path]:
    """The patches for a base ("6.1"), in order; the `first` ones, or all of them.

    The cover letter, 0000, is none.
    """
    return _patches(KPATCH / f"linux-{base}")[:first]


def pfn_lists_series(base: str) -> list[Path]:
    """The patches that go on top of `series`: /proc/vmcore_pfn_lists."""
    return _patches(KPATCH / f"linux-{base}" / "pfn-lists")


def _patches(directory: Path) -> list[Path]:
    files = sorted(directory.glob("[0-9]*.patch"))
    patches = [path for path in files if not path.name.startswith("0000-")]
    if not patches:
        raise LabError(f"{directory} has no patches")
    return patches


def touched_files(patches: Sequence[Path]) -> list[str]:
    """Paths the patches change, add or remove, relative to the kernel tree."""
    found: set[str] = set()
    for patch in patches:
        for old, new in re.findall(r"^diff --git a/(\S+) b/(\S+)$", patch.read_text("utf-8"), re.M):
            found |= {old, new}
    return sorted(found)


def apply_patches(patches: Sequence[Path], directory: Path) -> None:
    """Apply patches to the files in `directory`, without fuzz; LabError if one does not apply."""
    git = require_program("git")
    for patch in patches:
        run = subprocess.run(
            [git, "apply", "--whitespace=error-all", str(patch.resolve())],
            cwd=directory,
            # A repository above the directory would make git skip what it does not track.
            env={"GIT_CEILING_DIRECTORIES": str(directory.resolve().parent), "PATH": "/usr/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise LabError(f"{patch.name} does not apply:\n{run.stderr.strip()}")


class Tree:
    """An unpacked kernel source and the patches in it.

    `pristine` keeps the original of each file that patches ever touched, and `pristine.json` which
    those are; an original of null did not exist.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._pristine = source.parent / "pristine"
        self._index = source.parent / "pristine.json"

    def set_patches(self, patches: Sequence[Path]) -> list[str]:
        """Make the tree the pristine one plus `patches`; gives the files whose content changed."""
        known = self._remember_originals(touched_files(patches))
        changed = []
        with tempfile.TemporaryDirectory() as scratch:
            wanted = Path(scratch)
            for path in known:
                if (self._pristine / path).exists():
                    _copy(self._pristine / path, wanted / path)
            apply_patches(patches, wanted)
            for path in known:
                if _content(wanted / path) != _content(self.source / path):
                    _copy(wanted / path, self.source / path)
                    changed.append(path)
        return changed

    def pristine_file(self, path: str) -> Path:
        """The original of a file, patched or not."""
        original = self._pristine / path
        return original if original.exists() else self.source / path

    def _remember_originals(self, paths: Sequence[str]) -> list[str]:
        known: list[str] = (
            json.loads(self._index.read_text("utf-8")) if self._index.exists() else []
        )
        for path in paths:
            if path not in known:
                if (self.source / path).exists():
                    _copy(self.source / path, self._pristine / path)
                known.append(path)
        self._index.write_text(json.dumps(sorted(known), indent=1), "utf-8")
        return sorted(known)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _copy(source: Path, target: Path) -> None:
    """Make `target` what `source` is, with a new time stamp; remove it if that is missing."""
    if not source.exists():
        target.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
