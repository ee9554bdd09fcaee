# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/zero.c and csrc/encode.c in plain Python: slow, obvious, and the measure of the C."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice

from pydumpfile.codecs import Encoded, make_codec
from pydumpfile.formats.kdump import pack_descriptor
from pydumpfile.packing import BATCH_PAGES, READ_GAP_PAGES, Packed
from pydumpfile.pfn import Range


class ReferencePacker:
    """See :class:`pydumpfile.packing.Packer`."""

    def __init__(self, page_size: int, compression: str, batch_pages: int = BATCH_PAGES) -> None:
        self._page_size = page_size
        self._batch_pages = batch_pages
        self._codec = make_codec(compression, _compress2)
        self._offs: list[int] = []

    @property
    def codec_flag(self) -> int:
        """The header's status bit of the codec."""
        return self._codec.flag

    def next_page(self, bits: bytearray, first_bit: int) -> int:
        """The first bit set from ``first_bit`` on."""
        n_bits = 8 * len(bits)
        return next(_bits_set(bits, first_bit, n_bits), n_bits)

    def list_pages(self, bits: bytearray, first_bit: int, end_bit: int) -> tuple[int, int]:
        """Start a batch."""
        found = islice(_bits_set(bits, first_bit, end_bit), self._batch_pages)
        self._offs = [(bit - first_bit) * self._page_size for bit in found]
        return len(self._offs), self._offs[-1]

    def spans(self) -> list[Range]:
        """The byte ranges to read."""
        spans: list[Range] = []
        for off in self._offs:
            if spans and off <= spans[-1][1] + READ_GAP_PAGES * self._page_size:
                spans[-1] = (spans[-1][0], off + self._page_size)
            else:
                spans.append((off, off + self._page_size))
        return spans

    def make_dense(self) -> list[int]:
        """From now on pages lie one behind the other."""
        listed = self._offs
        self._offs = [i * self._page_size for i in range(len(listed))]
        return listed

    def pack(self, pages: memoryview, lost: Sequence[int], data_off: int, zero_off: int) -> Packed:
        """Find zero pages, compress the others, lay all out."""
        size = self._page_size
        contents = [bytes(pages[off : off + size]) for off in self._offs]
        zero = bytes(size)
        to_store = [
            i for i, page in enumerate(contents)
            if i not in lost and not (zero_off and page == zero)
        ]  # fmt: skip
        payloads = self._encode(pages, to_store, contents)
        descriptors: list[bytes] = []
        data = bytearray()
        for i in range(len(contents)):
            if i in lost:
                continue
            if i in payloads:
                payload, flag = payloads[i]
                descriptors.append(pack_descriptor(data_off + len(data), len(payload), flag))
                data += payload
            else:
                descriptors.append(pack_descriptor(zero_off, size, 0))
        n_zero = len(contents) - len(to_store) - len(lost)
        return Packed(memoryview(b"".join(descriptors)), memoryview(data), n_zero)

    def _encode(
        self, pages: memoryview, to_store: Sequence[int], contents: Sequence[bytes]
    ) -> dict[int, tuple[bytes, int]]:
        """What is stored for each page, and its descriptor's flag."""
        pairs = array("Q", (v for i in to_store for v in (self._offs[i], self._page_size)))
        encoded = self._codec.encode(pages, memoryview(pairs).cast("B"), len(to_store))
        stored = {i: (contents[i], 0) for i in to_store}
        at = 0
        for i, size in zip(
            to_store, memoryview(encoded.sizes).cast("B").cast("Q") if encoded else ()
        ):
            assert encoded is not None
            if 0 < size < self._page_size:
                stored[i] = bytes(memoryview(encoded.base)[at : at + size]), self._codec.flag
            at += size
        return stored


def _bits_set(bits: bytearray, first_bit: int, end_bit: int) -> Iterator[int]:
    return (bit for bit in range(first_bit, end_bit) if bits[bit >> 3] >> (bit & 7) & 1)


def _compress2(
    function: int, level: int, pages: memoryview, segments: memoryview, n: int
) -> Encoded:
    """The C loop, by Python's own zlib, which is held to be the same library."""
    del function
    pairs = segments.cast("Q")
    results = []
    for i in range(n):
        off, size = pairs[2 * i], pairs[2 * i + 1]
        compressed = zlib.compress(pages[off : off + size], level)
        results.append(compressed if len(compressed) < size else b"")
    return Encoded(b"".join(results), array("Q", map(len, results)))
