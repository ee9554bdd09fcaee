# SPDX-License-Identifier: GPL-2.0-or-later
"""Peak memory, which must not grow with the machine's."""

from __future__ import annotations

from typing import Any, Union

from .contest import Contest
from .gates import Gate, Report, table
from .inputs import Lab, Synthetic
from .rounds import spread

TITLE = "Memory"
CORES: tuple[Union[Lab, Synthetic], ...] = (
    Lab("6.1-cloud", "4G"),
    Lab("6.12-cloud", "2G"),
    Synthetic(64, busy_every=64),
    Synthetic(1024, busy_every=1024),
)
OPTIONS = ("-d 31 -l", "-d 31 -c", "-d 31 -z")
ALL_PAGES = ("-d 0 -l", "-d 1 -l")
"""Of a real core only: a synthetic one is too large to be copied whole."""
BOUNDS = (("", 64), (" --max-rss 40M", 40))
_N_RUNS = 2


def measure(contest: Contest) -> list[dict[str, Any]]:
    """Peaks of every core with every codec, default and bounded."""
    found = []
    for core in CORES:
        is_lab = isinstance(core, Lab)
        path = contest.inputs.lab(core) if is_lab else contest.inputs.synthetic(core)
        for options in options_for(core):
            for bound, _ in BOUNDS:
                runs = [contest.run_ours(path, options + bound) for _ in range(_N_RUNS)]
                peaks = [run.peak_mib for run in runs]
                found.append({"core": str(core), "options": options + bound, "peak_mib": peaks})
        if not is_lab:
            contest.inputs.drop(core)
    return found


def options_for(core: Union[Lab, Synthetic]) -> tuple[str, ...]:
    """What is measured of ``core``."""
    return (*OPTIONS, *ALL_PAGES) if isinstance(core, Lab) else OPTIONS


def report(found: list[dict[str, Any]]) -> Report:
    """The worst of each bound and core."""
    gates = []
    for bound, limit in BOUNDS:
        for core in dict.fromkeys(measured["core"] for measured in found):
            peaks = [
                peak
                for measured in found
                if measured["core"] == core and ("--max-rss" in measured["options"]) == bool(bound)
                for peak in measured["peak_mib"]
            ]
            worst = spread([max(peaks)])
            told = bound.strip() or "default settings"
            gates.append(Gate(f"{core}, {told}: largest peak RSS", limit, worst, unit=" MiB"))
    rows = [
        [measured["core"], f"`{measured['options']}`", f"{max(measured['peak_mib']):.1f}"]
        for measured in found
    ]
    return Report(gates, [table(("core", "options", "peak RSS, MiB"), rows)])
