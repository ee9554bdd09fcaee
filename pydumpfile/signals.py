# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGINT and SIGTERM: what they do to the command while it works, and before and after that.

Whoever is ignored stays ignored: a shell has its background jobs ignore SIGINT.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Callable, NoReturn, Optional

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, Optional[FrameType]], object]


def leave_quietly(status: int) -> None:
    """From now on they end the process at once, with ``status``: there is nothing to clean up.

    Not by an exception, which may come amid an import or in a destructor, where nobody can catch
    it and Python shows it.
    """
    _handle(lambda *_: os._exit(status))


@contextmanager
def raised() -> Iterator[None]:
    """Meanwhile each is a KeyboardInterrupt, which says its name; then all is as it was before."""
    before = {number: signal.getsignal(number) for number in _NUMBERS}
    try:
        _handle(_raise)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler: _Handler) -> None:
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _raise(number: int, frame: Optional[FrameType]) -> NoReturn:
    del frame
    raise KeyboardInterrupt(signal.Signals(number).name)
