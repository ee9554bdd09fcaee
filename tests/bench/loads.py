# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory in many pieces: a core of 512 PT_LOADs against the same in one."""

from __future__ import annotations

from typing import Any

from .contest import Contest
from .gates import Gate, Report, table
from .inputs import Synthetic
from .rounds import figure, ratio, take_turns

TITLE = "Many PT_LOADs"
_GIB, _BUSY_EVERY = 64, 64
CORES = {
    "1 PT_LOAD": Synthetic(_GIB, busy_every=_BUSY_EVERY),
    "512 PT_LOADs": Synthetic(_GIB, busy_every=_BUSY_EVERY, split_loads=512),
}
_ONE, _MANY = CORES


def measure(contest: Contest) -> Any:
    """Both programs on both cores, one thread."""
    contestants = {}
    for name, core in CORES.items():
        path = contest.inputs.synthetic(core)
        contestants[f"pydumpfile, {name}"] = contest.ours(path, "-d 31 -l --num-threads 1")
        contestants[f"makedumpfile, {name}"] = contest.theirs(path, "-d 31 -l")
    rounds = take_turns(contestants, contest.n_rounds)
    for core in CORES.values():
        contest.inputs.drop(core)
    return rounds


def report(rounds: Any) -> Report:
    """Wall and CPU time of 512 over those of 1."""
    many, one = [f"pydumpfile, {_MANY}"], [f"pydumpfile, {_ONE}"]
    gates = [
        Gate(f"{_MANY} / {_ONE}: wall time", 1.1, ratio(rounds, many, one, "wall_s")),
        Gate(f"{_MANY} / {_ONE}: CPU time", 1.1, ratio(rounds, many, one, "cpu_s")),
    ]
    rows = [
        [who, *(f"{figure(rounds, who, what).median:.2f}" for what in ("wall_s", "cpu_s"))]
        for who in rounds[0]
    ]
    return Report(gates, [table((f"synthetic, {_GIB} GiB, `-d 31 -l`", "wall, s", "CPU, s"), rows)])
