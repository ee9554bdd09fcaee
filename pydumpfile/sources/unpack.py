# SPDX-License-Identifier: GPL-2.0-or-later
"""Stored pages to pages, many at a time: what the loops are told, and which of them it is."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pydumpfile import loops
from pydumpfile.pfn import Range


class Stored(NamedTuple):
    """Where some pages' bytes are, and in which encoding: a column for each descriptor field."""

    offs: array[int]
    """``Q``: of the file."""
    sizes: array[int]
    """``I``: as stored."""
    flags: array[int]
    """``I``"""

    def only(self, parts: Sequence[Range]) -> Stored:
        """Those whose indices are in ``parts``."""
        if parts == [(0, len(self.offs))]:
            return self
        some = Stored(array("Q"), array("I"), array("I"))
        for start, end in parts:
            for column, whole in zip(some, self):
                column.extend(whole[start:end])
        return some


class UnpackedTo(NamedTuple):
    """Where the pages go."""

    buffer: memoryview
    places: array[int]
    """``Q``: of each page, in ``buffer``; it ends inside."""


class Unpacker(Protocol):
    """The loop over stored pages: C, or its reference in Python. For one thread."""

    def prepare(self, flag: int) -> None:
        """Find the library for an encoding.

        :raises UnsupportedError: it is not there.
        """

    def unpack(
        self, stored: Stored, data: memoryview, data_off: int, zero_off: int, to: UnpackedTo
    ) -> bool:
        """Fill pages from what is stored of them.

        :param data: bytes of the file, from ``data_off`` on.
        :param zero_off: where the one page is that pages of zeros share; 2^64 - 1 if none is.
        :return: whether all could be; some may have been if not.
        :raises UnsupportedError: the library of an encoding is not there.
        """


def make_unpacker(page_size: int) -> Unpacker:
    """The loop that PYDUMPFILE_KERNEL demands."""
    if loops.in_python():
        from pydumpfile.sources.unpack_reference import ReferenceUnpacker  # noqa: PLC0415

        return ReferenceUnpacker(page_size)
    from pydumpfile.sources.unpack_native import NativeUnpacker  # noqa: PLC0415

    return NativeUnpacker(page_size)
