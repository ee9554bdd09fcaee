# SPDX-License-Identifier: GPL-2.0-or-later
"""The command: who starts it, and which part of it does what is asked for.

Under the name ``makedumpfile`` it keeps the contract that services rely on, see :mod:`.drop_in`.
Nothing is loaded before it is known what a signal is to do.
"""

from __future__ import annotations

import os
import sys

from pydumpfile import signals

TYPE_CHECKING = False  # as type checkers know it: a signal may come while more is loaded
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

PROGRAM = "pydumpfile"
_DROP_IN = "makedumpfile"
"""The other name, see :mod:`.drop_in`."""
_SUB_COMMANDS = ("compare", "doctor", "initramfs")
"""Modules here with a ``main`` each."""
_STOPPED = 1
"""Exit status of who was asked to stop."""


def entry() -> NoReturn:
    """The ``pydumpfile`` command, under whatever name it was called."""
    signals.leave_quietly(_STOPPED)
    program, why = os.path.basename(sys.argv[0]), ""
    try:
        from pydumpfile.cli.console import flush, ready_streams  # noqa: PLC0415

        ready_streams()
        status = main(sys.argv[1:], program)
        signals.leave_quietly(status)
        flush()
    except ImportError as error:
        status, why = 1, f"a part of it cannot be loaded: {error}"
    except MemoryError as error:
        from pydumpfile.errors import OutOfMemoryError  # noqa: PLC0415

        status, why = OutOfMemoryError.exit_code, str(OutOfMemoryError(str(error)))
    if why:
        try:
            os.write(2, f"{PROGRAM}: {why}\n".encode("utf-8", "backslashreplace"))
        finally:
            os._exit(1 if program == _DROP_IN else status)  # with what little there is
    sys.exit(status)


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run the command; returns its exit status.

    :param program: the name it was called by; ``makedumpfile`` is special.
    """
    if program != _DROP_IN and arguments and arguments[0] in _SUB_COMMANDS:
        return _run_sub_command(*arguments)
    from pydumpfile.cli import command  # noqa: PLC0415

    return command.run(arguments, program == _DROP_IN)


def _run_sub_command(name: str, *arguments: str) -> int:
    from importlib import import_module  # noqa: PLC0415

    from pydumpfile.cli.console import write_line  # noqa: PLC0415

    try:
        with signals.Raised():
            status: int = import_module(f"pydumpfile.cli.{name}").main(arguments)
            return status
    except KeyboardInterrupt as interrupt:
        write_line(f"{PROGRAM}: stopped by {interrupt}", sys.stderr)
        return _STOPPED
