# SPDX-License-Identifier: GPL-2.0-or-later
"""A page-table walk as crash and makedumpfile print it (``--vtop``)."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.errors import FaultError
from pydumpfile.memory.space import AddressSpace

_NAMES = ("PTE", "PMD", "PUD", "P4D")


def walk(space: AddressSpace, vaddr: int) -> str:
    """The entries on the way to ``vaddr`` in the kernel's page tables, and where they lead."""
    return "\n".join(_lines(space, vaddr))


def _lines(space: AddressSpace, vaddr: int) -> Iterator[str]:
    yield f"Page tables for virtual address {vaddr:x}:"
    try:
        for number, step in enumerate(space.walk(vaddr)):
            name = _NAMES[step.level - 1] if number else "PGD"
            yield f"  {name} : {step.entry_paddr:16x} => {step.entry:16x}"
        leaf = space.mapping(vaddr)
    except FaultError as error:
        yield str(error)
        return
    yield "VIRTUAL           PHYSICAL"
    yield f"{vaddr:16x}  {leaf.paddr + vaddr - leaf.vaddr:x}"
