# SPDX-License-Identifier: GPL-2.0-or-later
"""One small job: the dead kernel's log to a text file or a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from pydumpfile.errors import PydumpfileError
from pydumpfile.kernel.log import LogLines, log_lines
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.sinks import Target
from pydumpfile.sinks.text import TextOutput

_PIECE_SIZE = 64 << 10


def write_log_file(vmcore: Vmcore, target: Target, partial: bool = False) -> LogLines:
    """Write the log of ``vmcore`` to ``target`` as text, a line a message.

    Nothing is created before the first line was found. Where reading fails half-way, what was read
    stays, and a last line says that and why.

    :param partial: only what came after the last ``dmesg -c``.
    :return: the lines, all of them taken, to ask what is not among them.
    :raises MissingFactError: the kernel does not describe its log.
    :raises PydumpfileError: another of its kinds.
    """
    lines = log_lines(vmcore, partial)
    first = next(lines, b"")
    output = TextOutput(target.path, target.overwrite, *vmcore.files, fd=target.fd)
    try:
        for piece in _pieces(chain((first,), lines)):
            output.append(piece)
        output.end()
    finally:
        output.close()
    return lines


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same text in fewer pieces."""
    piece = bytearray()
    try:
        for line in lines:
            piece += line
            if len(piece) >= _PIECE_SIZE:
                yield bytes(piece)
                piece.clear()
    except PydumpfileError as error:
        yield bytes(piece) + f"[pydumpfile: the log ends here: {error}]\n".encode()
        raise
    yield bytes(piece)
