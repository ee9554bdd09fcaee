# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/page_judge.h as a kernel uses it, run after run, against the reference in Python.

The header is compiled beside the shim that user space has for it; the loop around it does what
fs/proc/vmcore_pfn_lists.c of kpatch/ does with a piece of mem_map, in blocks of any size.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydumpfile.bitmap import Bitmap
from pydumpfile.filter.level import Kind, Level
from pydumpfile.filter.pfnlists import pack_plan
from pydumpfile.filter.plan import Plan, make_plan
from pydumpfile.filter.reference import ReferenceClassifier
from pydumpfile.filter.tally import Tally
from tests.builders import LAYOUTS
from tests.builders.garbage import GarbageMaker
from tests.builders.structpage import Encoder
from tests.filter.test_classify import plans
from tests.filter.test_plan import facts_of

CSRC = Path(__file__).resolve().parents[2] / "csrc"
N_PAGES = 300
MAX_RUNS = 1024
_HARNESS = r"""
#include "page_judge.h"

/* Runs of the pages [first_pfn, end_pfn), found by blocks of so many struct pages. */
uint64_t scan(const struct pydump_plan *plan, const uint8_t *pages, uint64_t block_pfn, uint64_t n,
              uint64_t first_pfn, uint64_t end_pfn, uint64_t step, uint64_t *runs,
              uint64_t *bad_orders)
{
	struct page_scan scan = { .pfn = first_pfn };
	struct going going[1];
	uint64_t n_runs = 0;

	while (scan.pfn < end_pfn) {
		uint64_t i = scan.pfn - block_pfn, left = n - i, here = left < step ? left : step;
		struct struct_pages block = { pages + i * plan->page_size, scan.pfn, here };
		uint64_t stop = scan.pfn + here - (here < left);

		while (next_going(plan, &block, stop < end_pfn ? stop : end_pfn, &scan, going)) {
			runs[3 * n_runs] = going->first_pfn;
			runs[3 * n_runs + 1] = going->end_pfn;
			runs[3 * n_runs++ + 2] = going->kind;
		}
	}
	if (scan.going.first_pfn < scan.going.end_pfn) {
		runs[3 * n_runs] = scan.going.first_pfn;
		runs[3 * n_runs + 1] = scan.going.end_pfn;
		runs[3 * n_runs++ + 2] = scan.going.kind;
	}
	*bad_orders = scan.bad_orders;
	return n_runs;
}

int fits(const struct pydump_plan *plan)
{
	return plan_fits(plan);
}

uint64_t plan_size(void)
{
	return sizeof(struct pydump_plan);
}
"""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("judge")
    (folder / "harness.c").write_text(_HARNESS)
    library = folder / "harness.so"
    subprocess.run(
        ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined",
         "-fsanitize-undefined-trap-on-error", "-shared", "-fPIC", f"-I{CSRC}",
         "-o", library, folder / "harness.c"],
        check=True,
    )  # fmt: skip
    made = ctypes.CDLL(str(library))
    made.scan.restype = ctypes.c_uint64
    made.plan_size.restype = ctypes.c_uint64
    return made


def runs_of(
    judge: ctypes.CDLL, plan: Plan, pages: bytes, block_pfn: int, first_pfn: int, end_pfn: int,
    step: int,
) -> tuple[list[tuple[int, int, Kind]], int]:  # fmt: skip
    runs = (ctypes.c_uint64 * (3 * MAX_RUNS))()
    bad_orders = ctypes.c_uint64()
    u64 = ctypes.c_uint64
    n = judge.scan(
        pack_plan(plan), pages, u64(block_pfn), u64(len(pages) // plan.page_size), u64(first_pfn),
        u64(end_pfn), u64(step), runs, ctypes.byref(bad_orders),
    )  # fmt: skip
    return [(runs[3 * i], runs[3 * i + 1], Kind(runs[3 * i + 2])) for i in range(n)], (
        bad_orders.value
    )


def check(
    judge: ctypes.CDLL, plan: Plan, pages: bytes, block_pfn: int, step: int, skipped: int
) -> None:
    """The runs clear the bits that the reference clears, of the same kinds, and no others."""
    first_pfn, end_pfn = block_pfn + skipped, block_pfn + len(pages) // plan.page_size
    window = Bitmap(block_pfn - block_pfn % 8, end_pfn + -end_pfn % 8 + 4096)
    window.set_ranges([(window.first_pfn, window.end_pfn)])
    expected, tally = Bitmap(window.first_pfn, window.end_pfn), Tally()
    expected.set_ranges([(window.first_pfn, window.end_pfn)])
    ReferenceClassifier(plan).classify(
        memoryview(pages), block_pfn, first_pfn, end_pfn, expected, tally
    )
    runs, bad_orders = runs_of(judge, plan, pages, block_pfn, first_pfn, end_pfn, step)
    left_out = [0] * len(Kind)
    for start, end, kind in runs:
        left_out[kind] += window.clear_range(start, end)
    assert window.bits == expected.bits
    assert left_out == tally.left_out
    assert bad_orders == tally.bad_orders
    for before, after in zip(runs, runs[1:]):
        joined = before[1] == after[0] and before[2] == after[2]
        assert before[1] <= after[0] and not joined


@settings(max_examples=200, deadline=None)
@given(plan=plans(), seed=st.integers(0, 1 << 32), step=st.integers(2, N_PAGES),
       skipped=st.integers(0, 40),
       block_pfn=st.sampled_from([0, 64, 464, 1 << 20, 1 << 40]))  # fmt: skip
def test_any_plan_any_pages(
    judge: ctypes.CDLL, plan: Plan, seed: int, step: int, skipped: int, block_pfn: int
) -> None:
    rng = Random(seed)
    pages = b"".join(
        rng.choice((0, 1, 2, 3, rng.getrandbits(64), 1 << rng.randrange(64))).to_bytes(8, "little")
        for _ in range(N_PAGES * plan.page_size // 8)
    )
    check(judge, plan, pages, block_pfn, step, skipped)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("number", [0, 2, 4, 8, 16, 31])
def test_garbage_in_real_layouts(judge: ctypes.CDLL, layout: str, number: int) -> None:
    plan = make_plan(facts_of(layout), Level.of(number))
    rng = Random(f"{layout} {number}")
    maker = GarbageMaker(LAYOUTS[layout], rng)
    pages = bytes(Encoder(LAYOUTS[layout]).encode([maker.page() for _ in range(1024)]))
    for block_pfn, step in ((0, 1024), (512, 2), (1 << 22, 64)):
        check(judge, plan, pages, block_pfn, step, 0)


def test_the_plan_is_as_python_packs_it(judge: ctypes.CDLL) -> None:
    assert len(pack_plan(make_plan(facts_of("6.12"), Level.of(31)))) == judge.plan_size()


@pytest.mark.parametrize(
    ("field", "value"),
    [("order_shift", 64), ("max_order", 0), ("max_order", 65), ("page_size", 0),
     ("flags_off", 60), ("order_off", 1 << 31)],
)  # fmt: skip
def test_plans_that_look_elsewhere_do_not_fit(judge: ctypes.CDLL, field: str, value: int) -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    assert judge.fits(pack_plan(plan))
    assert not judge.fits(pack_plan(plan._replace(**{field: value})))
