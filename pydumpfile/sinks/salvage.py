# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left to do for a kdump-compressed dump that ends early: find its pages a descriptor."""

from __future__ import annotations

import errno
from contextlib import suppress
from struct import Struct

from pydumpfile.errors import OutputError
from pydumpfile.sinks.base import Output
from pydumpfile.sinks.gathered import Gathered

_ENOUGH_SIZE = 128 << 10
"""Bytes of data whose place is enough for the descriptors, in whole blocks."""


def salvage_pages(
    output: Output, data: Gathered, table: Gathered, described_off: int, byte_order: str = "<"
) -> None:
    """Write the descriptors in ``table`` of all pages that are in the file; no others.

    On a full disk there is no place for them, because so far the table was a hole; then the last
    of the pages are given up. What cannot be written even so is left: there is a more important
    error to be told. A stream without an end mark is refused as a whole, so nothing is done to one.

    :param data: data of the last of these pages.
    :param described_off: where the data of the first of them lies.
    """
    descriptors = table.take()
    off = table.end_off
    if not descriptors or not output.reads_back:
        return
    with suppress(OutputError):
        data.flush()
    try:
        output.write_at(off, _of_pages_within(output.size, descriptors, byte_order))
    except OutputError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return
        with suppress(OutputError):
            output.shorten(max(described_off, output.size - _ENOUGH_SIZE))
            output.write_at(off, _of_pages_within(output.size, descriptors, byte_order))


def _of_pages_within(file_size: int, descriptors: bytes, byte_order: str) -> bytes:
    """``descriptors``, of which those that point past the end are empty."""
    descriptor = Struct(byte_order + "qIIQ")
    return b"".join(
        descriptor.pack(page_off, size, *flags)
        if page_off + size <= file_size else bytes(descriptor.size)
        for page_off, size, *flags in descriptor.iter_unpack(descriptors)
    )  # fmt: skip
