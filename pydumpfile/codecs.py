# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages to compressed pages: the payload encodings of the kdump format.

A codec takes a block of pages at once, as segments of one buffer, and gives all results back in one
buffer. Every page is compressed on its own, because readers look pages up one at a time.
"""

from __future__ import annotations

import ctypes
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Protocol

from pydumpfile.errors import UnsupportedError, UsageError
from pydumpfile.formats.kdump import DUMP_DH_COMPRESSED_ZLIB, DUMP_DH_COMPRESSED_ZSTD

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LEVEL = 1  # what makedumpfile uses for both
NAMES = ("none", "zlib", "zstd")


class Encoded(NamedTuple):
    """Compressed pages, one behind the other: ``sizes`` are unsigned 64-bit.

    A size of 0, or one no smaller than the page, means that the page is to be stored as it is.
    """

    base: Buffer
    sizes: Buffer


class Compress2Loop(Protocol):
    """Runs a function with the signature of zlib's compress2() over ``n`` segments of ``pages``."""

    def __call__(
        self, function: int, level: int, pages: memoryview, segments: memoryview, n: int
    ) -> Encoded:
        """``function`` is its address; see pydumpfile.packing."""


class Codec(Protocol):
    """One payload encoding."""

    name: str
    flag: int
    """Its bit in page descriptors and, as the codec chosen, in the header's status."""

    def encode(self, pages: memoryview, segments: memoryview, n: int) -> Optional[Encoded]:
        """Compress ``n`` segments of ``pages``: (offset, length) pairs of unsigned 64-bit.

        None if this codec stores all pages as they are.
        """


class Uncompressed:
    """Pages as they are."""

    name = "none"
    flag = 0

    def encode(self, pages: memoryview, segments: memoryview, n: int) -> Optional[Encoded]:
        """Nothing to encode."""
        del pages, segments, n
        return None


class Zlib:
    """zlib streams, by the libz of the system."""

    name = "zlib"
    flag = DUMP_DH_COMPRESSED_ZLIB

    def __init__(self, loop: Compress2Loop) -> None:
        try:
            library = ctypes.CDLL("libz.so.1")
        except OSError as error:
            raise UnsupportedError("zlib without libz.so.1", "install zlib1g") from error
        self._compress2 = ctypes.cast(library.compress2, ctypes.c_void_p).value or 0
        self._loop = loop

    def encode(self, pages: memoryview, segments: memoryview, n: int) -> Optional[Encoded]:
        """One zlib stream a page."""
        return self._loop(self._compress2, _LEVEL, pages, segments, n)


class Zstd:
    """Zstandard frames, by python-zstandard."""

    name = "zstd"
    flag = DUMP_DH_COMPRESSED_ZSTD

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415  only dumps that use it pay for loading it

        if "multi_compress_to_buffer" not in zstandard.backend_features:
            raise UnsupportedError(
                f"zstd by zstandard's {zstandard.backend} backend",
                "install a zstandard built with its C extension, or use -c",
            )
        self._segments_of: Any = zstandard.BufferWithSegments
        # The content size stays in each frame: readers decompress in one shot.
        self._compressor: Any = zstandard.ZstdCompressor(level=_LEVEL)

    def encode(self, pages: memoryview, segments: memoryview, n: int) -> Optional[Encoded]:
        """One frame a page."""
        if not n:
            return None
        results = self._compressor.multi_compress_to_buffer(self._segments_of(pages, segments))
        return Encoded(b"".join(results), array("Q", map(len, results)))


def make_codec(name: str, loop: Compress2Loop) -> Codec:
    """The codec ``name``: one of ``NAMES``.

    :raises UsageError: there is no such codec.
    :raises UnsupportedError: its library is missing; says which package has it.
    """
    if name == "none":
        return Uncompressed()
    if name == "zlib":
        return Zlib(loop)
    if name == "zstd":
        return Zstd()
    raise UsageError(f"compression {name!r} is not one of {', '.join(NAMES)}")
