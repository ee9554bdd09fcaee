# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/zero.c for Python, for pages that lie one behind the other."""

from __future__ import annotations

from pydumpfile._pagescan import ffi, lib
from pydumpfile.errors import NativeError
from pydumpfile.filter.zeropages import CHUNK_PAGES
from pydumpfile.variants import VARIANTS, variants


class NativeZeroTest:
    """See :class:`pydumpfile.filter.zeropages.ZeroTest`. Holds no GIL while it looks."""

    def __init__(self, page_size: int, variant: str = "") -> None:
        self._page_size = page_size
        self._variant = VARIANTS[variant or variants()[0]]
        self._offs = ffi.new("uint64_t[]", list(range(0, CHUNK_PAGES * page_size, page_size)))
        self._zero = ffi.new("uint8_t[]", CHUNK_PAGES)

    def find(self, pages: memoryview) -> bytes:
        """Of each page whether it is zero: 1 or 0.

        :raises NativeError: they are too many, or no whole pages.
        """
        n, rest = divmod(len(pages), self._page_size)
        if n > CHUNK_PAGES or rest:
            raise NativeError("pydump_find_zero", lib.PYDUMP_BAD_ARGUMENT)
        with ffi.from_buffer("uint8_t[]", pages) as content:
            status = lib.pydump_find_zero(
                content, self._page_size, self._offs, n, self._zero, self._variant
            )
        if status < 0:
            raise NativeError("pydump_find_zero", status)
        return bytes(ffi.buffer(self._zero, n))
