# SPDX-License-Identifier: GPL-2.0-or-later
"""What was found, as JSON and back; and when it is a success."""

from __future__ import annotations

import pytest

from pydumpfile.comparison.result import DUMPING, JUDGING, READING, Comparison, Found
from pydumpfile.errors import FormatError

SAMPLE = Comparison(
    release="6.1.0",
    level=31,
    pages=1 << 20,
    kept=12345,
    mem_map_size=64 << 20,
    mem_map_extents=2,
    direct_mapping=None,
    found=(
        Found(READING, "read 4K", (10, 20)),
        Found(JUDGING, "user space, mmap", (5, 6), "abc"),
        Found(JUDGING, "kernel, in place", missing="there is none"),
        Found(DUMPING, "makedumpfile, mmap", (50, 60), "abd", 1),
    ),
)


def test_json_round_trip() -> None:
    text = SAMPLE.to_json()
    assert "\n" not in text
    assert Comparison.from_json(text) == SAMPLE


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "nonsense", '{"version": 1}', '{"version": 1, "found": [{}]}', "7"]
)
def test_what_is_no_comparison_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="a comparison as JSON"):
        Comparison.from_json(text, "here")


def test_another_version_is_refused_by_its_number() -> None:
    text = SAMPLE.to_json().replace('"version": 1', '"version": 2')
    with pytest.raises(FormatError, match="version 1"):
        Comparison.from_json(text)


def test_makedumpfile_may_judge_otherwise_and_ours_may_not() -> None:
    assert SAMPLE.same_bitmaps
    assert SAMPLE.succeeded
    other = Found(JUDGING, "user space, read 4K", (1, 1), "abd")
    assert not SAMPLE._replace(found=(*SAMPLE.found, other)).succeeded


def test_a_dump_of_ours_that_fails_is_no_success() -> None:
    ours = Found(DUMPING, "judged in user space, mmap", missing="failed: no idea")
    theirs = Found(DUMPING, "makedumpfile, read", missing="failed: no idea")
    assert not SAMPLE._replace(found=(ours,)).succeeded
    assert SAMPLE._replace(found=(theirs,)).succeeded


def test_one_is_found_by_its_step_and_way() -> None:
    assert SAMPLE.of(READING, "read 4K") == SAMPLE.found[0]
    assert SAMPLE.of(JUDGING, "read 4K") is None
