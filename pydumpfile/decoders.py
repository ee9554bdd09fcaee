# SPDX-License-Identifier: GPL-2.0-or-later
"""What stored pages are decompressed with: functions of libraries that are found at run time.

The counterpart of :mod:`pydumpfile.codecs`, which compresses. A page descriptor names the encoding
by a flag; the loops over pages are in :mod:`pydumpfile.sources`.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Callable, NamedTuple, Optional

from pydumpfile.codecs import Workspace, library_function
from pydumpfile.errors import UnsupportedError
from pydumpfile.formats.kdump import (
    DUMP_DH_COMPRESSED_LZO,
    DUMP_DH_COMPRESSED_SNAPPY,
    DUMP_DH_COMPRESSED_ZLIB,
    DUMP_DH_COMPRESSED_ZSTD,
)

FLAGS = (
    DUMP_DH_COMPRESSED_ZLIB,
    DUMP_DH_COMPRESSED_LZO,
    DUMP_DH_COMPRESSED_SNAPPY,
    DUMP_DH_COMPRESSED_ZSTD,
)
"""Of page descriptors: what there are decoders for."""


class Signature(IntEnum):
    """How a library's function is called; csrc/pagescan.h has the same numbers."""

    UNCOMPRESS = 0
    LZO1X = 1
    SNAPPY = 2
    LIBDEFLATE = 3
    ZSTD = 4


class _Library(NamedTuple):
    """One library that knows an encoding."""

    soname: str
    package: str
    """What to install, on Debian and on Fedora."""
    function: str
    signature: Signature
    workspace: Callable[[ctypes.CDLL], Optional[Workspace]]


class Decoder:
    """One encoding, ready to be decoded by one thread.

    :ivar function: address of the function, and how to call it by ``signature``.
    :ivar workspace: address of what it works in, or 0.
    :raises UnsupportedError: the library is missing; says which package has it.
    """

    def __init__(self, flag: int) -> None:
        name, libraries = _DECODERS[flag]
        for library in libraries:
            try:
                loaded = ctypes.CDLL(library.soname)
            except OSError:
                continue
            self.signature = library.signature
            self.function = library_function(loaded, library.function)
            self._held = library.workspace(loaded)
            self.workspace = self._held.address if self._held else 0
            return
        sonames = " or ".join(library.soname for library in libraries)
        raise UnsupportedError(
            f"reading pages compressed with {name} without {sonames}",
            f"install {libraries[-1].package}",
        )


def _no_workspace(library: ctypes.CDLL) -> None:
    del library


def _libdeflate_workspace(library: ctypes.CDLL) -> Workspace:
    library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
    free = library.libdeflate_free_decompressor
    free.argtypes, free.restype = (ctypes.c_void_p,), None
    return Workspace(library.libdeflate_alloc_decompressor(), free)


def _zstd_workspace(library: ctypes.CDLL) -> Workspace:
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    free = library.ZSTD_freeDCtx
    free.argtypes = (ctypes.c_void_p,)
    return Workspace(library.ZSTD_createDCtx(), free)


_DECODERS: dict[int, tuple[str, tuple[_Library, ...]]] = {
    DUMP_DH_COMPRESSED_ZLIB: ("zlib", (
        _Library("libdeflate.so.0", "libdeflate0 (Fedora: libdeflate)",
                 "libdeflate_zlib_decompress", Signature.LIBDEFLATE, _libdeflate_workspace),
        _Library("libz.so.1", "zlib1g (Fedora: zlib)",
                 "uncompress", Signature.UNCOMPRESS, _no_workspace),
    )),
    DUMP_DH_COMPRESSED_LZO: ("lzo", (
        _Library("liblzo2.so.2", "liblzo2-2 (Fedora: lzo)",
                 "lzo1x_decompress_safe", Signature.LZO1X, _no_workspace),
    )),
    DUMP_DH_COMPRESSED_SNAPPY: ("snappy", (
        _Library("libsnappy.so.1", "libsnappy1v5 (Fedora: snappy)",
                 "snappy_uncompress", Signature.SNAPPY, _no_workspace),
    )),
    DUMP_DH_COMPRESSED_ZSTD: ("zstd", (
        _Library("libzstd.so.1", "libzstd1 (Fedora: libzstd)",
                 "ZSTD_decompressDCtx", Signature.ZSTD, _zstd_workspace),
    )),
}  # fmt: skip
"""Name and libraries by flag, the preferred library first."""
