# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel log is, whatever its format: records, and the lines they are printed as.

A line is laid out as makedumpfile's ``--dump-dmesg`` does it: ``[seconds.microseconds] text``; if
the text has several lines, the others start in the same column.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import NamedTuple, Optional

_NSEC_PER_SEC = 1_000_000_000
_NSEC_PER_USEC = 1_000
_CALLER_IS_CPU = 1 << 31  # else a thread; kernel/printk/printk.c, printk_caller_id()
_CALLER_WIDTH = 8

# Printable and white space in the C locale. All else is escaped, each byte of UTF-8 too: a record
# may be cut inside a character, and a terminal must not see control sequences.
_PLAIN = bytes((*range(0x09, 0x0E), *range(0x20, 0x7F)))
_SHOWN = [bytes((byte,)) if byte in _PLAIN else b"\\x%02x" % byte for byte in range(256)]


class Record(NamedTuple):
    """One message."""

    ts_nsec: int
    """Nanoseconds since boot."""
    caller_id: Optional[int]
    """Thread, or CPU with bit 31 set, that printed it; None where the kernel does not say."""
    text: bytes
    """Without a newline at its end, but perhaps with some inside."""


class Log(abc.ABC):
    """One kernel's log. Opening it reads where it lies; its text is read line by line."""

    unit = "message"
    """What the two counters count, as far as lines were given."""
    unreadable = 0
    """There, but on memory that cannot be read: a marked line stands in their place."""
    unfinished = 0
    """Not whole in memory that can be read, mostly because they were just being written."""

    @abc.abstractmethod
    def lines(self, callers: bool) -> Iterator[bytes]:
        """Each line with its newline, oldest first.

        Where some could not be read, one line says how many.

        :param callers: with a field that says who printed it, where that is known.
        :raises FaultError: the log is damaged such that its next record cannot be found.
        """

    def _gap(self, n: int) -> bytes:
        """The line in place of ``n`` that could not be read."""
        return b"[pydumpfile: %s could not be read]\n" % counted(n, self.unit).encode()


class RecordLog(Log):
    """A log of records."""

    @abc.abstractmethod
    def records(self) -> Iterator[Record]:
        """What is there, oldest first; raises as :meth:`lines` does.

        What is not given is counted before the next record is.
        """

    def lines(self, callers: bool) -> Iterator[bytes]:
        told = 0
        for record in self.records():
            if self.unreadable > told:
                yield self._gap(self.unreadable - told)
                told = self.unreadable
            yield from lines_of(record, callers)
        if self.unreadable > told:
            yield self._gap(self.unreadable - told)


def counted(n: int, unit: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"


def lines_of(record: Record, callers: bool) -> Iterator[bytes]:
    """The lines of one record; a record without text is an empty line."""
    seconds, nsec = divmod(record.ts_nsec, _NSEC_PER_SEC)
    start = b"[%5d.%06d] " % (seconds, nsec // _NSEC_PER_USEC)
    if callers and record.caller_id is not None:
        kind = b"C" if record.caller_id & _CALLER_IS_CPU else b"T"
        caller = kind + b"%d" % (record.caller_id & ~_CALLER_IS_CPU)
        start += b"[" + caller.rjust(_CALLER_WIDTH) + b"] "
    indent = b" " * len(start)
    for line in _escape(record.text).split(b"\n"):
        yield start + line + b"\n"
        start = indent


def _escape(text: bytes) -> bytes:
    if not text.translate(None, _PLAIN):
        return text
    return b"".join([_SHOWN[byte] for byte in text])
