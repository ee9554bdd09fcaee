# SPDX-License-Identifier: GPL-2.0-or-later
"""The output for text, line after line: a new file, or a descriptor such as standard output."""

from __future__ import annotations

import errno
import os
from typing import Optional

from pydumpfile.sinks.base import (
    Input,
    create,
    output_error,
    refuse_inputs,
    wait_until_writable,
)


class TextOutput:
    """Text on its way to a file or descriptor. Every method raises OutputError.

    :param path: a file to be created, or what messages call ``fd``.
    :param overwrite: replace the file if it exists.
    :param inputs: what is read; never written over.
    :param fd: an open descriptor instead; it stays open.
    :raises UsageError: it is one of the inputs.
    """

    def __init__(
        self, path: str, overwrite: bool, *inputs: Input, fd: Optional[int] = None
    ) -> None:
        self._path = path
        self._is_ours = fd is None
        if fd is not None:
            refuse_inputs(fd, path, *inputs)
        self._fd = create(path, overwrite, *inputs) if fd is None else fd

    def append(self, text: bytes) -> None:
        """Write all of ``text`` behind what was written before."""
        rest = memoryview(text)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                wait_until_writable(self._fd)
            except OSError as error:
                raise output_error(self._path, error, "writing the log") from error

    def end(self) -> None:
        """Return when all of it is on the disk, where there is one."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):  # a pipe, a terminal
                raise output_error(self._path, error, "writing the log to disk") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._is_ours:
            os.close(self._fd)
