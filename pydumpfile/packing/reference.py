# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/zero.c and csrc/encode.c in plain Python: slow, obvious, and the measure of the C."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Optional

from pydumpfile.codecs import Encoded, make_codec
from pydumpfile.formats.kdump import pack_descriptor
from pydumpfile.packing import BATCH_PAGES, READ_GAP_PAGES, LaidOut
from pydumpfile.pfn import Range


class ReferencePacker:
    """See :class:`pydumpfile.packing.Packer`."""

    def __init__(self, page_size: int, compression: str, batch_pages: int = BATCH_PAGES) -> None:
        self._page_size = page_size
        self._batch_pages = batch_pages
        self._codec = make_codec(compression, _compress2)
        self._offs: list[int] = []
        self._contents: list[bytes] = []
        self._lost: set[int] = set()
        self._to_store: list[int] = []
        self._encoded: Optional[Encoded] = None

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

    def encode(self, pages: memoryview, lost: Collection[int], share_zero: bool) -> int:
        """Find zero pages, compress the others."""
        size = self._page_size
        zero = bytes(size)
        self._contents = [bytes(pages[off : off + size]) for off in self._offs]
        self._lost = set(lost)
        self._to_store = [
            i for i, page in enumerate(self._contents)
            if i not in self._lost and not (share_zero and page == zero)
        ]  # fmt: skip
        pairs = array("Q", (v for i in self._to_store for v in (self._offs[i], size)))
        n = len(self._to_store)
        self._encoded = self._codec.encode(pages, memoryview(pairs).cast("B"), n)
        return len(self._contents) - n - len(self._lost)

    def lay_out(self, data_off: int, zero_off: int) -> LaidOut:
        """Descriptors and data, one behind the other."""
        payloads = self._payloads()
        descriptors: list[bytes] = []
        data = bytearray()
        for i in range(len(self._contents)):
            if i in self._lost:
                continue
            if i in payloads:
                payload, flag = payloads[i]
                descriptors.append(pack_descriptor(data_off + len(data), len(payload), flag))
                data += payload
            else:
                descriptors.append(pack_descriptor(zero_off, self._page_size, 0))
        return LaidOut(memoryview(b"".join(descriptors)), memoryview(data))

    def _payloads(self) -> dict[int, tuple[bytes, int]]:
        """What is stored for each page that is, and its descriptor's flag."""
        payloads = {i: (self._contents[i], 0) for i in self._to_store}
        if self._encoded is None:
            return payloads
        base = memoryview(self._encoded.base)
        at = 0
        for i, size in zip(self._to_store, memoryview(self._encoded.sizes).cast("B").cast("Q")):
            if 0 < size < self._page_size:
                payloads[i] = bytes(base[at : at + size]), self._codec.flag
            at += size
        return payloads


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
