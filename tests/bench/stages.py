# SPDX-License-Identifier: GPL-2.0-or-later
"""What the time of a dump goes into, in its own words: ``--profile``."""

from __future__ import annotations

import re

from .contest import Contest
from .gates import Report
from .inputs import Lab

TITLE = "Stages"
CORE = Lab("6.1-cloud", "4G")
OPTIONS = ("-d 31 -l --num-threads 1", "-d 31 -l", "-d 31 -z", "-d 0 -l --num-threads 1", "-d 0 -l")
_N_RUNS = 3


def measure(contest: Contest) -> list[dict[str, str]]:
    """Of each the run in the middle by wall time."""
    core = contest.inputs.lab(CORE)
    found = []
    for options in OPTIONS:
        contest.run_ours(core, options)  # warms the page cache
        runs = [contest.run_ours(core, f"{options} --profile") for _ in range(_N_RUNS)]
        middle = sorted(runs, key=lambda run: run.wall_s)[_N_RUNS // 2]
        found.append({"options": options, "profile": profile_of(middle.said)})
    return found


def profile_of(said: str) -> str:
    """The table alone."""
    table = re.search(
        r"^where the time went.*\n(?:(?:  |starting|judging|copying).*\n)+", said, re.M
    )
    assert table, said
    return table[0].rstrip()


def report(found: list[dict[str, str]]) -> Report:
    """No demands, only tables."""
    return Report(
        (),
        [f"`{each['options']}`, {CORE}:\n\n```text\n{each['profile']}\n```" for each in found],
    )
