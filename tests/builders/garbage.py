# SPDX-License-Identifier: GPL-2.0-or-later
"""Random struct pages, biased to the values that rules test: for differential tests."""

from __future__ import annotations

from random import Random

from .layouts import Layout
from .structpage import NODE_ZONE_BITS, WORD_MASK, StructPage


def _signed_32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


class GarbageMaker:
    """Makes struct pages whose words have nothing to do with each other."""

    def __init__(self, layout: Layout, rng: Random) -> None:
        self._layout = layout
        self._rng = rng
        self._bits = [1 << bit for bit in layout.flags.values()]
        if layout.pg_hugetlb is not None:
            self._bits.append(1 << layout.pg_hugetlb)
        self._bits.append(1 << layout.flags["head"])  # twice as often as the others
        known = list(layout.types.values())
        near = [value + 1 for value in known] + [value - 1 for value in known]
        both = [value & other for value in known for other in known]
        self._types = [-1] * 12 + [0, 1, 3] + known * 4 + near + both

    def _flags(self) -> int:
        rng = self._rng
        flags = NODE_ZONE_BITS
        for _ in range(rng.randrange(5)):
            flags |= rng.choice(self._bits)
        if rng.random() < 0.3:
            flags = flags & ~0xFF | rng.choice((0, 1, 2, 3, 4, 9, 10, 63, 64, 255))
        if rng.random() < 0.05:
            flags = rng.getrandbits(64)
        return flags

    def page(self) -> StructPage:
        """One random struct page."""
        rng = self._rng
        order = rng.choice((0, 0, 1, 1, 2, 3, 4, 9, 12, 63, 64, 255))
        dtor = rng.choice((0, 1, 2, 2, 3, 255))
        private = rng.choice((0, 0, 1, 2, 3, 4, 5, 10, 11, 1 << 32, rng.getrandbits(64)))
        mapping = rng.getrandbits(44) << 2 | rng.choice((0, 0, 0, 1, 1, 2, 3))
        return StructPage(
            flags=self._flags(),
            lru_next=rng.getrandbits(63) << 1 & WORD_MASK | (rng.random() < 0.15),
            lru_prev=rng.getrandbits(48) << 16 | order << 8 | dtor,
            mapping=mapping,
            pgoff=rng.getrandbits(64),
            private=private,
            mapcount=_signed_32(rng.choice(self._types)),
            refcount=rng.randrange(-1, 5),
            memcg_data=rng.getrandbits(64),
        )
