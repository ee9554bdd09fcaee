# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/batch.c, csrc/zero.c and csrc/encode.c for Python; they run without the GIL.

What is lent to them is taken back however a call ends: an error keeps the frames it came through,
and Python before 3.12.7 crashes when it collects a memoryview that is still lent (gh-77894).
"""

from __future__ import annotations

from collections.abc import Collection

from pydumpfile._pagescan import ffi, lib
from pydumpfile.codecs import NO_WORKSPACE, Codec, Signature
from pydumpfile.errors import NativeError
from pydumpfile.formats.kdump import DESCRIPTOR_SIZE
from pydumpfile.packing import BATCH_PAGES, READ_GAP_PAGES, LaidOut
from pydumpfile.pfn import Range
from pydumpfile.variants import VARIANTS, variants


class NativePacker:
    """See :class:`pydumpfile.packing.Packer`."""

    def __init__(
        self, page_size: int, codec: Codec, batch_pages: int = BATCH_PAGES, variant: str = ""
    ) -> None:
        self.codec = codec
        self._page_size = page_size
        self._batch_pages = batch_pages
        self._variant = VARIANTS[variant or variants()[0]]
        self._compressor = _compressor(codec)
        self._n = self._used = 0
        self._out_size = lib.pydump_encode_room(batch_pages, page_size)
        self._offs = ffi.new("uint64_t[]", batch_pages)
        self._state = ffi.new("uint8_t[]", batch_pages)
        self._pairs = ffi.new("uint64_t[]", 2 * batch_pages)
        self._sizes = ffi.new("uint32_t[]", batch_pages)
        self._out = ffi.new("uint8_t[]", self._out_size)
        self._descriptors = ffi.new("uint8_t[]", batch_pages * DESCRIPTOR_SIZE)
        self._batch = ffi.new("struct pydump_batch *")
        self._batch.off, self._batch.state = self._offs, self._state
        self._batch.page_size, self._batch.codec_flag = page_size, codec.flag

    def next_page(self, bits: bytearray, first_bit: int) -> int:
        """The first bit set from ``first_bit`` on."""
        n_bits = 8 * len(bits)
        found = lib.pydump_list_pages(
            ffi.from_buffer("uint8_t[]", bits), first_bit, n_bits, 1, self._pairs, 1
        )
        return first_bit + int(self._pairs[0]) if found else n_bits

    def list_pages(self, bits: bytearray, first_bit: int, end_bit: int) -> tuple[int, int]:
        """Start a batch."""
        if end_bit > 8 * len(bits):
            raise NativeError("pydump_list_pages", lib.PYDUMP_BAD_ARGUMENT)
        self._n = lib.pydump_list_pages(
            ffi.from_buffer("uint8_t[]", bits), first_bit, end_bit, self._page_size,
            self._offs, self._batch_pages,
        )  # fmt: skip
        return self._n, int(self._offs[self._n - 1])

    def spans(self, gap_pages: int = READ_GAP_PAGES) -> list[Range]:
        """The byte ranges to read."""
        n = lib.pydump_spans(
            self._offs, self._n, self._page_size, gap_pages * self._page_size, self._pairs
        )
        flat = ffi.unpack(self._pairs, 2 * n)
        return list(zip(flat[0::2], flat[1::2]))

    def make_dense(self) -> list[int]:
        """From now on pages lie one behind the other."""
        listed = ffi.unpack(self._offs, self._n)
        self._offs[0 : self._n] = range(0, self._n * self._page_size, self._page_size)
        return list(listed)

    def encode(self, pages: memoryview, lost: Collection[int], share_zero: bool) -> int:
        """Find zero pages, compress the others."""
        n, batch = self._n, self._batch
        n_zero = 0
        with ffi.from_buffer("uint8_t[]", pages) as content:
            if share_zero:
                n_zero = lib.pydump_find_zero(
                    content, self._page_size, self._offs, n, self._state, self._variant
                )
                _checked("pydump_find_zero", n_zero)
            else:
                ffi.memmove(self._state, bytes(n), n)
            for i in lost:
                n_zero -= self._state[i] == lib.PYDUMP_PAGE_ZERO
                self._state[i] = lib.PYDUMP_PAGE_LOST
            batch.n, batch.pages = n, content
            self._used = _checked("pydump_encode", lib.pydump_encode(
                self._compressor, batch, self._out, self._out_size, self._sizes))  # fmt: skip
            batch.pages = ffi.NULL
        return n_zero

    def lay_out(self, data_off: int, zero_off: int) -> LaidOut:
        """Descriptors, and the data they point at."""
        self._batch.data_off, self._batch.zero_off = data_off, zero_off
        n_descriptors = lib.pydump_describe(self._batch, self._sizes, self._descriptors)
        return LaidOut(
            memoryview(ffi.buffer(self._descriptors, n_descriptors * DESCRIPTOR_SIZE)),
            memoryview(ffi.buffer(self._out, self._used)),
        )


def _compressor(codec: Codec) -> object:
    """``codec`` as the C wants it; it has to outlive the result."""
    if not codec.function:
        return ffi.NULL
    compressor = ffi.new("struct pydump_compressor *")
    compressor.function = ffi.cast("void (*)(void)", codec.function)
    compressor.workspace = ffi.cast("void *", codec.workspace)
    compressor.signature, compressor.level = codec.signature, codec.level
    compressor.passes_noise = codec.passes_noise
    return compressor


def _checked(function: str, result: int) -> int:
    if result == lib.PYDUMP_NO_MEMORY:
        raise MemoryError(NO_WORKSPACE)
    if result < 0:
        raise NativeError(function, result)
    return result


assert len(Signature) == lib.PYDUMP_SIGNATURES
