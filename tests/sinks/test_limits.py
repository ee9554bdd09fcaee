# SPDX-License-Identifier: GPL-2.0-or-later
"""Outputs that may only become so large, and those that only count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pydumpfile.errors import SizeLimitError, UsageError
from pydumpfile.sinks import Target, open_output
from pydumpfile.sinks.base import Output

NOWHERE = "/nonexistent"


def write_something(output: Output) -> None:
    """What a dump does, in small."""
    output.write_at(0, b"header, incomplete")
    output.extend(5000)
    output.write_at(5000, bytes(3000))
    output.write_at(100, b"descriptors")
    output.rewrite_start(b"header, complete  ")
    output.end()
    output.close()


@pytest.mark.parametrize("flattened", [False, True])
def test_a_limit_that_is_not_reached(tmp_path: Path, flattened: bool) -> None:
    """Not even by a byte."""
    path = tmp_path / "free"
    write_something(open_output(Target(str(path), flattened=flattened), NOWHERE))
    size = path.stat().st_size
    limited = Target(str(tmp_path / "limited"), flattened=flattened, size_limit=size)
    write_something(open_output(limited, NOWHERE))
    assert (tmp_path / "limited").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("flattened", [False, True])
@pytest.mark.parametrize("less", [1, 2000])
def test_a_limit_is_filled_and_never_exceeded(tmp_path: Path, flattened: bool, less: int) -> None:
    path = tmp_path / "free"
    write_something(open_output(Target(str(path), flattened=flattened), NOWHERE))
    limit = path.stat().st_size - less
    target = Target(str(tmp_path / "limited"), flattened=flattened, size_limit=limit)
    output = open_output(target, NOWHERE)
    with pytest.raises(SizeLimitError) as caught:
        write_something(output)
    output.close()
    assert (caught.value.size_limit, caught.value.path) == (limit, target.path)
    assert (tmp_path / "limited").stat().st_size == limit == output.size
    assert (tmp_path / "limited").read_bytes()[:18] == path.read_bytes()[:18] or not flattened


def test_a_limit_below_what_has_to_be_reserved(tmp_path: Path) -> None:
    output = open_output(Target(str(tmp_path / "dump"), size_limit=4999), NOWHERE)
    with pytest.raises(SizeLimitError):
        write_something(output)
    output.close()
    assert (tmp_path / "dump").read_bytes() == b"header, incomplete"


@pytest.mark.parametrize("flattened", [False, True])
@pytest.mark.parametrize("limit", [None, 6000])
def test_a_dry_run_counts_as_a_real_one(tmp_path: Path, flattened: bool, limit: int) -> None:
    sizes = []
    for dry_run in (False, True):
        path = tmp_path / f"dry {dry_run}"
        output = open_output(
            Target(str(path), flattened=flattened, size_limit=limit, dry_run=dry_run), NOWHERE
        )
        if limit is None:
            write_something(output)
        else:
            with pytest.raises(SizeLimitError):
                write_something(output)
            output.close()
        sizes.append(output.size)
    assert sizes[0] == sizes[1] == (tmp_path / "dry False").stat().st_size
    assert os.listdir(tmp_path) == ["dry False"]


def test_a_dry_run_leaves_what_is_there_alone(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(b"precious")
    before = path.stat()
    for flattened in (False, True):
        target = Target(str(path), overwrite=True, flattened=flattened, dry_run=True)
        write_something(open_output(target, NOWHERE))
    assert path.read_bytes() == b"precious"
    assert path.stat() == before


def test_a_dry_run_of_what_cannot_be() -> None:
    """A dump that is not flattened does not go into a pipe, not even dry."""
    with pytest.raises(UsageError, match="-F"):
        open_output(Target("standard output", fd=1, dry_run=True), NOWHERE)
