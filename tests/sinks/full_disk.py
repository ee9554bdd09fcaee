# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that fills, in place of the calls that write to the real one."""

from __future__ import annotations

import errno
import os

BLOCK = 4096


class Disk:
    """Of so many blocks; holes take none."""

    def __init__(self, n_blocks: int) -> None:
        self._n_blocks = n_blocks
        self._taken: set[int] = set()
        self._pwrite, self._ftruncate = os.pwrite, os.ftruncate

    def pwrite(self, fd: int, data: memoryview, off: int) -> int:
        """As much of it as there is space for."""
        end = off
        while end < off + len(data):
            if end // BLOCK not in self._taken:
                if len(self._taken) == self._n_blocks:
                    break
                self._taken.add(end // BLOCK)
            end = min(off + len(data), end - end % BLOCK + BLOCK)
        if end == off:
            raise OSError(errno.ENOSPC, "full")
        return self._pwrite(fd, data[: end - off], off)

    def ftruncate(self, fd: int, size: int) -> None:
        self._taken = {block for block in self._taken if block * BLOCK < size}
        self._ftruncate(fd, size)
