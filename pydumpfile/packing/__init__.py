# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 5: kept pages to the bytes of a dump, a batch at a time.

A :class:`Packer` lists the next pages of a window of the bitmap, says which bytes it needs of them,
finds those that are zero, has the rest compressed, and lays out descriptors and data. The
:mod:`pydumpfile.packing.pipeline` runs several of them on threads.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Optional, Protocol

from pydumpfile import loops
from pydumpfile.codecs import Codec, make_codec
from pydumpfile.pfn import Range

BATCH_PAGES = 512
"""Pages of one batch at most: the bound of every buffer here."""
READ_GAP_PAGES = 8
"""Pages left out that are read all the same rather than asking for two pieces."""


class LaidOut(NamedTuple):
    """One batch as it goes into the dump; good until the packer starts another."""

    descriptors: memoryview
    data: memoryview


class Packer(Protocol):
    """The loops over pages: C, or its reference in Python."""

    @property
    def codec(self) -> Codec:
        """What pages are compressed with."""

    def next_page(self, bits: bytearray, first_bit: int) -> int:
        """The first bit set from ``first_bit`` on; the number of bits if there is none."""

    def list_pages(self, bits: bytearray, first_bit: int, end_bit: int) -> tuple[int, int]:
        """Start a batch with the pages of the bits set in ``[first_bit, end_bit)``.

        The page of a bit lies at byte offset ``(bit - first_bit) * page_size``.

        :return: how many pages the batch has, and the offset of the last; at least one must be set.
        """

    def spans(self, gap_pages: int = READ_GAP_PAGES) -> list[Range]:
        """The byte ranges that must be read for the batch, gaps up to ``gap_pages`` joined."""

    def make_dense(self) -> list[int]:
        """From now on pages lie one behind the other; the offsets they were listed at."""

    def encode(self, pages: memoryview, lost: Collection[int], share_zero: bool) -> int:
        """Find the zero pages of the batch, if they are to share one, and compress the others.

        :param pages: what the offsets count from; has to stay as it is until :meth:`lay_out`.
        :param lost: indices of the pages that could not be read: they get no descriptor.
        :return: how many pages are zero.
        """

    def lay_out(self, data_off: int, zero_off: int) -> LaidOut:
        """What the dump stores for the batch.

        :param data_off: file offset at which the data will be written.
        :param zero_off: file offset of the page that zero pages share.
        """


def make_packer(
    page_size: int, compression: str, compression_level: Optional[int] = None
) -> Packer:
    """The packer that PYDUMPFILE_KERNEL demands, with a codec of its own.

    :param compression: which codec, and how hard it tries; see
        :func:`pydumpfile.codecs.make_codec`, which also raises what there is to raise.
    """
    codec = make_codec(compression, compression_level)
    if loops.in_python():
        from pydumpfile.packing.reference import ReferencePacker  # noqa: PLC0415

        return ReferencePacker(page_size, codec)
    from pydumpfile.packing.native import NativePacker  # noqa: PLC0415

    return NativePacker(page_size, codec)
