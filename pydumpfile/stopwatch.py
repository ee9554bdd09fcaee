# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the time of one dump goes, by stage.

Methods of the objects that do the work are exchanged for timed ones, of these objects only: a dump
that is not watched pays nothing.
"""

from __future__ import annotations

import threading
import time


class Spent:
    """What one stage took, in one kind of thread."""

    def __init__(self) -> None:
        self.calls = 0
        self.wall_seconds = 0.0
        self.cpu_seconds = 0.0
        """Of the calling thread; less than the wall's where it waited for a disk or a processor."""


class Stopwatch:
    """Times stages; the steps that consist of them are told from outside.

    :ivar here: stage -> what it took on the thread that made this stopwatch, in order of coming.
    :ivar elsewhere: the same on all other threads together.
    :ivar start_cpu_seconds: CPU time of this process before: Python's start, and imports.
    """

    def __init__(self) -> None:
        self.here: dict[str, Spent] = {}
        self.elsewhere: dict[str, Spent] = {}
        self.start_cpu_seconds = time.process_time()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()

    def attach(self, owner: object, method: str, stage: str) -> None:
        """From now on calls of ``owner.method`` count for ``stage``; stages must not nest."""
        function = getattr(owner, method)

        def timed(*arguments: object, **keywords: object) -> object:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **keywords)
            finally:
                self._add(stage, time.perf_counter() - wall, time.thread_time() - cpu)

        setattr(owner, method, timed)

    def _add(self, stage: str, wall_seconds: float, cpu_seconds: float) -> None:
        stages = self.here if threading.get_ident() == self._thread else self.elsewhere
        with self._lock:
            spent = stages.setdefault(stage, Spent())
            spent.calls += 1
            spent.wall_seconds += wall_seconds
            spent.cpu_seconds += cpu_seconds
