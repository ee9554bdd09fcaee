# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs `python -m pydumpfile` in the crash kernel and writes down what it cost (see inkdump.py).

From inside the process: busybox's `time -v` gives four times the resident set size.
"""

from __future__ import annotations

import atexit
import json
import resource
import runpy
import time

_STARTED = time.monotonic()


def _write_cost() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cost = {
        "seconds": round(time.monotonic() - _STARTED, 2),
        "user_seconds": usage.ru_utime,
        "system_seconds": usage.ru_stime,
        "max_rss_kib": usage.ru_maxrss,
    }
    with open("/out/cost", "w", encoding="ascii") as file:
        json.dump(cost, file)


atexit.register(_write_cost)
runpy.run_module("pydumpfile", run_name="__main__", alter_sys=True)
