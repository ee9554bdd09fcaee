# SPDX-License-Identifier: GPL-2.0-or-later
"""The machines whose dumps are compared: which pages the two keep differently, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.builders import CoreSpec

from .inputs import MIB, PLAIN

SOME_LEVELS = (0, 1, 31)
EACH_BIT = (0, 1, 2, 4, 8, 16, 31)
ALL_LEVELS = tuple(range(32))


class Machine(NamedTuple):
    """A synthetic core.

    :ivar levels: at which it is dumped.
    :ivar heading: the section of docs/differences.md that tells why dumps of it differ; empty: they
        must not.
    :ivar only_ours: the pfns that only pydumpfile keeps, at any level; None if nobody can tell.
    """

    spec: CoreSpec
    levels: Sequence[int] = SOME_LEVELS
    heading: str = ""
    only_ours: tuple[int, ...] | None = ()


def _whole(layout: str = "6.1", **knobs: object) -> CoreSpec:
    """Of whole pages, and otherwise as the knobs say."""
    usual: dict[str, object] = {"memory": ((MIB, 39 * MIB),), "filled": 0.3, "bad_orders": False}
    return CoreSpec(layout=layout, **{**usual, **knobs})  # type: ignore[arg-type]


MACHINES = {
    "Linux 5.15": Machine(PLAIN, ALL_LEVELS),
    "Linux 6.1": Machine(_whole(), EACH_BIT),
    "five-level page tables": Machine(_whole(levels=5, randomize_memory=True)),
    "classic SPARSEMEM": Machine(_whole(model="classic")),
    "FLATMEM": Machine(_whole(model="flatmem")),
    "holes in memory": Machine(
        _whole(memory=((MIB, 47 * MIB), (200 * MIB, 10 * MIB), (1 << 30, 8 * MIB)))
    ),
    "many PT_LOADs": Machine(_whole(split_loads=200, shuffle_loads=True)),
    "QEMU's PT_LOADs": Machine(_whole(zero_vaddr=True, overlap_image=False, unaligned=True)),
    "memory that is not in the file": Machine(
        _whole(no_data=((24 * MIB, 2 * MIB), (30 * MIB, 4096)))
    ),
    "no hardware poison": Machine(_whole(hwpoison=False)),
    "free pages by the free lists": Machine(_whole(freelists=True)),
    "no kernel that is described": Machine(_whole(note=False), (0, 1)),
    "low memory that ends in a page": Machine(
        CoreSpec(layout="6.1", memory_size=40 * MIB, filled=0.3, bad_orders=False),
        (0, 1),
        heading="The page that memory ends in",
        only_ours=(0x9F,),
    ),
    "Linux 6.12": Machine(_whole("6.12"), (31,), "Kernels after 6.0", None),
}

PACKED = ("Linux 6.1", "holes in memory", "many PT_LOADs", "memory that is not in the file")
"""Those that are also compressed, streamed, split and made ELF."""
