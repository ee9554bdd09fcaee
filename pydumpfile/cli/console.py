# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said, where and how often: messages by level, progress a serial console can stand."""

from __future__ import annotations

import io
import os
import stat
import sys
import time
from enum import IntFlag
from typing import TYPE_CHECKING, NoReturn, Optional, TextIO, Union

from pydumpfile.report.summary import format_size
from pydumpfile.sinks import STDOUT
from pydumpfile.sinks.base import output_error

if TYPE_CHECKING:
    from tqdm import tqdm

    from pydumpfile.cli.drop_in import Percentages
    from pydumpfile.errors import PydumpfileError

CRASH_KERNEL_ONLY = "/proc/vmcore"


class MessageLevel(IntFlag):
    """Bits of ``--message-level``, as makedumpfile numbers them."""

    PROGRESS = 1
    COMMON = 2
    ERROR = 4
    DETAIL = 8
    REPORT = 16


def write_line(text: str, stream: TextIO, end: str = "\n") -> None:
    """Write a message if that can be done: a full disk or dead console must not cost the dump."""
    try:
        print(text, file=stream, end=end, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def answer(text: str, stream: TextIO, end: str = "\n") -> None:
    """Write what was asked for itself, and not just something about it.

    :raises OutputError: it cannot be written, so nothing was done.
    """
    try:
        print(text, file=stream, end=end, flush=True)
    except OSError as error:
        raise output_error(STDOUT, error, "writing what was asked for") from error


def flush() -> None:
    """Write what is still buffered, if that can be done; Python would exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        write_line("", stream, end="")


def ready_streams() -> None:
    """Have three standard streams, come what may, that can write any message.

    A closed one is None to Python: print() would then speak on standard output, which may carry the
    dump, and a file opened later would get its number. In its place comes a descriptor that refuses
    to be used, as in glibc's __libc_check_standard_fds.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            refusing = os.open(os.devnull, os.O_RDONLY if fd else os.O_WRONLY)
            if refusing != fd:
                os.dup2(refusing, fd)
                os.close(refusing)
            mode = "w" if fd else "r"
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A name that is not of the locale's encoding is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Console:
    """Where one run speaks.

    :param data_on_stdout: standard output carries the dump; everything said goes to standard error.
    :param drop_in: called as makedumpfile, see :mod:`.drop_in`.
    """

    def __init__(self, level: int = 7, data_on_stdout: bool = False, drop_in: bool = False) -> None:
        self._level = MessageLevel(level)
        self.drop_in = drop_in
        self._out = sys.stderr if data_on_stdout else sys.stdout
        self._warns = True

    def make_way(self) -> None:
        """Say nothing amid a stream on standard output, if standard error goes there too (2>&1).

        Only why it is over is told: the stream has no end mark then, and is not hurt any more.
        """
        try:
            out, err = os.fstat(1), os.fstat(2)
        except OSError:
            return
        if os.path.samestat(out, err) and not stat.S_ISCHR(out.st_mode):
            self._level &= MessageLevel.ERROR
            self._warns = False

    def say(self, text: str) -> None:
        """What everybody wants to know."""
        if self._level & MessageLevel.COMMON:
            write_line(text, self._out)

    def product(self, text: str) -> None:
        """What was asked for itself, and not just something about it.

        :raises OutputError: it cannot be written, so nothing was done.
        """
        if self._level & MessageLevel.COMMON:
            answer(text, self._out)

    def detail(self, text: str) -> None:
        """What somebody looks for."""
        if self._level & MessageLevel.DETAIL:
            write_line(text, self._out)

    @property
    def wants_report(self) -> bool:
        """Whether makedumpfile's report is asked for."""
        return bool(self._level & MessageLevel.REPORT)

    def report(self, text: str) -> None:
        """That report."""
        if self.wants_report:
            write_line(text, self._out)

    def warn(self, text: str) -> None:
        """What nobody may miss, at any level."""
        if self._warns:
            write_line(f"pydumpfile: warning: {text}", sys.stderr)

    def fail(self, error: PydumpfileError) -> None:
        """Why it is over."""
        if self._level & MessageLevel.ERROR:
            write_line(f"pydumpfile: {error}", sys.stderr)

    def progress(self) -> Optional[Union[ProgressReport, Percentages]]:
        """Something to call as work goes on; None if that is not wanted."""
        if not self._level & MessageLevel.PROGRESS:
            return None
        if self.drop_in:
            from pydumpfile.cli.drop_in import Percentages  # noqa: PLC0415

            return Percentages()
        return ProgressReport()


class ProgressReport:
    """A bar on a terminal; a line every few seconds elsewhere.

    A crash kernel's console is a terminal too, but often a serial line of 960 bytes a second, and
    the dump must not wait for it.
    """

    _SECONDS_BETWEEN_LINES = 5.0

    def __init__(self) -> None:
        wants_bar = sys.stderr.isatty() and not os.path.exists(CRASH_KERNEL_ONLY)
        self._bar: Optional[_Bar] = _Bar() if wants_bar else None
        self._step = ""
        self._step_began = self._last_line = time.monotonic()

    def __call__(self, step: str, done: int, total: int) -> None:
        """See :data:`pydumpfile.dump.Progress`."""
        if self._bar is not None:
            self._bar.update(step, done, total)
            return
        now = time.monotonic()
        if step != self._step:
            self._step, self._step_began = step, now
        if now - self._last_line >= self._SECONDS_BETWEEN_LINES:
            self._last_line = now
            write_line(f"{step}: {_so_far(done, total, now - self._step_began)}", sys.stderr)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()


def _so_far(done: int, total: int, seconds: float) -> str:
    if not total:  # bytes of a stream, which nobody knows the length of
        return format_size(done)
    left = seconds * (total - done) / done if done else 0.0
    more = f", {left:.0f} s to go" if left >= 1 else ""
    return f"{100 * done // total} %{more}"


class _Bar:
    """One tqdm bar at a time, a new one for each step."""

    def __init__(self) -> None:
        from tqdm import tqdm  # noqa: PLC0415  only a terminal pays for loading it

        self._tqdm = tqdm
        self._bar: Optional[tqdm[NoReturn]] = None
        self._step = ""

    def update(self, step: str, done: int, total: int) -> None:
        if self._bar is None or step != self._step:
            self.close()
            self._step = step
            self._bar = self._tqdm(
                total=total or None,
                desc=step,
                unit="page" if total else "B",
                unit_scale=True,
                leave=False,
                mininterval=0.5,
            )  # fmt: skip
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
