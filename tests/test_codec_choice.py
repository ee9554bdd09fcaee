# SPDX-License-Identifier: GPL-2.0-or-later
"""The codec that gets done soonest: the decision by given figures, and one on a real core."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.codec_choice import Trial, choose_codec, pick
from pydumpfile.sinks import Target
from tests.builders import BuiltCore
from tests.sinks.kdump_reader import Dump

MB = 1e6
TRIALS = (
    Trial("none", 0.0, 1.0),
    Trial("lzo", 1 / (600 * MB), 0.60),
    Trial("snappy", 1 / (650 * MB), 0.62),
    Trial("zlib", 1 / (170 * MB), 0.46),
    Trial("zstd", 1 / (250 * MB), 0.455),
)


@pytest.mark.parametrize(
    ("target_speed", "n_cpus", "codec"),
    [(10 * MB, 1, "zstd"), (100 * MB, 1, "zstd"), (500 * MB, 1, "lzo"), (5000 * MB, 1, "none"),
     (500 * MB, 8, "zstd"), (5000 * MB, 8, "lzo"), (100000 * MB, 1, "none")],
)  # fmt: skip
def test_pick(target_speed: float, n_cpus: int, codec: str) -> None:
    assert pick(TRIALS, target_speed, n_cpus) == codec


def test_pick_takes_what_there_is() -> None:
    assert pick(TRIALS[:1], 10 * MB, 1) == "none"


def test_a_choice_tells_its_figures(small: BuiltCore, tmp_path: Path) -> None:
    with pydumpfile.open(small.path) as vmcore:
        choice = choose_codec(vmcore, Target(str(tmp_path / "dump")), 1)
    assert os.listdir(tmp_path) == [], "the probe has no name"
    assert [trial.codec for trial in choice.trials] == ["none", "zlib", "lzo", "snappy", "zstd"]
    assert choice.trials[0] == Trial("none", 0.0, 1.0)
    assert all(0 < trial.ratio <= 1 and trial.seconds_per_byte > 0 for trial in choice.trials[1:])
    first, *rest = choice.told()
    assert first.startswith(f"codec: {choice.codec}, chosen for a target of ")
    assert len(rest) == len(choice.trials)


def test_a_pipe_is_not_tried(small: BuiltCore) -> None:
    reader, writer = os.pipe()
    with pydumpfile.open(small.path) as vmcore:
        assert choose_codec(vmcore, Target("a pipe", fd=writer), 1).target_speed == 100 * MB
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_folder_that_is_not_there_is_for_the_dump_to_tell(
    small: BuiltCore, tmp_path: Path
) -> None:
    with pytest.raises(pydumpfile.errors.OutputError, match="No such file"):
        pydumpfile.dump(small.path, tmp_path / "no" / "dump", compression="auto")


def test_a_level_is_that_of_one_codec(small: BuiltCore, tmp_path: Path) -> None:
    """Of several, some have none, so that it would depend on the day whether there is a dump."""
    with pytest.raises(pydumpfile.errors.UsageError, match="auto may take any"):
        pydumpfile.dump(small.path, tmp_path / "dump", compression="auto", compression_level=1)
    assert not (tmp_path / "dump").exists()


def test_a_dump(small: BuiltCore, tmp_path: Path) -> None:
    statistics = pydumpfile.dump(small.path, tmp_path / "dump", compression="auto")
    assert statistics.compression in {"none", "zlib", "lzo", "snappy", "zstd"}
    assert not Dump(tmp_path / "dump").incomplete
