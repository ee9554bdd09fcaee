# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead kernel's log, in whichever of its three formats, as the lines of ``--dump-dmesg``."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.errors import FaultError, MissingFactError
from pydumpfile.kernel.log_buf import ByteRing, RecordBuffer
from pydumpfile.kernel.log_record import Log
from pydumpfile.kernel.printk_ring import PrintkRing
from pydumpfile.kernel.vmcore import Vmcore

_ADVICE = "without it the kernel's log cannot be found"
_DOING = "reading the kernel's log"
# By the symbol that only this format has.
_FORMATS = (("prb", PrintkRing), ("log_first_idx", RecordBuffer), ("log_end", ByteRing))


class LogLines(Iterator[bytes]):
    """The lines of a log, each with its newline."""

    def __init__(self, log: Log, callers: bool) -> None:
        self._log = log
        self._lines = log.lines(callers)

    def __next__(self) -> bytes:
        try:
            return next(self._lines)
        except FaultError as error:
            error.within(_DOING)
            raise

    @property
    def unreadable(self) -> int:
        """Messages so far that memory which cannot be read has taken: a line says where."""
        return self._log.unreadable

    @property
    def unfinished(self) -> int:
        """Messages so far that are not whole, as if just being written: left out above."""
        return self._log.unfinished

    @property
    def unit(self) -> str:
        """What these count; a log without records has pages of messages."""
        return self._log.unit


def log_lines(vmcore: Vmcore, partial: bool = False, *, callers: bool = True) -> LogLines:
    """The dead kernel's log, oldest line first, in the layout of makedumpfile's ``--dump-dmesg``.

    Where the log lies is looked up at once, its text as the lines are asked for: a few KiB at a
    time, however large it is.

    :param partial: only what was logged since the log was last cleared (``dmesg -C``).
    :param callers: with a field that says which thread or CPU printed the line, where the kernel
        keeps that: since 5.10 always. makedumpfile has it since 1.7.5; the kernel's own console
        only shows it with CONFIG_PRINTK_CALLER.

    :raises MissingFactError: nothing says where the log is, or how it is laid out.
    :raises FormatError: what is said cannot be.
    :raises FaultError: the log is not there, or so damaged that the next record cannot be found;
        perhaps after some lines.
    """
    if vmcore.facts is None:
        raise MissingFactError("VMCOREINFO", f"the notes of {vmcore.source.path}", _ADVICE)
    facts = vmcore.facts.advising(_ADVICE)
    for symbol, form in _FORMATS:
        if facts.find_symbol(symbol) is None:
            continue
        try:
            return LogLines(form(facts, vmcore.memory, partial), callers)
        except FaultError as error:
            error.within(_DOING)
            raise
    raise MissingFactError(
        " or ".join(f"SYMBOL({symbol})" for symbol, _ in _FORMATS), facts.looked_in, _ADVICE
    )
