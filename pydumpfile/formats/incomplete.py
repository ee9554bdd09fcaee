# SPDX-License-Identifier: GPL-2.0-or-later
"""How a dump of any format says that it is incomplete."""

from __future__ import annotations

from struct import Struct

from pydumpfile.formats.elf import EF_INCOMPLETE
from pydumpfile.formats.kdump import DUMP_DH_COMPRESSED_INCOMPLETE
from pydumpfile.formats.kdump import SIGNATURE as KDUMP_SIGNATURE

_STATUS_OFF, _BLOCK_SIZE_OFF = 424, 428
MARKED_SIZE = _BLOCK_SIZE_OFF + 4
"""Bytes of a dump that are enough to mark it."""
_BLOCK_SIZES = {1 << shift for shift in range(12, 17)}
_ELF_MAGIC = b"\x7fELF"
_ELF_CLASS64, _ELF_LSB, _ELF_MSB = 2, 1, 2
_E_FLAGS_OFF = 48

_U32 = {"<": Struct("<I"), ">": Struct(">I")}


def mark_incomplete(start: bytes) -> bytes:
    """The first bytes of a dump, marked; zeros if it is nothing that could be marked.

    A file whose first bytes are zeros is not opened by any reader.

    :param start: as many as there are; ``MARKED_SIZE`` are enough.
    """
    if start[:8] == KDUMP_SIGNATURE and len(start) >= MARKED_SIZE:
        for u32 in _U32.values():
            if u32.unpack_from(start, _BLOCK_SIZE_OFF)[0] in _BLOCK_SIZES:
                return _with_bits(start, u32, _STATUS_OFF, DUMP_DH_COMPRESSED_INCOMPLETE)
    if start[:5] == _ELF_MAGIC + bytes((_ELF_CLASS64,)) and len(start) >= _E_FLAGS_OFF + 4:
        order = {_ELF_LSB: "<", _ELF_MSB: ">"}.get(start[5])
        if order:
            return _with_bits(start, _U32[order], _E_FLAGS_OFF, EF_INCOMPLETE)
    return bytes(len(start))


def _with_bits(start: bytes, u32: Struct, off: int, bits: int) -> bytes:
    marked = bytearray(start)
    u32.pack_into(marked, off, u32.unpack_from(start, off)[0] | bits)
    return bytes(marked)
