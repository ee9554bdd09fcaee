# SPDX-License-Identifier: GPL-2.0-or-later
"""Stored pages to pages, by other code than what stored them: python-zstandard, Python's zlib, and
the decompressors of lzo and snappy, which take no word for what they are handed.
"""

from __future__ import annotations

import ctypes
import zlib
from functools import cache

import zstandard

ZLIB, LZO, SNAPPY, ZSTD = 0x1, 0x2, 0x4, 0x20
"""As the format numbers them, in page descriptors and in the header's status."""
CODEC_FLAGS = {"none": 0, "zlib": ZLIB, "lzo": LZO, "snappy": SNAPPY, "zstd": ZSTD}


class DecompressError(Exception):
    """The bytes are not in the encoding they are said to be in."""


def decompress(flag: int, stored: bytes, page_size: int) -> bytes:
    """The page that ``stored`` is, in the encoding ``flag``.

    :raises DecompressError: it is not.
    """
    try:
        page = _decompressed(flag, stored, page_size)
    except (zlib.error, zstandard.ZstdError) as error:
        raise DecompressError(str(error)) from error
    if len(page) != page_size:
        raise DecompressError(f"a page expands to {len(page)} bytes")
    return page


def _decompressed(flag: int, stored: bytes, page_size: int) -> bytes:
    if flag == ZLIB:
        return zlib.decompress(stored)
    if flag == LZO:
        return _by_library("liblzo2.so.2", "lzo1x_decompress_safe", stored, page_size, None)
    if flag == SNAPPY:
        return _by_library("libsnappy.so.1", "snappy_uncompress", stored, page_size)
    if flag == ZSTD:
        size = zstandard.get_frame_parameters(stored).content_size
        if size != page_size:  # readers decompress in one shot
            raise DecompressError(f"a frame that says it has {size} bytes")
        return zstandard.ZstdDecompressor().decompress(stored)
    raise DecompressError(f"no encoding has the flag {flag:#x}")


@cache
def _library(soname: str) -> ctypes.CDLL:
    return ctypes.CDLL(soname)


def _by_library(
    soname: str, function: str, stored: bytes, page_size: int, *workspace: None
) -> bytes:
    page = ctypes.create_string_buffer(page_size)
    size = ctypes.c_size_t(page_size)
    status = getattr(_library(soname), function)(
        stored, ctypes.c_size_t(len(stored)), page, ctypes.byref(size), *workspace
    )
    if status:
        raise DecompressError(f"{function}() says {status}")
    return page.raw[: size.value]
