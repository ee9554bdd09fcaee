# SPDX-License-Identifier: GPL-2.0-or-later
"""The patches as patches: they apply, are clean by the kernel's own standard, build one by one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.errors import LabError

from .builder import (
    TOUCHED_OBJECTS,
    VARIANTS,
    KernelSource,
    build_objects,
    build_variant,
    fetch_source,
)
from .purecode import extract_new_files
from .series import BASES, KPATCH, Tree, apply_patches, pfn_lists_series, series, touched_files


@pytest.fixture(scope="module", params=BASES)
def source(request: pytest.FixtureRequest) -> KernelSource:
    return fetch_source(request.param)


@pytest.mark.parametrize("base", BASES)
def test_the_series_is_complete(base: str) -> None:
    names = [patch.name for patch in series(base)]
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert {f"{name[:-2]}.c" for name in TOUCHED_OBJECTS} <= set(touched_files(series(base)))


def test_the_bases_have_the_same_patches() -> None:
    for wanted in (series, pfn_lists_series):
        first, second = ([patch.name for patch in wanted(base)] for base in BASES)
        assert first == second


@pytest.mark.parametrize("base", BASES)
def test_the_kernel_judges_by_the_lines_that_user_space_does(base: str, tmp_path: Path) -> None:
    homes = {
        "fs/proc/page_judge.h": "csrc/page_judge.h",
        "include/uapi/linux/vmcore_pfn_lists.h": "csrc/vmcore_pfn_lists.h",
    }
    extract_new_files(pfn_lists_series(base), tuple(homes), tmp_path)
    for home in homes.values():
        there = tmp_path / Path(home).name
        assert there.read_bytes() == (KPATCH.parent / home).read_bytes()


@pytest.mark.lab
def test_applies_without_fuzz(source: KernelSource, tmp_path: Path) -> None:
    patches = [*series(source.base), *pfn_lists_series(source.base)]
    tree = source.tree
    for path in touched_files(patches):
        original = tree.pristine_file(path)
        if original.exists() and not _is_made_by(patches, path):
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(original.read_bytes())
    apply_patches(patches, tmp_path)


@pytest.mark.lab
def test_checkpatch_has_nothing_to_say(source: KernelSource) -> None:
    script = source.tree.source / "scripts/checkpatch.pl"
    for patch in [*series(source.base), *pfn_lists_series(source.base)]:
        run = subprocess.run(
            ["perl", str(script), "--strict", "--no-tree", f"--root={script.parents[1]}", patch],
            cwd=script.parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "total: 0 errors, 0 warnings, 0 checks" in run.stdout, run.stdout


@pytest.mark.lab
def test_each_patch_builds_without_warnings(source: KernelSource) -> None:
    patches = [*series(source.base), *pfn_lists_series(source.base)]
    for n_patches in range(1, len(patches) + 1):
        said = build_objects(source.base, patches[:n_patches])
        assert "warning" not in said


@pytest.mark.lab
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_configurations_build_without_warnings(source: KernelSource, variant: str) -> None:
    assert "warning" not in build_variant(source.base, variant)


@pytest.mark.lab
def test_the_filter_builds_for_32_bits_without_warnings(source: KernelSource) -> None:
    assert "warning" not in build_variant(source.base, "i386", pfn_lists_series(source.base))


def test_a_tree_changes_no_more_than_the_patches_do(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").write_text("one\n")
    (source / "changed").write_text("one\n")
    one = tmp_path / "one.patch"
    one.write_text(_patch("changed", "one", "two") + _new_file("made", "new"))
    other = tmp_path / "other.patch"
    other.write_text(_patch("changed", "two", "three"))
    tree = Tree(source)

    assert tree.set_patches([one]) == ["changed", "made"]
    assert tree.set_patches([one]) == []
    assert tree.set_patches([one, other]) == ["changed"]
    assert (source / "changed").read_text() == "three\n"
    with pytest.raises(LabError, match=r"other\.patch does not apply"):
        tree.set_patches([other])
    assert (source / "changed").read_text() == "three\n"
    assert tree.set_patches([]) == ["changed", "made"]
    assert (source / "changed").read_text() == "one\n"
    assert sorted(path.name for path in source.iterdir()) == ["changed", "kept"]


def _patch(name: str, old: str, new: str) -> str:
    return (
        f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-{old}\n+{new}\n"
    )


def _new_file(name: str, text: str) -> str:
    return (
        f"diff --git a/{name} b/{name}\nnew file mode 100644\n--- /dev/null\n+++ b/{name}\n"
        f"@@ -0,0 +1 @@\n+{text}\n"
    )


def _is_made_by(patches: list[Path], path: str) -> bool:
    header = re.compile(rf"^diff --git a/{re.escape(path)} b/\S+\nnew file mode", re.M)
    return any(header.search(patch.read_text("utf-8")) for patch in patches)
