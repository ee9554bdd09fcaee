# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/decode.c in plain Python: slow, obvious, and the measure of the C."""

from __future__ import annotations

import ctypes
from typing import Optional

from pydumpfile.decoders import FLAGS, Decoder, Signature
from pydumpfile.sources.unpack import Stored, UnpackedTo

_INT, _POINTER, _SIZE = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
_IN_OUT_SIZE = ctypes.POINTER(ctypes.c_size_t)
_PROTOTYPES = {
    Signature.UNCOMPRESS: ctypes.CFUNCTYPE(_INT, _POINTER, _IN_OUT_SIZE, _POINTER, _SIZE),
    Signature.LZO1X: ctypes.CFUNCTYPE(_INT, _POINTER, _SIZE, _POINTER, _IN_OUT_SIZE, _POINTER),
    Signature.SNAPPY: ctypes.CFUNCTYPE(_INT, _POINTER, _SIZE, _POINTER, _IN_OUT_SIZE),
    Signature.LIBDEFLATE: ctypes.CFUNCTYPE(
        _INT, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER
    ),
    Signature.ZSTD: ctypes.CFUNCTYPE(_SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE),
}


class ReferenceUnpacker:
    """See :class:`pydumpfile.sources.unpack.Unpacker`."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._decoders: dict[int, Decoder] = {}

    def prepare(self, flag: int) -> None:
        """Find the library for an encoding."""
        if flag not in self._decoders:
            self._decoders[flag] = Decoder(flag)

    def unpack(
        self, stored: Stored, data: memoryview, data_off: int, zero_off: int, to: UnpackedTo
    ) -> bool:
        """Fill pages from what is stored of them."""
        size = self._page_size
        for off, length, flags, place in zip(stored.offs, stored.sizes, stored.flags, to.places):
            if off == zero_off and (length, flags) == (size, 0):
                to.buffer[place : place + size] = bytes(size)
                continue
            start = off - data_off
            if length > size or not 0 <= start <= start + length <= len(data):
                return False
            page = self._page(flags, bytes(data[start : start + length]))
            if page is None:
                return False
            to.buffer[place : place + size] = page
        return True

    def _page(self, flags: int, stored: bytes) -> Optional[bytes]:
        if flags == 0:
            return stored if len(stored) == self._page_size else None
        if flags not in FLAGS:
            return None
        self.prepare(flags)
        return decompress(self._decoders[flags], stored, self._page_size)


def decompress(decoder: Decoder, stored: bytes, page_size: int) -> Optional[bytes]:
    """The page that the library makes of ``stored``; None if it makes none."""
    function, workspace = _PROTOTYPES[decoder.signature](decoder.function), decoder.workspace
    page = ctypes.create_string_buffer(page_size)
    length = ctypes.c_size_t(page_size)
    in_out = ctypes.byref(length)
    if decoder.signature is Signature.UNCOMPRESS:
        status = function(page, in_out, stored, len(stored))
    elif decoder.signature is Signature.LZO1X:
        status = function(stored, len(stored), page, in_out, None)
    elif decoder.signature is Signature.SNAPPY:
        status = function(stored, len(stored), page, in_out)
    elif decoder.signature is Signature.LIBDEFLATE:
        status = function(workspace, stored, len(stored), page, page_size, None)
    else:
        status = 0
        length.value = function(workspace, page, page_size, stored, len(stored))
    return page.raw if status == 0 and length.value == page_size else None
