# SPDX-License-Identifier: GPL-2.0-or-later
"""How PT_LOADs are cut, against the rules of docs/formats.md followed page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.formats.elf import PT_LOAD, Phdr
from pydumpfile.formats.elf_loads import Extent, Load, split_load

PAGE = 8
"""Of a machine with very small pages."""
PADDR, VADDR = 100 * PAGE, 0xFFFF888000000000


class Page(NamedTuple):
    """One page of the segment, or the part of it that the segment has."""

    start: int
    end: int
    is_kept: bool


class Segment(NamedTuple):
    """A PT_LOAD as it should become: where it lies, and its bytes in the file."""

    start: int
    end: int
    stored: list[Extent]


def segments_of(pages: Sequence[Page]) -> list[Segment]:
    """The rules, one page after the other."""
    segments: list[Segment] = []
    start = pages[0].start
    stored: list[Extent] = []
    skipped: list[Page] = []
    for number, page in enumerate(pages):
        if not page.is_kept and not (number == 0 and page.start % PAGE):
            skipped.append(page)
            continue
        if len(skipped) >= 256:
            segments.append(Segment(start, page.start, stored))
            start, stored = page.start, []
        else:
            stored += [Extent(other.start, other.end, False) for other in skipped]
        skipped = []
        stored.append(Extent(*page))
    return [*segments, Segment(start, pages[-1].end, stored)]


def pages_of(runs: Sequence[tuple[bool, int]], head: int, tail: int) -> list[Page]:
    """Pages kept and left out by turns; the first lacks ``head`` bytes, the last ``tail``."""
    flags = [is_kept for is_kept, n in runs for _ in range(n)]
    pages = [Page(PADDR + i * PAGE, PADDR + (i + 1) * PAGE, kept) for i, kept in enumerate(flags)]
    pages[0] = pages[0]._replace(start=pages[0].start + head)
    pages[-1] = pages[-1]._replace(end=pages[-1].end - tail)
    return pages


def joined(extents: Sequence[Extent]) -> list[Extent]:
    """Neighbours of the same kind as one."""
    result: list[Extent] = []
    for extent in extents:
        if result and (result[-1].end, result[-1].is_kept) == (extent.start, extent.is_kept):
            result[-1] = Extent(result[-1].start, extent.end, extent.is_kept)
        else:
            result.append(extent)
    return result


def check(pages: Sequence[Page]) -> list[Segment]:
    """What split_load() makes of these pages is what the rules say."""
    start, end = pages[0].start, pages[-1].end
    whole = Phdr(PT_LOAD, 7, 0x1234, VADDR, start, end - start, end - start, 16)
    kept = [(page.start, page.end) for page in pages if page.is_kept]
    found: list[Segment] = []
    stored: list[Extent] = []
    for part in split_load(whole, kept, PAGE):
        if isinstance(part, Extent):
            stored.append(part)
            continue
        assert isinstance(part, Load)
        phdr = part.phdr
        assert phdr[:2] == whole[:2] and phdr.p_align == whole.p_align and phdr.p_offset == 0
        assert phdr.p_vaddr - phdr.p_paddr == VADDR - start
        assert phdr.p_filesz == sum(extent.end - extent.start for extent in stored)
        assert part.is_last == (phdr.p_paddr + phdr.p_memsz == end)
        found.append(Segment(phdr.p_paddr, phdr.p_paddr + phdr.p_memsz, joined(stored)))
        stored = []
    assert not stored, "bytes of no PT_LOAD"
    assert found == [
        segment._replace(stored=joined(segment.stored)) for segment in segments_of(pages)
    ]
    return found


lengths = st.sampled_from([1, 2, 7, 255, 256, 257, 700])


@given(
    st.lists(lengths, min_size=1, max_size=7), st.booleans(), st.integers(0, PAGE - 1),
    st.integers(0, PAGE - 1),
)  # fmt: skip
def test_by_the_rules(lengths: list[int], first_is_kept: bool, head: int, tail: int) -> None:
    runs = [(first_is_kept != bool(i % 2), length) for i, length in enumerate(lengths)]
    if sum(lengths) == 1 and head + tail >= PAGE:
        tail = 0
    check(pages_of(runs, head, tail))


@pytest.mark.parametrize(
    ("runs", "filesz"),
    [
        ([(True, 10)], [80]),
        ([(False, 10)], [0]),
        ([(False, 1000)], [0]),
        ([(True, 1), (False, 255), (True, 1)], [257 * 8]),
        ([(True, 1), (False, 256), (True, 1)], [8, 8]),
        ([(False, 255), (True, 1)], [256 * 8]),
        ([(False, 256), (True, 1)], [0, 8]),
        ([(True, 1), (False, 3)], [8]),
        ([(False, 255), (True, 1), (False, 256), (True, 2), (False, 4)], [2048, 16]),
    ],
)
def test_by_hand(runs: list[tuple[bool, int]], filesz: list[int]) -> None:
    found = check(pages_of(runs, 0, 0))
    assert [sum(e.end - e.start for e in segment.stored) for segment in found] == filesz


def test_the_first_part_of_a_page_is_stored_but_not_told_apart() -> None:
    """Where memory begins inside a page that is left out: its place is kept, its bytes are not."""
    (segment,) = check(pages_of([(False, 5)], 3, 0))
    assert segment.stored == [Extent(PADDR + 3, PADDR + PAGE, False)]


def test_nothing_at_all() -> None:
    whole = Phdr(PT_LOAD, 7, 0, VADDR, PADDR, 0, 0, 0)
    assert list(split_load(whole, [], PAGE)) == [Load(whole, is_last=True)]


def test_addresses_may_wrap() -> None:
    """As those of a damaged core may; they have to fit into the header all the same."""
    whole = Phdr(PT_LOAD, 7, 0, (1 << 64) - PAGE, PADDR, 1000 * PAGE, 1000 * PAGE, 0)
    kept = [(PADDR, PADDR + PAGE), (PADDR + 500 * PAGE, PADDR + 501 * PAGE)]
    *_, last = split_load(whole, kept, PAGE)
    assert isinstance(last, Load)
    assert last.phdr.p_vaddr == 499 * PAGE
