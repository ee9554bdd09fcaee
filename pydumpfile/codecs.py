# SPDX-License-Identifier: GPL-2.0-or-later
"""What pages are compressed with: functions of libraries that are found at run time.

A codec is such a function with all it is called with; the loops over pages are in
:mod:`pydumpfile.packing`. Every page is compressed on its own, because readers look pages up one at
a time.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Callable, NamedTuple, Optional

from pydumpfile.errors import UnsupportedError, UsageError
from pydumpfile.formats.kdump import (
    DUMP_DH_COMPRESSED_LZO,
    DUMP_DH_COMPRESSED_SNAPPY,
    DUMP_DH_COMPRESSED_ZLIB,
    DUMP_DH_COMPRESSED_ZSTD,
)

NAMES = ("none", "zlib", "lzo", "snappy", "zstd")
"""From what every reader knows to what only newer ones do."""
AUTO = "auto"
"""In the place of a name: whatever :mod:`pydumpfile.codec_choice` finds to be best."""
NO_WORKSPACE = "nothing left for a compression library to work in"
"""What a MemoryError says; zstd and zlib allocate some of it only at their first page."""


class Signature(IntEnum):
    """How a library's function is called; csrc/pagescan.h has the same numbers."""

    COMPRESS2 = 0
    LZO1X = 1
    SNAPPY = 2
    LIBDEFLATE = 3
    ZSTD = 4


class Workspace:
    """Memory that a function works in and only one thread may use at a time."""

    def __init__(self, address: Optional[int], free: Callable[[int], object]) -> None:
        if not address:
            raise MemoryError(NO_WORKSPACE)
        self.address = address
        self._free = free

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self._free(self.address)


class _Library(NamedTuple):
    """One library that can do what a codec needs."""

    soname: str
    package: str
    """What to install, on Debian and on Fedora."""
    function: str
    signature: Signature
    levels: range
    """Empty if it knows no levels."""
    usual_level: int
    """Taken where nobody says: the fastest that is worth it; 0 without levels."""
    workspace: Callable[[ctypes.CDLL, int], Optional[Workspace]]
    passes_noise: bool = False
    """Takes as long for data that cannot be compressed, and so is not asked to."""


class Codec:
    """One way to store pages, ready to be used by one thread; ``none`` has no function.

    :ivar name: one of ``NAMES``.
    :ivar flag: its bit in page descriptors and, as the codec chosen, in the header's status.
    :ivar library: what the function is in, by its soname; "" if there is none.
    :ivar told: for people: codec, library and level.
    :ivar level: what the library was told; 0 if it knows no levels.
    :ivar function: address of the function, and how to call it by ``signature``.
    :ivar workspace: address of what it works in, or 0.
    :ivar passes_noise: pages that look like random bytes are stored as they are, untried.
    """

    def __init__(self, name: str, level: Optional[int] = None) -> None:
        self.name = name
        self.flag, libraries = _CODECS[name]
        self.told = name
        self.library = ""
        self.level = self.function = self.workspace = 0
        self.signature = Signature.COMPRESS2
        self.passes_noise = False
        self._held: Optional[Workspace] = None
        if not libraries:
            if level is not None:
                _check_level(name, range(0), level)
            return
        library, loaded = _first_present(name, libraries)
        self.library = library.soname
        self.level = library.usual_level
        if level is not None:
            self.level = _check_level(f"{name} by {library.soname}", library.levels, level)
        self.signature = library.signature
        self.passes_noise = library.passes_noise
        self.function = library_function(loaded, library.function)
        self._held = library.workspace(loaded, self.level)
        self.workspace = self._held.address if self._held else 0
        at_level = f", level {self.level}" if library.levels else ""
        self.told = f"{name} by {library.soname}{at_level}"


def make_codec(name: str, level: Optional[int] = None) -> Codec:
    """The codec ``name``: one of ``NAMES``.

    :param level: how hard to try; None is 1 for zlib and -1 for zstd.
    :raises UsageError: there is no such codec, or it has no such level.
    :raises UnsupportedError: its library is missing; says which package has it.
    """
    if name not in _CODECS:
        raise UsageError(f"compression {name!r} is not one of {', '.join(NAMES)}")
    return Codec(name, level)


def available() -> dict[str, str]:
    """For each codec of ``NAMES`` why it cannot be used here; "" if it can."""
    reasons = {}
    for name in NAMES:
        try:
            make_codec(name)
        except UnsupportedError as error:
            reasons[name] = str(error)
        else:
            reasons[name] = ""
    return reasons


def _first_present(codec: str, libraries: tuple[_Library, ...]) -> tuple[_Library, ctypes.CDLL]:
    """The preferred library among those that are installed."""
    for library in libraries:
        try:
            return library, ctypes.CDLL(library.soname)
        except OSError:
            continue
    sonames = " or ".join(library.soname for library in libraries)
    raise UnsupportedError(f"{codec} without {sonames}", f"install {libraries[-1].package}")


def _check_level(what: str, levels: range, level: int) -> int:
    if level in levels:
        return level
    has = f"levels {levels[0]} to {levels[-1]}" if levels else "no compression levels"
    raise UsageError(f"{what} has {has}, not {level}")


def library_function(library: ctypes.CDLL, function: str) -> int:
    """The address of ``function``.

    :raises UnsupportedError: the library is too old to have it.
    """
    try:
        return ctypes.cast(getattr(library, function), ctypes.c_void_p).value or 0
    except AttributeError as error:
        raise UnsupportedError(
            f"{library._name} without {function}()", "install a newer one"
        ) from error


# What the functions work in


def _no_workspace(library: ctypes.CDLL, level: int) -> None:
    del library, level


def _lzo_workspace(library: ctypes.CDLL, level: int) -> Workspace:
    """LZO1X_1_12_MEM_COMPRESS, after the library has checked itself as it demands (lzo_init())."""
    del level
    unchecked = (-1,) * 9  # sizes of types, which a C program would have from the header
    if library["__lzo_init_v2"](library.lzo_version(), *unchecked):
        raise UnsupportedError("lzo", f"{library._name} is broken: its lzo_init() fails")
    memory = ctypes.create_string_buffer(4096 * ctypes.sizeof(ctypes.c_void_p))
    return Workspace(ctypes.addressof(memory), lambda _: memory)


def _libdeflate_workspace(library: ctypes.CDLL, level: int) -> Workspace:
    library.libdeflate_alloc_compressor.restype = ctypes.c_void_p
    free = library.libdeflate_free_compressor
    free.argtypes, free.restype = (ctypes.c_void_p,), None
    return Workspace(library.libdeflate_alloc_compressor(level), free)


def _zstd_workspace(library: ctypes.CDLL, level: int) -> Workspace:
    """A context with the level set, all else as it comes: content sizes, which readers want."""
    compression_level = 100  # ZSTD_c_compressionLevel
    library.ZSTD_createCCtx.restype = ctypes.c_void_p
    free, configure = library.ZSTD_freeCCtx, library.ZSTD_CCtx_setParameter
    free.argtypes = (ctypes.c_void_p,)
    configure.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    workspace = Workspace(library.ZSTD_createCCtx(), free)
    configure(workspace.address, compression_level, level)
    return workspace


# libdeflate 1 is about 5 times as fast as zlib 1 and its streams a little smaller. ISA-L is faster
# still, but its caller has to know the layout of a large structure, and its streams are larger.
_LIBDEFLATE = _Library(
    "libdeflate.so.0", "libdeflate0 (Fedora: libdeflate)", "libdeflate_zlib_compress",
    Signature.LIBDEFLATE, range(1, 13), 1, _libdeflate_workspace, True,
)  # fmt: skip
_ZLIB = _Library(
    "libz.so.1", "zlib1g (Fedora: zlib)", "compress2",
    Signature.COMPRESS2, range(1, 10), 1, _no_workspace, True,
)  # fmt: skip
# The streams of lzo1x_1_compress(), which clears 32 KiB of dictionary for each page of 4 KiB; this
# one clears 8 KiB and is faster by an eighth, its results larger by a 600th.
_LZO = _Library(
    "liblzo2.so.2", "liblzo2-2 (Fedora: lzo)", "lzo1x_1_12_compress",
    Signature.LZO1X, range(0), 0, _lzo_workspace,
)  # fmt: skip
_SNAPPY = _Library(
    "libsnappy.so.1", "libsnappy1v5 (Fedora: snappy)", "snappy_compress",
    Signature.SNAPPY, range(0), 0, _no_workspace,
)  # fmt: skip
# Level 1 without the Huffman coding of literals: half as fast again for a file 6 % larger, which is
# still a fifth smaller than with lzo, and then takes no longer than that.
_ZSTD = _Library(
    "libzstd.so.1", "libzstd1 (Fedora: libzstd)", "ZSTD_compress2",
    Signature.ZSTD, range(-100, 20), -1, _zstd_workspace,
)  # fmt: skip

_CODECS: dict[str, tuple[int, tuple[_Library, ...]]] = {
    "none": (0, ()),
    "zlib": (DUMP_DH_COMPRESSED_ZLIB, (_LIBDEFLATE, _ZLIB)),
    "lzo": (DUMP_DH_COMPRESSED_LZO, (_LZO,)),
    "snappy": (DUMP_DH_COMPRESSED_SNAPPY, (_SNAPPY,)),
    "zstd": (DUMP_DH_COMPRESSED_ZSTD, (_ZSTD,)),
}
"""Flag and libraries of each codec, the preferred library first."""
