# SPDX-License-Identifier: GPL-2.0-or-later
"""Both programs as contestants: which commands they are, and what they say of themselves."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Callable, NamedTuple

from .inputs import Inputs
from .process import CommandFailedError, Run, run
from .rounds import Figures

Contestant = Callable[[], Figures]


class Contest(NamedTuple):
    """What all sections measure with."""

    inputs: Inputs
    folder: Path
    """Where dumps are written, and removed at once."""
    makedumpfile: str = "makedumpfile"
    n_rounds: int = 5
    quick: bool = False

    def ours(self, core: Path, options: str, cpus: Collection[int] = ()) -> Contestant:
        """One dump of ``core`` by pydumpfile, process start and fsync included."""

        def dump() -> Figures:
            return self.run_ours(core, options, cpus).figures()

        return dump

    def ours_at_once(self, core: Path, options: str) -> Contestant:
        """One dump a processor, all at the same time: what so many processors are good for here."""

        def dump_once(name: str, done: list[Run]) -> None:
            done.append(self.run_ours(core, options, (), name))

        def dumps() -> Figures:
            done: list[Run] = []
            waiting = [
                threading.Thread(target=dump_once, args=(f"ours{cpu}", done))
                for cpu in os.sched_getaffinity(0)
            ]
            started = time.perf_counter()
            for each in waiting:
                each.start()
            for each in waiting:
                each.join()
            wall_s = time.perf_counter() - started
            if len(done) < len(waiting):
                raise CommandFailedError(f"{options}: {len(done)} of {len(waiting)} succeeded")
            return {
                "wall_s": wall_s / len(done),
                "cpu_s": sum(each.cpu_s for each in done) / len(done),
                "peak_mib": max(each.peak_mib for each in done),
                "dump_mib": done[0].dump_mib,
            }

        return dumps

    def theirs(self, core: Path, options: str, cpus: Collection[int] = ()) -> Contestant:
        """One by makedumpfile, which does not wait for the disk."""

        def dump() -> Figures:
            return self.run_theirs(core, options, cpus).figures()

        return dump

    def run_ours(
        self, core: Path, options: str, cpus: Collection[int] = (), name: str = "ours"
    ) -> Run:
        """The same once, with all that was said."""
        output = self.folder / name
        command = [sys.executable, "-m", "pydumpfile", *options.split(), str(core), str(output)]
        done = run(command, output, cpus)
        output.unlink()
        return done

    def run_theirs(
        self, core: Path, options: str, cpus: Collection[int] = (), time_limit_s: float = 0
    ) -> Run:
        """The same once, with all that was said."""
        output = self.folder / "theirs"
        command = [self.makedumpfile, *options.split(), str(core), str(output)]
        done = run(command, output, cpus, time_limit_s)
        output.unlink(missing_ok=True)  # a dry run writes none
        return done


def judging_seconds(said: str) -> float:
    """How long pydumpfile judged pages, by its own word: the scan and writing both bitmaps."""
    found = re.search(r"([\d.]+) s judging", said)
    assert found, said
    return float(found[1])


def excluding_seconds(said: str, to_the_end: bool = True) -> float:
    """How long one pass of makedumpfile over mem_map took, by its own word.

    It makes one pass, or if the bitmap does not fit its buffer two, each in several cycles.

    :param to_the_end: False: ``said`` ends where it began to copy pages, for which it has made the
        first cycle of the second pass.
    """
    steps = re.findall(r"STEP \[Excluding unnecessary pages\] : ([\d.]+) seconds", said)
    assert steps, said
    seconds = list(map(float, steps))
    if len(seconds) == 1:
        return seconds[0]
    return sum(seconds) / 2 if to_the_end else sum(seconds[:-1])
