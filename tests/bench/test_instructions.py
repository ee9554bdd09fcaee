# SPDX-License-Identifier: GPL-2.0-or-later
"""No loop in C has become slower: by instructions counted, which no noise moves."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.bench.instructions import RECORD, calls, count, inclusive, made_by
from tests.bench.scan import plan_of_6_12

TOLERANCE = 0.03
"""A compiler's next minor release moves counts by less; another way of doing things by more."""
RECORDED = json.loads(RECORD.read_text("utf-8"))
HERE = made_by()


def test_every_loop_is_recorded() -> None:
    names = [call.name for call in calls(plan_of_6_12())]
    assert len(names) == len(set(names))
    if HERE["machine"] == RECORDED["machine"]:
        assert set(names) <= set(RECORDED["counts"])
    assert all(per_page > 0 for per_page in RECORDED["counts"].values())


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(
    any(HERE[key] != RECORDED[key] for key in HERE),
    reason=f"recorded for {RECORDED['compiler']} on {RECORDED['machine']}, this is {HERE}",
)
def test_no_loop_takes_more_instructions_than_recorded() -> None:
    found = count()
    assert set(found) <= set(RECORDED["counts"])
    assert any("scalar" in name for name in found)
    slower = {
        name: f"{per_page} instructions a page, recorded {RECORDED['counts'][name]}"
        for name, per_page in found.items()
        if per_page > RECORDED["counts"][name] * (1 + TOLERANCE)
    }
    assert not slower, "if that is meant: python -m tests.bench.instructions --record"


def test_instructions_of_a_function_are_its_own_and_those_of_what_it_calls_of_ours() -> None:
    dump = """\
summary: 999
fn=main
1 100
cob=/lib/libc.so.6
cfn=memset
calls=1 4
2 7
cfn=loop
calls=1 5
2 41
fn=loop
5 30
7 4
cfi=other.c
cfn=called
calls=3 9
6 7
cob=/lib/libc.so.6
cfi=memcpy.c
cfn=memcpy
calls=1 2
6 3000
7 2
fn=loops
1 500
"""
    assert inclusive(dump, "loop") == 30 + 4 + 7 + 2
    with pytest.raises(AssertionError, match="does not tell of loo"):
        inclusive(dump, "loo")
