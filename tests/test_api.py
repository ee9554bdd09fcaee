# SPDX-License-Identifier: GPL-2.0-or-later
"""The library's door: what it exports, accepts and returns."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile import Kind, Level, PydumpfileError, Statistics, Vmcore, dump
from pydumpfile.errors import InputError, SizeLimitError, UsageError
from tests.builders import BuiltCore
from tests.sinks.kdump_reader import Dump


def test_exports() -> None:
    assert sorted(pydumpfile.__all__) == pydumpfile.__all__
    for name in pydumpfile.__all__:
        assert hasattr(pydumpfile, name)
    assert pydumpfile.PydumpfileError is pydumpfile.errors.PydumpfileError


def test_is_typed() -> None:
    assert Path(pydumpfile.__file__).with_name("py.typed").exists()
    hints = typing.get_type_hints(Statistics)
    assert hints.keys() <= vars(Statistics()).keys()
    assert hints["left_out"] == dict[Kind, int]
    assert typing.get_type_hints(pydumpfile.open)["return"] is Vmcore
    assert typing.get_type_hints(dump)["return"] is Statistics


def test_everything_exported_is_explained() -> None:
    for name in pydumpfile.__all__:
        thing = getattr(pydumpfile, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_of_every_kind(small: BuiltCore, tmp_path: Path, kind: type) -> None:
    with pydumpfile.open(kind(small.path)) as vmcore:
        assert vmcore.utsname is not None and vmcore.utsname.release == "6.12.0"
        assert vmcore.mem_map.model == "SPARSEMEM_EXTREME"
    statistics = dump(kind(small.path), kind(tmp_path / "dump"))
    assert statistics.path == str(tmp_path / "dump")
    assert Dump(tmp_path / "dump").dump_level == 31


def test_an_open_vmcore_stays_open(small: BuiltCore, tmp_path: Path) -> None:
    with pydumpfile.open(small.path) as vmcore:
        dump(vmcore, tmp_path / "dump", level=8, compression="none")
        assert vmcore.source.read_page(0x1000, 12) == small.page(0x1000)


def test_defaults(small: BuiltCore, tmp_path: Path) -> None:
    statistics = dump(small.path, tmp_path / "dump")
    assert (statistics.level, statistics.compression) == (31, "zstd")
    assert isinstance(statistics.level, int)
    assert set(statistics.left_out) == set(Kind)
    assert dump(small.path, tmp_path / "again", level=Level.USER).level == 8


@pytest.mark.parametrize("level", [-1, 32, 255])
def test_levels_that_are_none(small: BuiltCore, tmp_path: Path, level: int) -> None:
    with pytest.raises(UsageError, match="between 0 and 31"):
        dump(small.path, tmp_path / "dump", level)
    with pydumpfile.open(small.path) as vmcore, pytest.raises(UsageError):
        dump(vmcore, tmp_path / "dump", level)
    assert not (tmp_path / "dump").exists()


def test_progress(small: BuiltCore, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    statistics = dump(
        small.path, tmp_path / "dump", 31, progress=lambda *report: told.append(report)
    )
    steps = [step for step, _, _ in told]
    assert sorted(set(steps), key=steps.index) == ["judging pages", "copying pages"]
    for step, total in [("judging pages", small.max_mapnr), ("copying pages", statistics.kept)]:
        reports = [(done, of) for name, done, of in told if name == step]
        assert [done for done, _ in reports] == sorted({done for done, _ in reports})
        assert {of for _, of in reports} == {total}
        assert reports[-1] == (total, total)


def test_statistics_add_up() -> None:
    statistics = Statistics(existing=100, kept=60, zero=20, lost=5)
    assert statistics.stored == 35
    assert Statistics().stored == 0
    assert Statistics().warnings is not Statistics().warnings


def test_one_class_catches_everything(tmp_path: Path) -> None:
    with pytest.raises(PydumpfileError) as caught:
        pydumpfile.open(tmp_path / "none")
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(PydumpfileError):
        dump(tmp_path / "none", tmp_path / "dump")
    assert not (tmp_path / "dump").exists()


def test_a_source_that_fails_to_open_is_closed(tmp_path: Path) -> None:
    """Warnings are errors in these tests: a leaked descriptor would be one; count them as well."""
    (tmp_path / "text").write_text("not a core")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with pytest.raises(PydumpfileError):
            pydumpfile.open(tmp_path / "text")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_several_targets(small: BuiltCore, tmp_path: Path) -> None:
    """Parts, each no larger than allowed; and first what that would be."""
    paths = [tmp_path / "one", str(tmp_path / "two")]
    how = {"compression": "none", "splitblock_size": 1 << 20}
    dry = dump(small.path, paths, dry_run=True, **how)
    assert not list(tmp_path.iterdir())
    real = dump(small.path, paths, **how)
    assert dry.dry_run and not real.dry_run
    sizes = [Path(path).stat().st_size for path in paths]
    assert dry.bytes_written == real.bytes_written == sum(sizes)
    with pytest.raises(SizeLimitError):
        dump(small.path, paths, size_limit=max(sizes) - 1, overwrite=True, **how)
    for path in paths:
        part = Dump(Path(path))
        assert part.incomplete and part.split == 1
    with pytest.raises(UsageError, match="cannot be flattened"):
        dump(small.path, paths, flattened=True, overwrite=True)
