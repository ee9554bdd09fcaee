# SPDX-License-Identifier: GPL-2.0-or-later
"""The command: from arguments to one job, and from how it ended to an exit status.

Under the name ``makedumpfile`` it keeps the contract that services rely on, see :mod:`.drop_in`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, Optional

from pydumpfile.cli import drop_in, jobs
from pydumpfile.cli.console import Console, ready_streams, write_line
from pydumpfile.cli.options import Options, check, glimpse, read
from pydumpfile.errors import PydumpfileError

PROGRAM = "pydumpfile"
_IF_BEGUN = "a dump that was begun and not finished is marked incomplete"


class _StoppedError(PydumpfileError):
    """A signal asked to stop."""

    exit_code = 1


def entry() -> NoReturn:
    """The ``pydumpfile`` command, under whatever name it was called."""
    ready_streams()
    status = main(sys.argv[1:], os.path.basename(sys.argv[0]))
    for stream in (sys.stdout, sys.stderr):
        write_line("", stream, end="")  # what is still buffered; Python would exit with 120
    sys.exit(status)


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run the command; returns its exit status.

    :param program: the name it was called by; ``makedumpfile`` is special.
    """
    signal.signal(signal.SIGTERM, _stop)
    if program != drop_in.NAME and arguments[:1] == ["initramfs"]:
        from pydumpfile.cli import initramfs  # noqa: PLC0415

        return initramfs.main(arguments[1:])
    if program != drop_in.NAME and arguments[:1] == ["doctor"]:
        from pydumpfile.cli import doctor  # noqa: PLC0415

        return doctor.main(arguments[1:])
    drop_in_name = program == drop_in.NAME
    options = glimpse(arguments)
    console = Console(data_on_stdout=options.flattened, drop_in=drop_in_name)
    understood, status = False, 0
    try:
        options = read(arguments)
        level = options.message_level | 8 * options.debug | 16 * options.show_stats
        console = Console(level, options.flattened, drop_in_name)
        check(options)
        understood = True
        status = _do(options, console)
    except PydumpfileError as error:
        status = error.exit_code
        if drop_in_name and not understood:
            drop_in.refuse(error, console)
        else:
            error.message += "" if understood else f"; see {PROGRAM} --help"
            console.fail(error)
    except KeyboardInterrupt:
        console.fail(_StoppedError(f"interrupted; {_IF_BEGUN}"))
        status = _StoppedError.exit_code
    if drop_in_name and not (options.only_asks or (options.mem_usage and not status)):
        return drop_in.end(status, console)
    return min(status, 1) if drop_in_name else status


def _do(options: Options, console: Console) -> int:
    """The one job that was asked for."""
    job = options.job
    if job == "help":
        return jobs.show_help()
    if job == "version":
        return jobs.show_version(console)
    if job == "check_params":
        return jobs.check_params(options)
    if job == "make_vmcoreinfo":
        from pydumpfile.cli.describe import make_vmcoreinfo  # noqa: PLC0415

        return make_vmcoreinfo(options, console)
    if job == "rearrange":
        return jobs.rearrange_stream(options, console)
    if job == "reassemble":
        return jobs.reassemble_parts(options, console)
    if job == "dump_dmesg":
        return jobs.write_log(options, console)
    if job == "mem_usage":
        from pydumpfile.cli.mem_usage import show_mem_usage  # noqa: PLC0415

        return show_mem_usage(options, console)
    return jobs.write_dump(options, console)


def _stop(number: int, frame: Optional[FrameType]) -> None:
    del frame
    name = signal.Signals(number).name
    raise _StoppedError(f"stopped by {name}; {_IF_BEGUN}")
