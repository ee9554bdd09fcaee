# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 2: pages out. Where to (file, stream) and in which format are two things, a file each."""

from __future__ import annotations

from typing import NamedTuple, Optional

from pydumpfile.errors import UsageError
from pydumpfile.sinks.base import Input, Output, check_creatable
from pydumpfile.sinks.file import OutputFile
from pydumpfile.sinks.flattened import FlattenedStream, check_stream

STDOUT = "STDOUT"
"""What messages call descriptor 1, in makedumpfile as well."""


class Target(NamedTuple):
    """Where something is to be written, and how."""

    path: str
    """A file; of a descriptor only what messages call it."""
    overwrite: bool = False
    """Replace the file if it exists; otherwise that is an error."""
    flattened: bool = False
    """As a stream that was never sought in, for :mod:`pydumpfile.rearrange` to make a file of."""
    fd: Optional[int] = None
    """An open descriptor, such as 1, instead of a file to be created; it stays open."""
    size_limit: Optional[int] = None
    """Bytes that may be written at most, to each part if there are several."""
    dry_run: bool = False
    """Write nothing, only say how much it would be."""
    parts: tuple[str, ...] = ()
    """Several files instead, each of which gets a part of the dump; ``path`` is the first."""
    splitblock_size: int = 1 << 30
    """Bytes of memory of which multiples the parts end at."""
    all_or_nothing: bool = False
    """If there is no space for one part, leave the others as well: all will be written again."""


def open_output(target: Target, *inputs: Input) -> Output:
    """Open ``target`` to be written.

    :param inputs: what is read; never written over.
    :raises OutputError: it cannot be created or written, or exists.
    :raises UsageError: it is nothing to write this to, or one of the inputs.
    """
    output = _open(target, inputs)
    output.size_limit = target.size_limit
    return output


def check_target(target: Target, *inputs: Input) -> None:
    """Raise what :func:`open_output` would, as far as that is known without touching anything."""
    if target.dry_run:
        return
    if target.fd is not None:
        if target.flattened:
            check_stream(target.fd, target.path, *inputs)
        return
    for path in target.parts or (target.path,):
        check_creatable(path, target.overwrite, *inputs)


def _open(target: Target, inputs: tuple[Input, ...]) -> Output:
    if target.fd is not None and not target.flattened:
        raise UsageError(f"{target.path}: only a flattened dump (-F) can go there")
    if target.dry_run:
        from pydumpfile.sinks.nothing import NoOutput  # noqa: PLC0415

        if target.flattened:
            return FlattenedStream.nowhere(target.path)
        return NoOutput(target.path)
    if target.fd is not None:
        return FlattenedStream(target.fd, target.path, *inputs)
    if target.flattened:
        return FlattenedStream.create(target.path, target.overwrite, *inputs)
    return OutputFile(target.path, target.overwrite, *inputs)
