# SPDX-License-Identifier: GPL-2.0-or-later
"""Zero pages left out of the 2nd bitmap: the C, its reference, and the cores' own word."""

from __future__ import annotations

import os
from random import Random

import pytest

import pydumpfile
from pydumpfile.errors import NativeError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.filter.zero_native import NativeZeroTest
from pydumpfile.filter.zeropages import CHUNK_PAGES, NonzeroFilter, ReferenceZeroTest
from pydumpfile.sources.image import FileImage
from pydumpfile.variants import variants
from tests.badmemory import BadMemory
from tests.builders import BuiltCore, bits
from tests.conftest import CoreMaker
from tests.test_dump import MACHINES

PAGE = 4096


def kept_by(nonzero: NonzeroFilter) -> set[int]:
    return {
        window.first_pfn + bit
        for window in nonzero.windows()
        for bit in bits.ones(bytes(window.bits))
    }


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("n", [0, 1, 5, CHUNK_PAGES])
def test_native_and_reference_agree(variant: str, n: int) -> None:
    rng = Random(n)
    memory = bytearray(n * PAGE)
    for page in range(n):
        if page % 3:
            memory[page * PAGE + rng.choice((0, 63, 2000, PAGE - 1))] = 1
    found = NativeZeroTest(PAGE, variant).find(memoryview(memory))
    assert found == ReferenceZeroTest(PAGE).find(memoryview(memory))
    assert len(found) == n
    assert sum(found) == -(-n // 3)


@pytest.mark.parametrize("size", [PAGE - 1, PAGE + 64, (CHUNK_PAGES + 1) * PAGE])
def test_native_refuses_what_it_has_no_room_for(size: int) -> None:
    with pytest.raises(NativeError):
        NativeZeroTest(PAGE).find(memoryview(bytes(size)))


@pytest.mark.parametrize("kernel", ["c", "python"])
@pytest.mark.parametrize("machine", ["small", "odd ends", "segments", "filtered before", "high"])
@pytest.mark.parametrize("level", [1, 31])
def test_zero_pages_go(
    core_of: CoreMaker, monkeypatch: pytest.MonkeyPatch, machine: str, level: int, kernel: str
) -> None:
    monkeypatch.setenv("PYDUMPFILE_KERNEL", kernel)
    built = core_of(MACHINES[machine])
    kept = set(bits.ones(built.verdict(level)))
    with pydumpfile.open(built.path) as vmcore:
        nonzero = NonzeroFilter(PageFilter(vmcore, Level(level)))
        assert kept_by(nonzero) == kept - built.zero_pfns
        assert nonzero.n_zero == len(kept & built.zero_pfns) > 0
        again = nonzero.another()
        assert kept_by(again) == kept - built.zero_pfns
        assert again.n_zero == nonzero.n_zero


def test_what_cannot_be_read_is_not_zero(small: BuiltCore) -> None:
    kept = set(bits.ones(small.verdict(1)))
    zero = sorted(kept & small.zero_pfns)
    source = BadMemory(FileImage(os.open(small.path, os.O_RDONLY), str(small.path)))
    source.bad_pfns = frozenset({*zero[::7], *sorted(kept - small.zero_pfns)[3000:3002]})
    with pydumpfile.Vmcore(source) as vmcore:
        nonzero = NonzeroFilter(PageFilter(vmcore, Level(1)))
        assert kept_by(nonzero) == kept - (small.zero_pfns - source.bad_pfns)
