# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGINT, SIGTERM and SIGHUP: what they do to the command while it works, and before and after.

Whoever is ignored stays ignored: a shell has its background jobs ignore SIGINT, nohup SIGHUP.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # as type checkers know it: a signal may come while more is loaded
if TYPE_CHECKING:
    from types import FrameType
    from typing import Callable, NoReturn, Optional

    Handler = Callable[[int, Optional[FrameType]], object]

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_quietly(status: int) -> None:
    """From now on they end the process at once, with ``status``: there is nothing to clean up.

    Not by an exception, which may come amid an import or in a destructor, where nobody can catch
    it and Python shows it.
    """
    _handle(lambda *_: os._exit(status))


class Raised:
    """In this ``with`` block each is a KeyboardInterrupt, which says its name; then as before."""

    def __enter__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in _NUMBERS}
        _handle(_raise)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _handle(handler: Handler) -> None:
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _raise(number: int, frame: Optional[FrameType]) -> NoReturn:
    del frame
    raise KeyboardInterrupt(signal.Signals(number).name)
