# SPDX-License-Identifier: GPL-2.0-or-later
"""How one PT_LOAD of a core becomes several of a filtered one: what is stored, where it is cut.

ELF has no bitmap. Pages are left out by ending a PT_LOAD's bytes before its memory ends
(``p_filesz < p_memsz``), and readers show zeros for the rest. That takes a program header each
time, so makedumpfile does it only for runs of at least 256 pages, and for any run at the end of a
segment; pages of shorter runs keep their place in the file. See docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Union

from pydumpfile.formats.elf import Phdr
from pydumpfile.pfn import Range, align_up

MIN_HOLE_PAGES = 256
"""The shortest run left out for which a new PT_LOAD is begun."""


class Extent(NamedTuple):
    """Physical addresses ``[start, end)`` that have their place in the file."""

    start: int
    end: int
    is_kept: bool
    """Else it is only between pages that are."""


class Load(NamedTuple):
    """One PT_LOAD, of which all extents came before."""

    phdr: Phdr
    """All but its ``p_offset``."""
    is_last: bool
    """Of those that one PT_LOAD of the input became."""


def split_load(load: Phdr, kept: Iterable[Range], page_size: int) -> Iterator[Union[Extent, Load]]:
    """What ``load`` becomes: extents in ascending order, and behind those of each PT_LOAD itself.

    :param load: a segment of the input; its addresses need not be those of whole pages.
    :param kept: which of its physical addresses are kept, ascending; runs of whole pages, but for
        where the segment begins and ends.
    """
    start = stored_end = load.p_paddr
    end = start + load.p_memsz
    # The rest of the page in which the segment begins is always stored, as makedumpfile does.
    first_page = min(align_up(start, page_size), end)
    for low, high in kept:
        if stored_end < first_page <= low:
            yield Extent(stored_end, first_page, is_kept=False)
            stored_end = first_page
        if low - stored_end >= MIN_HOLE_PAGES * page_size:
            yield _part(load, start, stored_end, low)
            start = low
        elif low > stored_end:
            yield Extent(stored_end, low, is_kept=False)
        yield Extent(low, high, is_kept=True)
        stored_end = high
    if stored_end < first_page:
        yield Extent(stored_end, first_page, is_kept=False)
        stored_end = first_page
    yield _part(load, start, stored_end, end)


def _part(load: Phdr, start: int, stored_end: int, end: int) -> Load:
    """The PT_LOAD of ``[start, end)``, of which the bytes up to ``stored_end`` are in the file."""
    phdr = load._replace(
        p_offset=0,
        p_vaddr=(load.p_vaddr + start - load.p_paddr) % (1 << 64),
        p_paddr=start,
        p_filesz=stored_end - start,
        p_memsz=end - start,
    )
    return Load(phdr, end == load.p_paddr + load.p_memsz)
