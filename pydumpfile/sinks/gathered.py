# SPDX-License-Identifier: GPL-2.0-or-later
"""Consecutive bytes of a dump, gathered into large pieces before they are written."""

from __future__ import annotations

from pydumpfile.sinks.base import Bytes, Output


class Gathered:
    """Bytes of ``output`` from ``off`` on, written ``size`` at a time. Raises OutputError."""

    def __init__(self, output: Output, off: int, size: int) -> None:
        self._output = output
        self._off = off
        self._buffer = memoryview(bytearray(size))
        self._used = 0

    @property
    def end_off(self) -> int:
        """File offset of the next byte."""
        return self._off + self._used

    def has_room(self, n_bytes: int) -> bool:
        """Whether ``n_bytes`` more can be gathered without writing."""
        return self._used + n_bytes <= len(self._buffer)

    def write(self, data: Bytes) -> None:
        """Append ``data``."""
        if not self.has_room(len(data)):
            self.flush()
        if len(data) > len(self._buffer):
            self._output.write_at(self._off, data)
            self._off += len(data)
        else:
            self._buffer[self._used : self._used + len(data)] = data
            self._used += len(data)

    def flush(self) -> None:
        """Write what was gathered."""
        used = self._used
        self._output.write_at(self._off, self._buffer[:used])
        self._used = 0  # first: an interruption must not have them written a second time
        self._off += used

    def take(self) -> bytes:
        """What was gathered and not written, which is forgotten."""
        taken = bytes(self._buffer[: self._used])
        self._used = 0
        return taken
