# SPDX-License-Identifier: GPL-2.0-or-later
"""Bitmaps with one bit a pfn, least significant bit first."""

from __future__ import annotations

from collections.abc import Iterator


def empty(n_pfns: int) -> bytearray:
    """A bitmap of `n_pfns` zero bits."""
    return bytearray(-(-n_pfns // 8))


def fill(bitmap: bytearray, first: int, end: int, value: bool = True) -> None:
    """Set bits [first, end), or clear them."""
    end = min(end, len(bitmap) * 8)
    if first >= end:
        return
    first_byte, end_byte = -(-first // 8), end // 8
    if first_byte > end_byte:  # within one byte
        edges = [*range(first, end)]
    else:
        bitmap[first_byte:end_byte] = (b"\xff" if value else b"\0") * (end_byte - first_byte)
        edges = [*range(first, first_byte * 8), *range(end_byte * 8, end)]
    for at in edges:
        if value:
            bitmap[at >> 3] |= 1 << (at & 7)
        else:
            bitmap[at >> 3] &= ~(1 << (at & 7))


def test(bitmap: bytes, at: int) -> bool:
    """Whether bit `at` is set; False behind the end."""
    return at >> 3 < len(bitmap) and bool(bitmap[at >> 3] >> (at & 7) & 1)


def ones(bitmap: bytes) -> Iterator[int]:
    """Numbers of the set bits, ascending."""
    for at, byte in enumerate(bitmap):
        if byte:
            yield from (at * 8 + bit for bit in range(8) if byte >> bit & 1)


def runs(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """(first, end) of each run of set bits, ascending."""
    first = None
    for at, byte in enumerate(bitmap):
        if byte == (0xFF if first is not None else 0):
            continue
        for bit in range(8):
            if byte >> bit & 1:
                if first is None:
                    first = at * 8 + bit
            elif first is not None:
                yield first, at * 8 + bit
                first = None
    if first is not None:
        yield first, len(bitmap) * 8
