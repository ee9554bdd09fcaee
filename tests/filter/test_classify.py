# SPDX-License-Identifier: GPL-2.0-or-later
"""The C loop and its reference: the same bits and the same tally, whatever they are handed."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import NativeError
from pydumpfile.filter.level import Kind, Level
from pydumpfile.filter.native import NativeClassifier
from pydumpfile.filter.plan import NEVER, PageTest, Plan, make_plan
from pydumpfile.filter.reference import ReferenceClassifier
from pydumpfile.filter.tally import Tally
from pydumpfile.variants import VARIANTS, variants
from tests.builders import LAYOUTS, ODD_LAYOUTS
from tests.builders.garbage import GarbageMaker
from tests.builders.structpage import Encoder
from tests.filter.test_plan import facts_of

EVERY_LAYOUT = {**LAYOUTS, **ODD_LAYOUTS}
N_PAGES = 300


def words(page_size: int) -> st.SearchStrategy[int]:
    return st.integers(0, page_size // 8 - 1).map(lambda index: 8 * index)


@st.composite
def page_tests(draw: st.DrawFn, page_size: int, after: bool = False) -> PageTest:
    """Tests of one or two bits that are often true, whole words that seldom are, or never."""
    off = draw(words(page_size))
    kind = draw(st.sampled_from(["bit", "bit", "clear bit", "bits", "word", "never"]))
    if kind == "never":
        return NEVER
    behind = after and draw(st.booleans())
    if kind == "word":
        return PageTest(off, (1 << 64) - 1, draw(st.integers(0, 3)), behind)
    mask = 1 << draw(st.integers(0, 63)) | (1 << draw(st.integers(0, 63)) if kind == "bits" else 0)
    return PageTest(off, mask, 0 if kind == "clear bit" else mask, behind)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan that fits some struct page."""
    size = draw(st.sampled_from([32, 56, 64, 72]))
    tests = page_tests(size)
    bit = st.integers(0, 63).map(lambda number: 1 << number)
    return Plan(
        page_size=size,
        flags_off=draw(words(size)),
        mapping_off=draw(words(size)),
        private_off=draw(words(size)),
        order_off=draw(words(size)),
        order_shift=draw(st.integers(0, 63)),
        order_mask=draw(st.sampled_from([0, 1, 3, 7, 0xFF, 0xFFFF])),
        max_order=draw(st.sampled_from([1, 4, 11, 63, 64])),
        drop_cache=draw(st.booleans()),
        drop_cache_private=draw(st.booleans()),
        drop_user=draw(st.booleans()),
        tail=draw(tests),
        head=draw(tests),
        slab_type=draw(tests),
        slab_flag=draw(tests),
        buddy=draw(tests),
        unaccepted=draw(tests),
        hugetlb=draw(page_tests(size, after=True)),
        offline=draw(tests),
        hwpoison=draw(tests),
        lru_mask=draw(bit),
        swapcache_mask=draw(bit) | draw(bit),
        private_mask=draw(bit),
    )


def run(
    classifier: object,
    plan: Plan,
    pages: bytes,
    *,
    start_pfn: int,
    cuts: list[int],
    window: Bitmap,
    tally: Tally,
) -> None:
    """Judge ``pages`` in blocks cut at the given page indices, those in the window only."""
    edges = [0, *sorted(cuts), len(pages) // plan.page_size]
    for first, end in zip(edges, edges[1:]):
        low = max(start_pfn + first, window.first_pfn)
        high = min(start_pfn + end, window.end_pfn)
        if low < high:
            view = memoryview(pages)[first * plan.page_size : end * plan.page_size]
            classifier.classify(  # type: ignore[attr-defined]
                view, start_pfn + first, low, high, window, tally
            )


def both(plan: Plan, pages: bytes, start_pfn: int, cuts: list[int], window: Bitmap) -> Tally:
    """Run C and reference from the same state; their common tally."""
    results = []
    natives = [NativeClassifier(plan, variant) for variant in variants()]
    for classifier in (*natives, ReferenceClassifier(plan)):
        own, tally = deepcopy(window), Tally()
        run(classifier, plan, pages, start_pfn=start_pfn, cuts=cuts, window=own, tally=tally)
        results.append((bytes(own.bits), vars(tally)))
    assert all(result == results[0] for result in results)
    bits = results[0][0]
    assert sum(tally.left_out) == window.count() - sum(bin(byte).count("1") for byte in bits)
    return tally


@settings(max_examples=200)
@given(data=st.data(), plan=plans(), seed=st.integers(0, 1 << 32))
def test_any_plan_any_pages(data: st.DataObject, plan: Plan, seed: int) -> None:
    rng = Random(seed)
    # Words of few bits, so that tests hold and orders are small, among random ones.
    n_words = N_PAGES * plan.page_size // 8
    pages = b"".join(
        (rng.choice((0, 1, 2, 3, rng.getrandbits(64), 1 << rng.randrange(64)))).to_bytes(
            8, "little"
        )
        for _ in range(n_words)
    )
    start_pfn = data.draw(st.sampled_from([0, 64, 448, 512 - 48, 1 << 20, (1 << 33) - 64]))
    cuts = data.draw(st.lists(st.integers(0, N_PAGES), max_size=4))
    first = start_pfn - start_pfn % 8 + 8 * data.draw(st.integers(-2, 12))
    end = start_pfn - start_pfn % 8 + 8 * data.draw(st.integers(13, 44))
    window = Bitmap(max(0, first), end)
    window.bits[:] = rng.randbytes(len(window.bits))
    both(plan, pages, start_pfn, cuts, window)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("number", [0, 2, 4, 8, 16, 31])
def test_garbage_in_real_layouts(layout: str, number: int) -> None:
    shape = EVERY_LAYOUT[layout]
    facts = facts_of(layout) if layout in LAYOUTS else facts_of_odd(layout)
    plan = make_plan(facts, Level.of(number))
    rng = Random(f"{layout} {number}")
    maker = GarbageMaker(shape, rng)
    pages = Encoder(shape).encode([maker.page() for _ in range(2048)])
    for start_pfn, cuts, bounds in [
        (0, [], (0, 2048)),
        (512, [512, 1000, 1024], (512, 2560)),
        (1 << 22, [7, 8, 9, 1900], ((1 << 22) - 64, (1 << 22) + 4096)),
        (4096, [], (4096 + 1000, 4096 + 1200)),
    ]:
        window = Bitmap(*bounds)
        window.set_ranges([bounds])
        tally = both(plan, pages, start_pfn, cuts, window)
        assert number in (0, 2) or any(tally.left_out)


def facts_of_odd(layout: str) -> object:
    from pydumpfile.kernel.facts import Facts
    from tests.builders.vmcoreinfo import page_keys

    lines = {key: str(value) for key, value in page_keys(ODD_LAYOUTS[layout], True).items()}
    return Facts({**lines, "LENGTH(zone.free_area)": "11"}, "the test")


def _page(layout: str, **fields: int) -> bytes:
    from tests.builders.structpage import StructPage

    return Encoder(LAYOUTS[layout]).encode([StructPage(**fields)])


def test_a_range_goes_on_in_the_next_window() -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    buddy = LAYOUTS["6.12"].types["buddy"]
    pages = _page("6.12", mapcount=buddy, private=7) + _page("6.12") * 15
    for make in (NativeClassifier, ReferenceClassifier):
        window, tally = Bitmap(128, 144), Tally()
        window.set_ranges([(128, 144)])
        make(plan).classify(memoryview(pages), 128, 128, 144, window, tally)
        assert window.count() == 0
        assert tally.left_out[Kind.FREE] == 16
        assert tally.spill_pfn[Kind.FREE] == tally.resume_pfn == 256


def test_pages_below_the_resume_pfn_are_not_looked_at() -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    anon = _page("6.12", mapping=1) * 16
    for make in (NativeClassifier, ReferenceClassifier):
        window, tally = Bitmap(128, 144), Tally(resume_pfn=140)
        window.set_ranges([(128, 144)])
        make(plan).classify(memoryview(anon), 128, 128, 144, window, tally)
        assert window.count() == 12
        assert tally.left_out[Kind.USER] == 4
        assert tally.resume_pfn == 144


SMALL_ORDERS = 4
"""With blocks of eight pages at most, a few of which fit a test."""
_BLOCKS = {
    "largest": {"mapcount": "buddy", "private": SMALL_ORDERS - 1},
    "smaller": {"mapcount": "buddy", "private": SMALL_ORDERS - 2},
    "impossible": {"mapcount": "buddy", "private": SMALL_ORDERS},
    "user": {"mapping": 1, "private": SMALL_ORDERS - 1},
    "tail": {"mapcount": "buddy", "private": SMALL_ORDERS - 1, "lru_next": 1},
    "kernel": {},
}


def _blocks(*names: str) -> bytes:
    """Struct pages of blocks of eight pages; the seven behind the first are of users."""
    buddy = LAYOUTS["6.12"].types["buddy"]
    first = {
        name: _page("6.12", **{k: buddy if v == "buddy" else v for k, v in fields.items()})
        for name, fields in _BLOCKS.items()
    }
    return b"".join(first[name] + 7 * _page("6.12", mapping=1) for name in names)


@given(
    names=st.lists(st.sampled_from([*_BLOCKS, *3 * ["largest"]]), min_size=1, max_size=12),
    first_block=st.integers(0, 3),
    past_end=st.integers(0, 7),
)
def test_free_blocks_in_a_row(names: list[str], first_block: int, past_end: int) -> None:
    """As far as they go just what judging every page gives, and told to go on from there."""
    plan = make_plan(facts_of("6.12"), Level.of(31))._replace(max_order=SMALL_ORDERS)
    pages, end_pfn = memoryview(_blocks(*names)), 8 * len(names)
    first_pfn, stop_pfn = min(8 * first_block, end_pfn - 8), end_pfn - past_end
    n_free = next(
        (i for i, name in enumerate(names[first_pfn // 8 :]) if name != "largest"),
        len(names) - first_pfn // 8,
    )
    for make in (NativeClassifier, ReferenceClassifier):
        window, tally = Bitmap(0, end_pfn), Tally()
        window.set_ranges([(0, end_pfn)])
        make(plan).pass_free(pages, 0, first_pfn, stop_pfn, window, tally)
        assert tally.resume_pfn == first_pfn + 8 * n_free
        plain, plain_tally = Bitmap(0, end_pfn), Tally()
        plain.set_ranges([(0, end_pfn)])
        if n_free:
            last = min(stop_pfn, tally.resume_pfn)
            make(plan).classify(pages, 0, first_pfn, last, plain, plain_tally)
        assert window.bits == plain.bits
        assert tally.left_out == plain_tally.left_out
        assert tally.bad_orders == 0


def test_free_blocks_go_on_in_the_next_window() -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))._replace(max_order=SMALL_ORDERS + 2)
    buddy = LAYOUTS["6.12"].types["buddy"]
    pages = _page("6.12", mapcount=buddy, private=SMALL_ORDERS + 1) + 15 * _page("6.12")
    for make in (NativeClassifier, ReferenceClassifier):
        window, tally = Bitmap(64, 80), Tally()
        window.set_ranges([(64, 80)])
        make(plan).pass_free(memoryview(pages), 64, 64, 80, window, tally)
        assert (window.count(), tally.left_out[Kind.FREE]) == (0, 16)
        assert tally.spill_pfn[Kind.FREE] == tally.resume_pfn == 96


@pytest.mark.parametrize(
    ("first", "end", "max_order"), [(4, 16, 4), (0, 17, 4), (0, 16, 0), (0, 16, 65)]
)
def test_free_blocks_that_do_not_fit_are_refused(first: int, end: int, max_order: int) -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))._replace(max_order=max_order)
    pages = memoryview(bytes(16 * plan.page_size))
    with pytest.raises(NativeError):
        NativeClassifier(plan).pass_free(pages, 0, first, end, Bitmap(0, 16), Tally())


@pytest.mark.parametrize("order", [11, 63, 64, 1 << 40, (1 << 64) - 1])
def test_impossible_orders_keep_the_page(order: int) -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    types = LAYOUTS["6.12"].types
    pages = _page("6.12", mapcount=types["buddy"], private=order, mapping=1) * 8
    for make in (NativeClassifier, ReferenceClassifier):
        window, tally = Bitmap(0, 8), Tally()
        window.set_ranges([(0, 8)])
        make(plan).classify(memoryview(pages), 0, 0, 8, window, tally)
        assert (window.count(), tally.bad_orders, sum(tally.left_out)) == (8, 8, 0)


@pytest.mark.parametrize(
    ("block_pfn", "first", "end"), [(8, 0, 8), (0, 0, 17), (0, 8, 32), (0, -8, 8)]
)
def test_ranges_that_do_not_fit_are_refused(block_pfn: int, first: int, end: int) -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    window = Bitmap(0, 16)
    pages = memoryview(bytes(16 * plan.page_size))
    with pytest.raises((NativeError, OverflowError)):
        NativeClassifier(plan).classify(pages, block_pfn, first, end, window, Tally())


@pytest.mark.parametrize("field", ["flags_off", "mapping_off", "private_off", "order_off"])
def test_plans_that_reach_past_a_struct_page_are_refused(field: str) -> None:
    """The last line of defence: the C reads no byte outside of its block."""
    plan = make_plan(facts_of("6.12"), Level.of(31))
    bad = plan._replace(**{field: plan.page_size})
    window = Bitmap(0, 16)
    with pytest.raises(NativeError):
        NativeClassifier(bad).classify(
            memoryview(bytes(16 * plan.page_size)), 0, 0, 16, window, Tally()
        )


@pytest.mark.parametrize(
    "field",
    ["tail", "head", "slab_type", "slab_flag", "buddy", "unaccepted", "hugetlb", "offline",
     "hwpoison"],
)  # fmt: skip
def test_tests_that_reach_past_a_struct_page_are_refused(field: str) -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    bad = plan._replace(**{field: PageTest(plan.page_size - 4, 1, 1)})
    with pytest.raises(NativeError):
        NativeClassifier(bad).classify(
            memoryview(bytes(16 * plan.page_size)), 0, 0, 16, Bitmap(0, 16), Tally()
        )


def test_a_variant_that_this_machine_lacks_is_refused() -> None:
    plan = make_plan(facts_of("6.12"), Level.of(31))
    pages = memoryview(bytes(16 * plan.page_size))
    for variant in set(VARIANTS) - set(variants()):
        with pytest.raises(NativeError):
            NativeClassifier(plan, variant).classify(pages, 0, 0, 16, Bitmap(0, 16), Tally())
