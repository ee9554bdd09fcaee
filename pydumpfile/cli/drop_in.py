# SPDX-License-Identifier: GPL-2.0-or-later
"""Under the name ``makedumpfile``: how it refuses, shows progress and ends.

Scripts know these lines and streams; what is said between them is pydumpfile's own.
"""

from __future__ import annotations

import sys
import time

from pydumpfile.cli.console import Console, write_line
from pydumpfile.cli.options import SpellingError
from pydumpfile.errors import MismatchError, PydumpfileError

NAME = "makedumpfile"
SURFACE = "1.7.9"
"""The makedumpfile whose options and exit codes these are."""

_JUDGING, _COPYING = "judging pages", "copying pages"
_LABELS = {_JUDGING: "Excluding unnecessary pages", _COPYING: "Copying data"}
"""Of the steps that makedumpfile shows at all."""
_SPINNER = "/|\\-"


def refuse(error: PydumpfileError, console: Console) -> None:
    """A command line that is none: said as a common message, not as an error."""
    if isinstance(error, SpellingError):
        write_line(f"{NAME}: {error}", sys.stderr)  # as getopt does, at any message level
    else:
        console.say(str(error))
    console.say(f"Commandline parameter is invalid.\nTry `{NAME} --help' for more information.")


def end(status: int, console: Console) -> int:
    """The last line, and of the exit statuses there are, which one: 2 says "another release"."""
    console.say(f"\n{NAME} {'Failed' if status else 'Completed'}.")
    return status if status == MismatchError.exit_code else min(status, 1)


class Percentages:
    """Progress in makedumpfile's form, on terminals and elsewhere: 85 bytes a second at most."""

    def __init__(self) -> None:
        self._step = ""
        self._step_began = 0.0
        self._last = 0.0
        self._n_shown = 0

    def __call__(self, step: str, done: int, total: int) -> None:
        """See :data:`pydumpfile.progress.Progress`."""
        if step not in _LABELS or not total:
            return
        now = time.monotonic()
        if step != self._step:
            self._step, self._step_began = step, now
        if done < total and now - self._last < 1:
            return
        self._last = now
        eta = ""
        if step == _COPYING and done:
            eta = f"eta: {duration((now - self._step_began) * (total - done) / done)}"
        write_line(
            f"\r{_LABELS[step]:<50}: [{100 * done / total:5.1f} %] "
            f"{_SPINNER[self._n_shown % 4]}  {eta:>16}",
            sys.stderr,
            end="",
        )
        self._n_shown += 1

    def close(self) -> None:
        """Whatever comes next begins a line."""
        if self._n_shown:
            write_line("", sys.stderr)
            self._n_shown = 0


def duration(seconds: float) -> str:
    """Two units at most, as ``99s``, ``99m59s``, ``47h59m`` or ``99d23h``."""
    whole = int(seconds)
    minutes, hours = whole // 60, whole // 3600
    if whole < 100:
        return f"{whole}s"
    if minutes < 100:
        return f"{minutes}m{whole % 60}s"
    if hours < 48:
        return f"{hours}h{minutes % 60}m"
    return f"{hours // 24}d{hours % 24}h"
