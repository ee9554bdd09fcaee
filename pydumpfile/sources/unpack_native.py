# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/decode.c for Python; it runs without the GIL."""

from __future__ import annotations

from pydumpfile._pagescan import ffi, lib
from pydumpfile.decoders import FLAGS, Decoder, Signature
from pydumpfile.errors import NativeError
from pydumpfile.sources.unpack import Stored, UnpackedTo


class NativeUnpacker:
    """See :class:`pydumpfile.sources.unpack.Unpacker`."""

    def __init__(self, page_size: int) -> None:
        self._held: dict[int, Decoder] = {}
        self._decoders = ffi.new("struct pydump_decoder[]", len(FLAGS))
        for slot, flag in enumerate(FLAGS):
            self._decoders[slot].flag = flag
        self._stored = ffi.new("struct pydump_stored *", {"page_size": page_size})

    def prepare(self, flag: int) -> None:
        """Find the library for an encoding."""
        if flag in self._held:
            return
        decoder = self._held[flag] = Decoder(flag)
        slot = self._decoders[FLAGS.index(flag)]
        slot.function = ffi.cast("void (*)(void)", decoder.function)
        slot.workspace = ffi.cast("void *", decoder.workspace)
        slot.signature = decoder.signature

    def unpack(
        self, stored: Stored, data: memoryview, data_off: int, zero_off: int, to: UnpackedTo
    ) -> bool:
        """Fill pages from what is stored of them."""
        for flag in set(stored.flags).intersection(FLAGS):
            self.prepare(flag)
        columns = (
            ffi.from_buffer("uint64_t[]", stored.offs),
            ffi.from_buffer("uint32_t[]", stored.sizes),
            ffi.from_buffer("uint32_t[]", stored.flags),
        )
        c_stored = self._stored
        c_stored.off, c_stored.size, c_stored.flags = columns
        c_stored.n, c_stored.zero_off = len(stored.offs), zero_off
        c_stored.data_off, c_stored.data_size = data_off, len(data)
        places, buffer = ffi.from_buffer("uint64_t[]", to.places), to.buffer
        with ffi.from_buffer("uint8_t[]", data) as content, ffi.from_buffer(buffer) as room:
            c_stored.data = content
            n = lib.pydump_decode(
                self._decoders, c_stored, places, ffi.cast("uint8_t *", room), len(buffer)
            )
            c_stored.data = ffi.NULL
        if n < 0:
            raise NativeError("pydump_decode", n)
        return bool(n == len(stored.offs))


assert len(Signature) == lib.PYDUMP_UNSIGNATURES and len(FLAGS) == lib.PYDUMP_DECODERS
