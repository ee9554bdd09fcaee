# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/batch.c, zero.c and encode.c in plain Python: slow, obvious, and the measure of the C."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Optional

from pydumpfile.codecs import NO_WORKSPACE, Codec, Signature
from pydumpfile.errors import NativeError
from pydumpfile.formats.kdump import pack_descriptor
from pydumpfile.packing import BATCH_PAGES, READ_GAP_PAGES, LaidOut
from pydumpfile.pfn import Range


class ReferencePacker:
    """See :class:`pydumpfile.packing.Packer`."""

    def __init__(self, page_size: int, codec: Codec, batch_pages: int = BATCH_PAGES) -> None:
        self.codec = codec
        self._page_size = page_size
        self._batch_pages = batch_pages
        self._offs: list[int] = []
        self._stored: list[Optional[bytes]] = []
        """What is stored of each page that is not lost; None of those that share the zero page."""

    def next_page(self, bits: bytearray, first_bit: int) -> int:
        """The first bit set from ``first_bit`` on."""
        n_bits = 8 * len(bits)
        return next(_bits_set(bits, first_bit, n_bits), n_bits)

    def list_pages(self, bits: bytearray, first_bit: int, end_bit: int) -> tuple[int, int]:
        """Start a batch."""
        found = islice(_bits_set(bits, first_bit, end_bit), self._batch_pages)
        self._offs = [(bit - first_bit) * self._page_size for bit in found]
        return len(self._offs), self._offs[-1]

    def spans(self, gap_pages: int = READ_GAP_PAGES) -> list[Range]:
        """The byte ranges to read."""
        spans: list[Range] = []
        for off in self._offs:
            if spans and off <= spans[-1][1] + gap_pages * self._page_size:
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
        zero = bytes(self._page_size)
        self._stored = []
        for i, off in enumerate(self._offs):
            page = bytes(pages[off : off + self._page_size])
            if i in lost:
                continue
            self._stored.append(None if share_zero and page == zero else self._encoded(page))
        return self._stored.count(None)

    def _encoded(self, page: bytes) -> bytes:
        """``page``, compressed if it gets smaller by it."""
        if self.codec.passes_noise and is_noise(page):
            return page
        compressed = compress(self.codec, page)
        return compressed if compressed and len(compressed) < len(page) else page

    def lay_out(self, data_off: int, zero_off: int) -> LaidOut:
        """Descriptors, and the data they point at."""
        descriptors: list[bytes] = []
        data = bytearray()
        for stored in self._stored:
            if stored is None:
                descriptors.append(pack_descriptor(zero_off, self._page_size, 0))
                continue
            flag = self.codec.flag if len(stored) < self._page_size else 0
            descriptors.append(pack_descriptor(data_off + len(data), len(stored), flag))
            data += stored
        return LaidOut(memoryview(b"".join(descriptors)), memoryview(data))


def _bits_set(bits: bytearray, first_bit: int, end_bit: int) -> Iterator[int]:
    return (bit for bit in range(first_bit, end_bit) if bits[bit >> 3] >> (bit & 7) & 1)


def is_noise(page: bytes) -> bool:
    """Whether a page looks like random bytes, by a quarter of it."""
    n_runs, run_size = 16, 64
    if len(page) < n_runs * run_size:
        return False
    starts = [i * (len(page) // n_runs) for i in range(n_runs - 1)] + [len(page) - run_size]
    counts = Counter(b"".join(page[start : start + run_size] for start in starts))
    return 4666 <= sum(count * count for count in counts.values()) <= 5566


_INT, _POINTER, _SIZE = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
_IN_OUT_SIZE = ctypes.POINTER(ctypes.c_size_t)
_PROTOTYPES = {
    Signature.COMPRESS2: ctypes.CFUNCTYPE(_INT, _POINTER, _IN_OUT_SIZE, _POINTER, _SIZE, _INT),
    Signature.LZO1X: ctypes.CFUNCTYPE(_INT, _POINTER, _SIZE, _POINTER, _IN_OUT_SIZE, _POINTER),
    Signature.SNAPPY: ctypes.CFUNCTYPE(_INT, _POINTER, _SIZE, _POINTER, _IN_OUT_SIZE),
    Signature.LIBDEFLATE: ctypes.CFUNCTYPE(_SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE),
    Signature.ZSTD: ctypes.CFUNCTYPE(_SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE),
}
_Z_MEM_ERROR, _Z_BUF_ERROR = -4, -5
_ZSTD_MAX_RESULT = ctypes.c_size_t(-120).value
_ZSTD_MEMORY_ALLOCATION = ctypes.c_size_t(-64).value
_ZSTD_DST_SIZE_TOO_SMALL = ctypes.c_size_t(-70).value


def compress(codec: Codec, page: bytes) -> bytes:
    """``page`` as the codec's library compresses it; empty if that gave up."""
    if not codec.function:
        return b""
    function, workspace = _PROTOTYPES[codec.signature](codec.function), codec.workspace
    size, status = len(page), 0
    out = ctypes.create_string_buffer(size + size // 6 + 67)
    length = ctypes.c_size_t(len(out))
    if codec.signature is Signature.COMPRESS2:
        length.value = size - 1
        status = function(out, ctypes.byref(length), page, size, codec.level)
    elif codec.signature is Signature.LZO1X:
        status = function(page, size, out, ctypes.byref(length), workspace)
    elif codec.signature is Signature.SNAPPY:
        status = function(page, size, out, ctypes.byref(length))
    elif codec.signature is Signature.LIBDEFLATE:
        length.value = function(workspace, page, size, out, size - 1)
    else:
        length.value = function(workspace, out, size - 1, page, size)
        status = length.value if length.value > _ZSTD_MAX_RESULT else 0
    if status in {_Z_BUF_ERROR, _ZSTD_DST_SIZE_TOO_SMALL}:
        return b""
    if status in {_Z_MEM_ERROR, _ZSTD_MEMORY_ALLOCATION}:
        raise MemoryError(NO_WORKSPACE)
    if status:
        raise NativeError(codec.told, status)
    return out.raw[: length.value]
