# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole dumps, each by a process of its own: once for their bitmap, then to nowhere, to be timed.

What is timed is from starting the process to its end, a Python with its modules included.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, Optional

from pydumpfile.comparison import bitmaps
from pydumpfile.comparison.judging import kernel_filter_missing, switch_missing, switched
from pydumpfile.comparison.result import DUMPING, FAILED, Found
from pydumpfile.comparison.ways import Progress, Way, measure_in_turns
from pydumpfile.errors import FormatError, PydumpfileError

THEIRS = "makedumpfile"
_QUIET = ("--message-level", "4")
_SAID_SIZE = 4096


class DumperFailedError(PydumpfileError):
    """A dumper could not be started, or did not end well; says what it said."""

    exit_code = 1


def measure_dumping(
    commands: Commands, ours: bitmaps.Kept, n_rounds: int, progress: Progress
) -> Iterator[Found]:
    """Every way there is; each :class:`Found` has the SHA-256 of its bitmap.

    :param ours: what makedumpfile's bitmap is compared with.
    """
    ways: dict[str, Way] = {}
    checked: dict[str, Found] = {}
    for way, dumper, missing in commands.dumpers():
        if not missing:
            progress(f"{DUMPING}: {way}: its bitmap")
            try:
                kept = switched(dumper.direct, dumper.bitmap)
                differing = kept.differing(ours) if way.startswith(THEIRS) else None
                checked[way] = Found(DUMPING, way, (), kept.sha256, differing)
            except (DumperFailedError, FormatError) as error:
                missing = f"{FAILED}{error}"
        measure = partial(switched, dumper.direct, dumper.time)
        ways[way] = Way(None, missing) if missing else Way(measure)
    for one in measure_in_turns(DUMPING, ways, n_rounds, progress):
        yield checked[one.way]._replace(ns=one.ns) if one.way in checked else one


class Commands(NamedTuple):
    """What dumpers are called with."""

    path: str
    level: int
    own_command: Sequence[str]
    """What starts pydumpfile."""
    makedumpfile: str
    """Its name or path."""

    def dumpers(self) -> Iterator[tuple[str, Dumper, str]]:
        """Each way, and why it is not here, if so."""
        by_read = "--non-mmap"
        no_kernel = kernel_filter_missing(self.path)
        no_theirs = "" if shutil.which(self.makedumpfile) else f"there is no {self.makedumpfile}"
        for place, missing in (("user", ""), ("kernel", no_kernel)):
            where = "user space" if place == "user" else place
            own = (*self.own_command, "--filter-in", place)
            yield f"judged in {where}, read", self._dumper(*own, by_read), missing
            yield f"judged in {where}, mmap", self._dumper(*own), missing
        copying = self._dumper(*self.own_command, "--filter-in", "kernel")._replace(direct=False)
        yield "judged in kernel by copying, mmap", copying, no_kernel or switch_missing()
        yield f"{THEIRS}, read", self._dumper(self.makedumpfile, by_read), no_theirs
        yield f"{THEIRS}, mmap", self._dumper(self.makedumpfile), no_theirs

    def _dumper(self, *command: str) -> Dumper:
        return Dumper((*command, *_QUIET, "-d", str(self.level), "-F", self.path))


class Dumper(NamedTuple):
    """A command that writes a flattened stream to its standard output, and hardly a word else."""

    command: Sequence[str]
    direct: Optional[bool] = None
    """Whether the kernel is to use the direct mapping meanwhile; None: it may as it does."""

    def time(self) -> int:
        """Nanoseconds from its start to its end, when it writes to /dev/null.

        :raises DumperFailedError: it failed.
        """
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            begin = time.monotonic_ns()
            pid, said = self._start(nowhere)
            _, status = os.waitpid(pid, 0)
            end = time.monotonic_ns()
        finally:
            os.close(nowhere)
        self._check(status, said)
        return end - begin

    def bitmap(self) -> bitmaps.Kept:
        """Of what it writes.

        :raises DumperFailedError: it failed.
        :raises FormatError: that is no dump.
        """
        stream, target = os.pipe()
        pid, said = self._start(target)
        os.close(target)
        try:
            kept = bitmaps.Kept(bitmaps.of_stream(stream, self.command[0]))
        except PydumpfileError:
            os.close(stream)
            stream = -1
            _, status = os.waitpid(pid, 0)
            self._check(status, said)
            raise
        finally:
            if stream >= 0:
                os.close(stream)
        _, status = os.waitpid(pid, 0)
        self._check(status, said)
        return kept

    def _start(self, target: int) -> tuple[int, int]:
        """Its process, and where to read what it says; no more than a pipe holds."""
        said, saying = os.pipe()
        nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        redirect = [
            (os.POSIX_SPAWN_DUP2, nowhere, 0),
            (os.POSIX_SPAWN_DUP2, target, 1),
            (os.POSIX_SPAWN_DUP2, saying, 2),
        ]
        try:
            pid = os.posix_spawnp(
                self.command[0], list(self.command), os.environ, file_actions=redirect
            )
        except OSError as error:
            os.close(said)
            raise DumperFailedError(f"{self.command[0]}: {error.strerror}") from error
        finally:
            os.close(saying)
            os.close(nowhere)
        return pid, said

    def _check(self, status: int, said: int) -> None:
        with open(said, "rb") as file:
            words = file.read1(_SAID_SIZE)
        if status:
            text = " / ".join(words.decode("utf-8", "replace").split("\n")).strip(" /")
            exit_code = os.waitstatus_to_exitcode(status)
            raise DumperFailedError(
                f"{' '.join(self.command[-6:])} ended with {exit_code}: {text or 'not a word'}"
            )
