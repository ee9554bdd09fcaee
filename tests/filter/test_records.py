# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop over the kernel's records and its reference: the same bits and counts, and no trust."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.bitmap import Bitmap
from pydumpfile.filter import answer, native, reference
from pydumpfile.filter.answer import BAD_ORDERS, N_KINDS, TOTAL, Answer, make_take_records
from pydumpfile.filter.level import Kind
from pydumpfile.filter.tally import Tally

Record = tuple[int, int, int]
"""First pfn, how many, kind."""
FIRST_PFN, WINDOW_END_PFN, END_PFN = 1 << 12, (1 << 12) + 400, (1 << 12) + 1000
LOOPS = {"c": native.take_records, "python": reference.take_records}


def packed(records: Iterable[Record]) -> bytes:
    return b"".join(struct.pack("<QQ", pfn, n << 8 | kind) for pfn, n, kind in records)


def whole(runs: list[Record], bad_orders: int = 0) -> list[Record]:
    """An answer with these runs of pages."""
    totals = [(sum(n for _, n, kind in runs if kind == one), 0, TOTAL + one)
              for one in range(N_KINDS)]  # fmt: skip
    return [*runs, *totals, (bad_orders, 0, BAD_ORDERS)]


def followed(
    loop: answer.TakeRecords, batches: list[list[Record]], tally: Tally
) -> tuple[list[int], bytes, dict[str, object], dict[str, object]]:
    """Of each batch how many records were followed, and what came of it."""
    window, so_far, tally = Bitmap(FIRST_PFN, WINDOW_END_PFN), Answer(END_PFN), deepcopy(tally)
    window.set_ranges([(FIRST_PFN, WINDOW_END_PFN - 30)])
    done = [loop(packed(batch), so_far, window, tally) for batch in batches]
    return done, bytes(window.bits), vars(tally), vars(so_far)


@st.composite
def sound_runs(draw: st.DrawFn) -> list[Record]:
    """As the kernel gives them: ascending, some of them overlapping, some past the window."""
    pfns = draw(st.lists(st.integers(FIRST_PFN, WINDOW_END_PFN - 1), unique=True, max_size=30))
    return [
        (pfn, draw(st.integers(1, min(END_PFN - pfn, 700))), draw(st.integers(0, N_KINDS - 1)))
        for pfn in sorted(pfns)
    ]


@st.composite
def batched(draw: st.DrawFn, records: list[Record]) -> list[list[Record]]:
    cuts = sorted(draw(st.lists(st.integers(0, len(records)), max_size=4)))
    return [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)])]


def tallies() -> st.SearchStrategy[Tally]:
    return st.integers(0, END_PFN + 99).map(Tally)


@given(runs=sound_runs(), bad_orders=st.integers(0, 99), tally=tallies(), data=st.data())
def test_sound_answers(
    runs: list[Record], bad_orders: int, tally: Tally, data: st.DataObject
) -> None:
    batches = data.draw(batched(whole(runs, bad_orders)))
    in_c, in_python = (followed(loop, batches, tally) for loop in LOOPS.values())
    assert in_c == in_python
    done, bits, counters, so_far = in_c
    assert done == [len(batch) for batch in batches]
    assert so_far["n_totals"] == N_KINDS + 1
    # Said once more, page by page.
    kept = {*range(FIRST_PFN, WINDOW_END_PFN - 30)}
    left_out = [0] * len(Kind)
    for pfn, n, kind in runs:
        left_out[kind] += len(kept & {*range(pfn, pfn + n)})
        kept -= {*range(pfn, pfn + n)}
    assert counters["left_out"] == left_out
    assert counters["bad_orders"] == bad_orders
    ends = [pfn + n for pfn, n, _ in runs]
    assert counters["resume_pfn"] == max([tally.resume_pfn, *ends])
    found = {FIRST_PFN + i for i in range(8 * len(bits)) if bits[i >> 3] >> (i & 7) & 1}
    assert found == kept


_INTERESTING = [0, 1, FIRST_PFN - 1, FIRST_PFN, WINDOW_END_PFN - 1, WINDOW_END_PFN, END_PFN - 1,
                END_PFN, 1 << 52, (1 << 64) - 1]  # fmt: skip
_ANY_RECORD = st.tuples(
    st.sampled_from(_INTERESTING) | st.integers(FIRST_PFN, END_PFN) | st.integers(0, (1 << 64) - 1),
    st.sampled_from([0, 1, 8, END_PFN, (1 << 56) - 1]) | st.integers(0, 1 << 10),
    st.sampled_from([*range(8), *range(TOTAL - 1, TOTAL + 8), BAD_ORDERS, 0xFF]),
)


@given(
    records=st.lists(_ANY_RECORD, max_size=20), runs=sound_runs(), at=st.integers(0, 40),
    tally=tallies(),
)  # fmt: skip
def test_any_records(records: list[Record], runs: list[Record], at: int, tally: Tally) -> None:
    """Anything among what is sound: the same is followed, up to the same record."""
    sound = whole(runs)
    mixed = sound[:at] + records + sound[at:]
    in_c, in_python = (followed(loop, [mixed], tally) for loop in LOOPS.values())
    assert in_c == in_python
    assert in_c[0][0] >= min(at, len(sound))


PAGES: Record = (FIRST_PFN + 40, 8, Kind.USER)
WRONG: dict[str, tuple[list[Record], int]] = {
    "an unknown kind": ([PAGES, (FIRST_PFN + 50, 1, N_KINDS)], 1),
    "a kind of no struct page": ([(FIRST_PFN, 1, Kind.UNUSED_MEM_MAP)], 0),
    "not ascending": ([PAGES, (FIRST_PFN + 39, 1, Kind.FREE)], 1),
    "the same again": ([PAGES, PAGES], 1),
    "no pages": ([(FIRST_PFN, 0, Kind.FREE)], 0),
    "before the window": ([(FIRST_PFN - 1, 9, Kind.FREE)], 0),
    "behind the window": ([(WINDOW_END_PFN, 1, Kind.FREE)], 0),
    "past the end": ([(WINDOW_END_PFN - 1, END_PFN - WINDOW_END_PFN + 2, Kind.FREE)], 0),
    "past all numbers": ([(FIRST_PFN, (1 << 56) - 1, Kind.FREE)], 0),
    "the last of all numbers": ([((1 << 64) - 1, 1, Kind.FREE)], 0),
    "a total too soon": ([PAGES, (8, 0, TOTAL + Kind.USER)], 1),
    "another total": ([PAGES, (0, 0, TOTAL), (0, 0, TOTAL + 1), (0, 0, TOTAL + 2),
                       (7, 0, TOTAL + 3)], 4),
    "a total of something": ([(0, 1, TOTAL)], 0),
    "pages behind a total": ([(0, 0, TOTAL), PAGES], 1),
    "bad orders too soon": ([PAGES, (0, 0, BAD_ORDERS)], 1),
    "too many bad orders": (whole([PAGES], END_PFN + 1), N_KINDS + 1),
    "more behind the end": ([*whole([PAGES]), (0, 0, BAD_ORDERS)], N_KINDS + 2),
    "all of it again": (2 * whole([]), N_KINDS + 1),
}  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_records_are_not_followed(name: str, loop: str) -> None:
    records, n_good = WRONG[name]
    done, bits, counters, _ = followed(LOOPS[loop], [records], Tally())
    assert done == [n_good]
    good = followed(LOOPS[loop], [records[:n_good]], Tally())
    assert (bits, counters) == good[1:3]


@pytest.mark.parametrize("loop", LOOPS)
def test_the_demanded_loop_follows(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYDUMPFILE_KERNEL", loop)
    assert make_take_records() is LOOPS[loop]


def test_nothing_outside_of_the_window_is_touched() -> None:
    guarded = bytearray(b"\xff" * 24)
    window = Bitmap(64, 128)
    window.bits = memoryview(guarded)[8:16]  # type: ignore[assignment]
    runs = packed([(70, 5000, 0), (127, 5000, 1), (128, 5000, 2)])
    assert native.take_records(runs, Answer(1 << 20), window, Tally()) == 2
    assert guarded == b"\xff" * 8 + b"\x3f" + bytes(7) + b"\xff" * 8
