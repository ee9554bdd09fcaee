# SPDX-License-Identifier: GPL-2.0-or-later
"""The command: options with makedumpfile's meanings, messages by level, an exit code per error."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from enum import IntFlag
from types import FrameType
from typing import Callable, NoReturn, Optional, TextIO

from pydumpfile._version import VERSION
from pydumpfile.dump import Statistics, dump_vmcore
from pydumpfile.errors import FaultError, PydumpfileError, UsageError
from pydumpfile.filter.level import MAX_LEVEL, Level
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.report.summary import format_size, summary

_DESCRIPTION = """\
Copies the memory of a crashed Linux kernel, without the pages nobody needs, into
a compressed dump that crash, drgn and libkdumpfile open."""

_EPILOG = """\
dump levels (add them up; 31 leaves out all that can be):
   1  pages of zeros              8  user data
   2  page cache, not private    16  free pages
   4  page cache, all

message levels (add them up; 7 if not given):
   1  progress     2  messages and the final table     4  errors     8  details

examples:
  pydumpfile -d 31 -z /proc/vmcore /var/crash/dump     the usual thing, in a crash kernel
  pydumpfile -d 1 -c vmcore dump                       all but zero pages, readable anywhere

exit status: 0 a complete dump, anything else not:
   1  wrong use, or stopped          4  the image is cut short      6  kernel not described
   3  not a memory image             5  not supported          7,8,9  memory cannot be read
  10  the dump cannot be written    11  a bug in pydumpfile        12  the image cannot be read
A dump that could not be finished, or lacks pages that could not be read (7), is kept and marked
incomplete; crash and drgn open it all the same.
"""


_IF_BEGUN = "a dump that was begun and not finished is marked incomplete"


class MessageLevel(IntFlag):
    """Bits of ``--message-level``, as makedumpfile numbers them; 16 changes nothing here."""

    PROGRESS = 1
    COMMON = 2
    ERROR = 4
    DETAIL = 8
    REPORT = 16


class _StoppedError(PydumpfileError):
    """A signal asked to stop."""

    exit_code = 1


def entry() -> NoReturn:
    """The ``pydumpfile`` command."""
    status = main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        _say("", stream, end="")  # what is still buffered; Python would exit with 120 if it cannot
    sys.exit(status)


def _say(text: str, stream: TextIO, end: str = "\n") -> None:
    """Write a message if that can be done: a full disk or dead console must not cost the dump."""
    try:
        print(text, file=stream, end=end, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    messages = MessageLevel(7)
    signal.signal(signal.SIGTERM, _stop)
    try:
        options = _parser().parse_args(arguments)
        messages = MessageLevel(options.message_level)
        statistics = _run(options, messages)
    except PydumpfileError as error:
        return _fail(error, messages)
    except KeyboardInterrupt:
        return _fail(_StoppedError(f"interrupted; {_IF_BEGUN}"), messages)
    return FaultError.exit_code if statistics.lost else 0


def _run(options: argparse.Namespace, messages: MessageLevel) -> Statistics:
    with Vmcore.open(options.vmcore) as vmcore:
        if messages & MessageLevel.COMMON:
            _say(_headline(vmcore), sys.stdout)
        progress = _Progress() if messages & MessageLevel.PROGRESS else None
        try:
            statistics = dump_vmcore(
                vmcore, options.dumpfile, Level.of(options.level), options.compression,
                options.force, progress, max(1, options.num_threads),
            )  # fmt: skip
        finally:
            if progress:
                progress.close()
        if messages & MessageLevel.DETAIL:
            _say("\n".join(_details(vmcore)), sys.stdout)
    for warning in statistics.warnings:
        _say(f"pydumpfile: warning: {warning}", sys.stderr)
    if messages & MessageLevel.COMMON:
        _say(summary(statistics), sys.stdout)
        _say(f"The dumpfile is saved to {statistics.path}.", sys.stdout)
    return statistics


def _headline(vmcore: Vmcore) -> str:
    """Which machine died, and when."""
    names = vmcore.utsname
    kernel = f"Linux {names.release} on {names.nodename}" if names else "an unknown kernel"
    memory = format_size(vmcore.source.exists.total)
    crashed = ""
    if vmcore.crash_time:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(vmcore.crash_time))
        crashed = f", crashed {stamp}"
    return f"{vmcore.source.path}: {kernel}, {vmcore.source.machine}, {memory}{crashed}"


def _details(vmcore: Vmcore) -> Sequence[str]:
    """VMCOREINFO, indented by two blanks as makedumpfile lists it: scripts read that."""
    if vmcore.facts is None:
        return []
    return [f"  {key}={value}" for key, value in vmcore.facts.lines.items()]


def _fail(error: PydumpfileError, messages: MessageLevel) -> int:
    if messages & MessageLevel.ERROR:
        _say(f"pydumpfile: {error}", sys.stderr)
    return error.exit_code


def _stop(number: int, frame: Optional[FrameType]) -> None:
    del frame
    name = signal.Signals(number).name
    raise _StoppedError(f"stopped by {name}; {_IF_BEGUN}")


class _Progress:
    """A bar on a terminal; elsewhere, as on a serial console, a line every few seconds."""

    _SECONDS_BETWEEN_LINES = 5.0

    def __init__(self) -> None:
        self._bar: Optional[_Bar] = _Bar() if sys.stderr.isatty() else None
        self._last_line = time.monotonic()

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(step, done, total)
            return
        now = time.monotonic()
        if now - self._last_line >= self._SECONDS_BETWEEN_LINES:
            self._last_line = now
            percent = 100 * done // total if total else 100
            _say(f"{step}: {percent} %", sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


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
                total=total, desc=step, unit="page", unit_scale=True, leave=False
            )
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are UsageErrors: one line, our exit code."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see pydumpfile --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pydumpfile",
        usage="pydumpfile [-c|-z] [-d LEVEL] [options] VMCORE DUMPFILE",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("vmcore", metavar="VMCORE", help="/proc/vmcore, a copy of it, or QEMU's ELF dump")
    option("dumpfile", metavar="DUMPFILE", help="the dump to write: a new file, mode 0600")
    option("-c", dest="compression", action="store_const", const="zlib", default="none",
           help="compress pages with zlib")  # fmt: skip
    option("-z", dest="compression", action="store_const", const="zstd",
           help="compress pages with zstd: faster and smaller")  # fmt: skip
    option("-d", dest="level", metavar="LEVEL", type=_number("dump level", MAX_LEVEL), default=0,
           help="leave out pages by level, 0 to 31 (default: 0, none)")  # fmt: skip
    option("-f", dest="force", action="store_true", help="overwrite DUMPFILE if it exists")
    option("--num-threads", metavar="N", default=1, type=_number("number of threads", 64),
           help="threads that read and compress (default: 1)")  # fmt: skip
    option("--message-level", metavar="N", default=7, type=_number("message level", 31),
           help="what to say, 0 to 31 (default: 7)")  # fmt: skip
    option("-v", "--version", action="version", version=f"pydumpfile {VERSION}")
    return parser


def _number(what: str, most: int) -> Callable[[str], int]:
    """An argparse type: a decimal number from 0 to ``most``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) > most:
            raise argparse.ArgumentTypeError(f"{what} {text!r} is not a number from 0 to {most}")
        return int(text)

    return parse
