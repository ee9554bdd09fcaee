# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dump would leave out, counted: of memory at rest, and of memory that changes meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Callable, Optional

import pytest

import pydumpfile
from pydumpfile.errors import NotInDumpError, PydumpfileError
from pydumpfile.filter.level import Kind
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.mem_usage import MemUsage, count_pages
from pydumpfile.pfn import Range
from pydumpfile.sources.base import Source
from tests.builders import BuiltCore, bits
from tests.conftest import SMALL, CoreMaker
from tests.sources.rawkcore import PAGE, whole_pages, write_kcore

MACHINES = {
    "ordinary": SMALL,
    "Linux 6.1": replace(SMALL, layout="6.1"),
    "free lists": replace(SMALL, freelists=True),
    "classic": replace(SMALL, model="classic", vmemmap=False),
    "flatmem": replace(SMALL, model="flatmem", vmemmap=False),
    "garbage": replace(SMALL, garbage=True),
}
MOST_READS = 100_000
"""More than any of these machines takes: whoever asks again and again for what does not fit."""


def adds_up(usage: MemUsage) -> bool:
    left_out = sum(usage.left_out.values()) + usage.gone
    return usage.existing == left_out + usage.zero + usage.kept


@pytest.mark.parametrize("name", MACHINES)
def test_as_a_dump_would_have_it(core_of: CoreMaker, name: str) -> None:
    built = core_of(MACHINES[name])
    seen: list[tuple[str, int, int]] = []
    with pydumpfile.open(built.path) as vmcore:
        usage = count_pages(vmcore, lambda *step: seen.append(step))
    kept = set(bits.ones(built.verdict(31)))
    assert usage.zero == len(kept & built.zero_pfns)
    assert usage.kept == len(kept - built.zero_pfns)
    counts = {kind.name.lower(): pages for kind, pages in usage.left_out.items()}
    assert counts == {**built.counts(31), "unused_mem_map": 0}
    assert usage.existing == sum(bin(byte).count("1") for byte in built.exists)
    assert adds_up(usage)
    step, done, total = seen[-1]
    assert step == "judging pages" and done >= total == built.max_mapnr


def test_of_a_running_kernel(small: BuiltCore, tmp_path: Path) -> None:
    """The same, but for the page that memory ends in, which System RAM does not have."""
    with Vmcore.open(str(write_kcore(tmp_path / "kcore", small))) as vmcore:
        usage = count_pages(vmcore)
    assert usage.existing == sum(end - start for start, end in whole_pages(small)) // PAGE
    assert usage.left_out[Kind.FREE] == small.counts(31)["free"]
    assert adds_up(usage)


def test_of_a_dump(small: BuiltCore, tmp_path: Path) -> None:
    """What it has no more is counted too, as nothing in particular."""
    dumped = pydumpfile.dump(small.path, tmp_path / "dump", 16)
    with pydumpfile.open(small.path) as vmcore:
        whole = count_pages(vmcore)
    with pydumpfile.open(tmp_path / "dump") as vmcore:
        usage = count_pages(vmcore)
    assert usage.gone == sum(dumped.left_out.values()) > 0
    assert usage.left_out[Kind.FREE] == 0 < whole.left_out[Kind.FREE]
    assert (usage.zero, usage.kept, usage.existing) == (whole.zero, whole.kept, whole.existing)
    assert adds_up(usage)


class Unrest:
    """Memory in which some of what is read was just being written, or has gone."""

    def __init__(self, source: Source, seed: int, often: float) -> None:
        self._view = source.view
        self._random = Random(seed)
        self._often = often
        self.reads = 0

    def view(self, paddr: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        self.reads += 1
        assert self.reads < MOST_READS
        random = self._random
        seen = bytearray(self._view(paddr, size, wanted))
        while random.random() < self._often:
            off = random.randrange(0, max(size - 8, 1)) & -8
            self._change()(seen, off)
        if random.random() < self._often / 20:
            raise NotInDumpError(paddr + random.randrange(size))
        return memoryview(seen[:size])

    def _change(self) -> Callable[[bytearray, int], None]:
        random = self._random

        def word(seen: bytearray, off: int) -> None:
            values = (0, (1 << 64) - 1, random.getrandbits(64), 1 << random.randrange(64))
            seen[off : off + 8] = random.choice(values).to_bytes(8, "little")

        def rest(seen: bytearray, off: int) -> None:
            seen[off:] = bytes(len(seen) - off)

        def moved(seen: bytearray, off: int) -> None:
            seen[off:] = bytes(64) + seen[off:-64]

        return random.choice((word, word, word, rest, moved))


@pytest.mark.parametrize("often", [0.02, 0.5])
@pytest.mark.parametrize("name", MACHINES)
def test_of_memory_that_changes_meanwhile(core_of: CoreMaker, name: str, often: float) -> None:
    """Whatever is seen: an end, and a number or an error of ours."""
    built = core_of(MACHINES[name])
    counted = 0
    for seed in range(15):
        with pydumpfile.open(built.path) as vmcore:
            unrest = Unrest(vmcore.source, seed, often)
            vmcore.source.view = unrest.view  # type: ignore[method-assign]
            try:
                usage = count_pages(vmcore)
            except PydumpfileError:
                continue
            assert adds_up(usage)
            assert unrest.reads > 0
            counted += 1
    assert counted > 0
