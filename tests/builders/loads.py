# SPDX-License-Identifier: GPL-2.0-or-later
"""Cuts RAM into PT_LOADs, and the first bitmaps that follow from them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from . import bits
from .elfcore import Load
from .physmem import PAGE_SHIFT, PAGE_SIZE, round_up
from .spec import CoreSpec


def _pieces(spec: CoreSpec) -> list[tuple[int, int, int]]:
    """(paddr, end of data, end) of each stretch of RAM; the data comes before what has none."""
    pieces = []
    for paddr, size in spec.ram():
        start, end = paddr, paddr + size
        for hole_paddr, hole_size in sorted(spec.no_data):
            if start <= hole_paddr < end:
                pieces.append((start, hole_paddr, hole_paddr + hole_size))
                start = hole_paddr + hole_size
        if start < end:
            pieces.append((start, end, end))
    return pieces


def _cuts(spec: CoreSpec, pieces: Sequence[tuple[int, int, int]], rng: Random) -> list[int]:
    """Physical addresses at which PT_LOADs are cut, beside those that RAM asks for."""
    places: list[range] = []
    for paddr, data_end, _ in pieces:
        places.append(range(paddr // PAGE_SIZE + 1, -(-data_end // PAGE_SIZE)))
    total = sum(map(len, places))
    wanted = min(max(0, spec.split_loads - len(pieces)), total)
    cuts = []
    chosen = sorted(rng.sample(range(total), wanted))
    before = 0  # pages of the places already done
    for place in places:
        for choice in chosen[bisect_left(chosen, before) :]:
            if choice >= before + len(place):
                break
            inside = rng.randrange(8, PAGE_SIZE, 8) if spec.split_inside_pages else 0
            cuts.append(place[choice - before] * PAGE_SIZE - inside)
        before += len(place)
    return sorted(set(cuts))


def make_loads(spec: CoreSpec, page_offset: int, image: Load, rng: Random) -> list[Load]:
    """The PT_LOADs in file order."""
    pieces = _pieces(spec)
    cuts = _cuts(spec, pieces, rng)
    loads = []
    at = 0
    for paddr, data_end, end in pieces:
        start = paddr
        while at < len(cuts) and cuts[at] < end:
            if start < cuts[at] < data_end:
                size = cuts[at] - start
                loads.append(Load(page_offset + start, start, size, size))
                start = cuts[at]
            at += 1
        loads.append(Load(page_offset + start, start, end - start, data_end - start))
    if spec.overlap_image:
        loads.insert(0, image)
    if spec.shuffle_loads:
        rng.shuffle(loads)
    if spec.zero_vaddr:
        loads = [replace(load, vaddr=0) for load in loads]
    return loads


class FirstBitmaps(NamedTuple):
    """Bitmaps that PT_LOADs alone decide, all of the same length."""

    exists: bytes  # the first bitmap
    start: bytes  # the second bitmap before pages are classified
    data: bytes  # pages with at least one byte in the file


def first_bitmaps(loads: Sequence[Load], max_mapnr: int) -> FirstBitmaps:
    """What exists, and what has data, below `max_mapnr`."""
    exists, data = bits.empty(max_mapnr), bits.empty(max_mapnr)
    for load in loads:
        first_pfn = load.paddr >> PAGE_SHIFT
        end_pfn = round_up(load.paddr + load.memsz, PAGE_SIZE) >> PAGE_SHIFT
        bits.fill(exists, first_pfn, min(end_pfn, max_mapnr))
        if load.filesz:
            end_pfn = round_up(load.paddr + load.filesz, PAGE_SIZE) >> PAGE_SHIFT
            bits.fill(data, first_pfn, min(end_pfn, max_mapnr))
    start = bytearray(exists)
    for load in loads:
        first_pfn = round_up(load.paddr + load.filesz, PAGE_SIZE) >> PAGE_SHIFT
        end_pfn = round_up(load.paddr + load.memsz, PAGE_SIZE) >> PAGE_SHIFT
        if load.filesz < load.memsz:
            bits.fill(start, first_pfn, min(end_pfn, max_mapnr), False)
    return FirstBitmaps(bytes(exists), bytes(start), bytes(data))
