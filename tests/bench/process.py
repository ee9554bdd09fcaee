# SPDX-License-Identifier: GPL-2.0-or-later
"""One process, from start to end, with the kernel's own account of what it took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from .alone import REPORT_FD

_ALONE = Path(__file__).with_name("alone.py")


class Run(NamedTuple):
    """What one command took, and said."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """No less than 9, see :mod:`.alone`."""
    dump_mib: float
    """Of the file it wrote; 0 if it was to write none."""
    said: str
    """Standard output and standard error as they came."""
    in_time: bool = True
    """False: it was ended before it was done."""

    def figures(self) -> dict[str, float]:
        """What goes into a round."""
        return {
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "peak_mib": self.peak_mib,
            "dump_mib": self.dump_mib,
        }


class CommandFailedError(Exception):
    """A command that is measured ended with an error: there is nothing to measure."""


def run(
    command: Sequence[str],
    output: Optional[Path] = None,
    cpus: Collection[int] = (),
    time_limit_s: float = 0,
) -> Run:
    """Run ``command`` from start to end.

    :param output: what it writes, removed before, measured behind; None if it writes nothing.
    :param cpus: the processors it may use; all if empty.
    :param time_limit_s: end it then, which is no error but told; 0 for no limit.
    :raises CommandFailedError: it cannot be started, or exited with anything but 0.
    """
    if output is not None:
        output.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as said:
        told = _run_alone(command, said.fileno(), cpus, time_limit_s)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    what, _, rest = told.partition(" ")
    if what != "ENDED":
        raise CommandFailedError(f"{command[0]} cannot be started: {rest or text[-2000:]}")
    status, wall_s, cpu_s, peak_kib = map(float, rest.split())
    status = int(status)
    in_time = not (time_limit_s and os.WIFSIGNALED(status))
    if status and in_time:
        raise CommandFailedError(f"{' '.join(command)}: wait status {status}\n{text[-2000:]}")
    dump_mib = output.stat().st_size / 2**20 if output is not None and output.exists() else 0.0
    return Run(wall_s, cpu_s, peak_kib / 1024, dump_mib, text, in_time)


def said_until(command: Sequence[str], word: str) -> str:
    """What ``command`` says before ``word``, where it is ended.

    :raises CommandFailedError: it never says that.
    """
    said = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        while word.encode() not in said:
            more = os.read(process.stdout.fileno(), 1 << 16)
            if not more:
                raise CommandFailedError(f"{' '.join(command)}: no {word!r} in\n{said!r}")
            said += more
        process.kill()
    return said.decode("utf-8", "replace").partition(word)[0]


def _run_alone(
    command: Sequence[str], said_fd: int, cpus: Collection[int], time_limit_s: float
) -> str:
    """What :mod:`.alone` tells of it; what it says goes to ``said_fd``."""
    reading, writing = os.pipe()
    starter = _start([sys.executable, "-I", "-S", str(_ALONE), *command], said_fd, writing, cpus)
    os.close(writing)
    with open(reading, encoding="utf-8") as reports:
        first = reports.readline()
        if not first.endswith("\n"):
            os.waitpid(starter, 0)
            return first  # it could not be started
        alarm = threading.Timer(time_limit_s, os.kill, (int(first), signal.SIGKILL))
        if time_limit_s:
            alarm.start()
        told = reports.read()
        alarm.cancel()
    os.waitpid(starter, 0)
    return told


def _start(command: Sequence[str], said_fd: int, report_fd: int, cpus: Collection[int]) -> int:
    """Spawn it with the processors it may use, which a child takes over from its parent."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    redirect = [
        (os.POSIX_SPAWN_DUP2, nowhere, 0),
        (os.POSIX_SPAWN_DUP2, said_fd, 1),
        (os.POSIX_SPAWN_DUP2, said_fd, 2),
        (os.POSIX_SPAWN_DUP2, report_fd, REPORT_FD),
    ]
    own = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        return os.posix_spawn(command[0], list(command), os.environ, file_actions=redirect)
    finally:
        os.sched_setaffinity(0, own)
        os.close(nowhere)
