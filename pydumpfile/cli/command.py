# SPDX-License-Identifier: GPL-2.0-or-later
"""A command line without a sub-command: to one job, and from how that ended to an exit status."""

from __future__ import annotations

from collections.abc import Sequence

from pydumpfile import signals
from pydumpfile.cli import drop_in, jobs
from pydumpfile.cli.console import Console
from pydumpfile.cli.options import Options, check, glimpse, read
from pydumpfile.errors import OutOfMemoryError, PydumpfileError

_IF_BEGUN = "a dump that was begun and not finished is marked incomplete"


class _StoppedError(PydumpfileError):
    """A signal asked to stop."""

    exit_code = 1


def run(arguments: Sequence[str], drop_in_name: bool) -> int:
    """Do what is asked for; returns the exit status.

    :param drop_in_name: it was asked of ``makedumpfile``.
    """
    options = glimpse(arguments)
    console = Console(data_on_stdout=options.flattened, drop_in=drop_in_name)
    understood, status = False, 0
    try:
        with signals.Raised():
            options = read(arguments)
            console = Console(_message_level(options), options.flattened, drop_in_name)
            check(options, takes_parts=not drop_in_name)
            understood = True
            status = _do(options, console)
    except PydumpfileError as error:
        status = error.exit_code
        if drop_in_name and not understood:
            drop_in.refuse(error, console)
        else:
            error.message += "" if understood else "; see pydumpfile --help"
            console.fail(error)
    except KeyboardInterrupt as interrupt:
        status = _StoppedError.exit_code
        console.fail(_StoppedError(f"stopped by {interrupt}; {_IF_BEGUN}"))
    except MemoryError as error:
        status = OutOfMemoryError.exit_code
        console.fail(OutOfMemoryError(str(error), _IF_BEGUN))
    if drop_in_name and not (options.only_asks or (options.mem_usage and not status)):
        return drop_in.end(status, console)
    return min(status, 1) if drop_in_name else status


def _message_level(options: Options) -> int:
    """What is to be said; of a command line that is only checked always what is wrong with it."""
    if options.check_params:
        return Options().message_level
    return options.message_level | 8 * options.debug | 16 * options.show_stats


def _do(options: Options, console: Console) -> int:
    """The one job that was asked for."""
    job = options.job
    if job == "help":
        return jobs.show_help(console)
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
