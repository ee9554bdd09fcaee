# SPDX-License-Identifier: GPL-2.0-or-later
"""The output of a dry run: nothing is written, only counted."""

from __future__ import annotations

from pydumpfile.sinks.base import Bytes, Output


class NoOutput(Output):
    """As if a new file were written; what is at ``path`` is neither touched nor looked at."""

    def write_at(self, off: int, data: Bytes) -> None:
        self._grow(off + len(self._fitting(off, data)))
        self._check_limit(off + len(data))

    def extend(self, size: int) -> None:
        self._check_limit(size)
        self._grow(size)

    def rewrite_start(self, data: Bytes) -> None:
        self.write_at(0, data)

    def sync(self) -> None:
        pass

    def end(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _grow(self, size: int) -> None:
        self.size = max(self.size, size)
