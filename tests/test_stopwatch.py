# SPDX-License-Identifier: GPL-2.0-or-later
"""--profile: stages are counted where they ran, told in a table, and change nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pydumpfile.dump import COPYING_STAGES, JUDGING_STAGES, Statistics
from pydumpfile.report.profile import profile
from pydumpfile.stopwatch import Spent, Stopwatch
from tests.builders import BuiltCore
from tests.conftest import Command


class Worker:
    def work(self, n: int, *, fail: bool = False) -> int:
        if fail:
            raise ValueError(n)
        return n + 1


def test_calls_of_one_object_count_and_answer_as_before() -> None:
    stopwatch, watched, other = Stopwatch(), Worker(), Worker()
    stopwatch.attach(watched, "work", "working")
    assert [watched.work(1), other.work(2), watched.work(n=3)] == [2, 3, 4]
    with pytest.raises(ValueError, match="4"):
        watched.work(4, fail=True)
    assert list(stopwatch.here) == ["working"] and not stopwatch.elsewhere
    assert stopwatch.here["working"].calls == 3
    assert stopwatch.here["working"].wall_seconds > 0


def test_other_threads_count_elsewhere() -> None:
    stopwatch, watched = Stopwatch(), Worker()
    stopwatch.attach(watched, "work", "working")
    threads = [threading.Thread(target=watched.work, args=(1,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopwatch.elsewhere["working"].calls == 3 and not stopwatch.here


def spent(wall_seconds: float, calls: int = 1) -> Spent:
    made = Spent()
    made.wall_seconds = made.cpu_seconds = wall_seconds
    made.calls = calls
    return made


def test_what_the_main_thread_does_adds_up_to_each_step() -> None:
    statistics, stopwatch = Statistics(), Stopwatch()
    statistics.scan_seconds, statistics.copy_seconds = 1.0, 5.0
    stopwatch.here = {"reading mem_map": spent(0.75, 3), "writing pages": spent(1.5)}
    stopwatch.elsewhere = {"reading pages": spent(9.0)}
    lines = [re.sub("  +", "  ", line) for line in profile(statistics, stopwatch).splitlines()]
    assert lines[2:] == [
        "judging pages  1.000",
        "  reading mem_map  0.750  0.750  3",
        "  the rest  0.250",
        "copying pages  5.000",
        "  writing pages  1.500  1.500  1",
        "  waiting for threads, the rest  3.500",
        "  on threads: reading pages  9.000  9.000  1",
    ]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_command_tells_every_stage_and_writes_the_same_dump(
    command: Command, small: BuiltCore, tmp_path: Path, n_threads: int
) -> None:
    outputs = [tmp_path / "plain", tmp_path / "profiled"]
    arguments = ["-d", "31", "-c", "--num-threads", n_threads, small.path]
    plain = command(*arguments, outputs[0])
    profiled = command(*arguments, outputs[1], "--profile")
    assert (plain.returncode, profiled.returncode) == (0, 0), profiled.stderr
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    for stage in {*JUDGING_STAGES, *COPYING_STAGES} - {"finding zero pages"}:  # ELF alone
        assert len(re.findall(rf"^  .*{stage} +\d+\.\d+ +\d+\.\d+ +\d+$", profiled.stdout, re.M))
        assert stage not in plain.stdout
    assert ("on threads: reading pages" in profiled.stdout) == (n_threads > 1)


def test_dump_that_is_not_watched_does_not_load_the_stopwatch(
    small: BuiltCore, tmp_path: Path
) -> None:
    arguments = ["-d", "31", str(small.path), str(tmp_path / "dump")]
    program = "import sys; from pydumpfile.cli import main; main(sys.argv[1:]); sys.exit(" + (
        "'pydumpfile.stopwatch' in sys.modules or 'pydumpfile.dump' not in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)
