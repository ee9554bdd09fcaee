# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/page_judge.h, classify.c and records.c in plain Python.

Slow, obvious, the measure of the C.
"""

from __future__ import annotations

from struct import Struct

from pydumpfile.bitmap import Bitmap
from pydumpfile.filter.answer import BAD_ORDERS, N_KINDS, TOTAL, Answer
from pydumpfile.filter.level import Kind
from pydumpfile.filter.plan import PageTest, Plan
from pydumpfile.filter.tally import Tally

_ANON_BIT = 1
_GROUP_PAGES = 512
_RECORD = Struct("<QQ")


class ReferenceClassifier:
    """Judges pages as :class:`pydumpfile.filter.native.NativeClassifier` does, which see."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def classify(
        self,
        pages: memoryview,
        block_pfn: int,
        first_pfn: int,
        end_pfn: int,
        window: Bitmap,
        tally: Tally,
    ) -> None:
        """Judge ``[first_pfn, end_pfn)``; ``pages`` starts with that of ``block_pfn``."""
        block = _Block(self._plan, pages, block_pfn, tally)
        pfn = max(first_pfn, tally.resume_pfn)
        while pfn < end_pfn:
            kind, n = block.judge(pfn)
            if kind is not None:
                tally.left_out[kind] += window.clear_range(pfn, pfn + n)
                if pfn + n > window.end_pfn:
                    tally.spill_pfn[kind] = max(tally.spill_pfn[kind], pfn + n)
            pfn += n
        tally.resume_pfn = max(tally.resume_pfn, pfn)

    def pass_free(
        self,
        pages: memoryview,
        block_pfn: int,
        first_pfn: int,
        end_pfn: int,
        window: Bitmap,
        tally: Tally,
    ) -> None:
        """Judge the free blocks of the largest order from ``first_pfn`` on."""
        block = _Block(self._plan, pages, block_pfn, tally)
        step = 1 << (self._plan.max_order - 1)
        pfn = first_pfn
        while pfn < end_pfn and block.is_free_block(pfn, self._plan.max_order - 1):
            pfn += step
        tally.left_out[Kind.FREE] += window.clear_range(first_pfn, pfn)
        if pfn > window.end_pfn:
            tally.spill_pfn[Kind.FREE] = max(tally.spill_pfn[Kind.FREE], pfn)
        tally.resume_pfn = max(tally.resume_pfn, pfn)


def take_records(records: bytes, answer: Answer, window: Bitmap, tally: Tally) -> int:
    """Do what ``records`` say as :func:`pydumpfile.filter.native.take_records` does, which see."""
    done = 0
    for first_pfn, n_kind in _RECORD.iter_unpack(records):
        n, kind = n_kind >> 8, n_kind & 0xFF
        if kind < N_KINDS:
            taken = _take_run((first_pfn, first_pfn + n), Kind(kind), answer, window, tally)
        else:
            taken = _take_total(n_kind, first_pfn, answer, tally)
        if not taken:
            break
        done += 1
    return done


def _take_run(
    run: tuple[int, int], kind: Kind, answer: Answer, window: Bitmap, tally: Tally
) -> bool:
    first_pfn, end_pfn = run
    begins_right = answer.next_pfn <= first_pfn and window.first_pfn <= first_pfn < window.end_pfn
    if answer.n_totals or not begins_right or not first_pfn < end_pfn <= answer.end_pfn:
        return False
    tally.left_out[kind] += window.clear_range(first_pfn, end_pfn)
    if end_pfn > window.end_pfn:
        tally.spill_pfn[kind] = max(tally.spill_pfn[kind], end_pfn)
    tally.resume_pfn = max(tally.resume_pfn, end_pfn)
    answer.pages[kind] += end_pfn - first_pfn
    answer.next_pfn = first_pfn + 1
    return True


def _take_total(n_kind: int, total: int, answer: Answer, tally: Tally) -> bool:
    kind = answer.n_totals
    if kind < N_KINDS:
        if n_kind != TOTAL + kind or total != answer.pages[kind]:
            return False
    else:
        if kind > N_KINDS or n_kind != BAD_ORDERS or total > answer.end_pfn:
            return False
        tally.bad_orders += total
    answer.n_totals += 1
    return True


class _Block:
    """Struct pages of one block, judged one at a time."""

    def __init__(self, plan: Plan, pages: memoryview, block_pfn: int, tally: Tally) -> None:
        self._plan = plan
        self._pages = pages
        self._block_pfn = block_pfn
        self._n_pages = len(pages) // plan.page_size
        self._tally = tally

    def judge(self, pfn: int) -> tuple[Kind | None, int]:
        """Why ``pfn`` goes, or None if it stays; and how many pages that speaks for."""
        plan = self._plan
        if self._holds(plan.tail, pfn):
            return None, 1
        slab = self._holds(plan.slab_type, pfn) or self._holds(plan.slab_flag, pfn)
        if not slab and self._holds(plan.buddy, pfn):
            order = self._word(pfn, plan.private_off)
            if order < plan.max_order:
                return Kind.FREE, 1 << order
            self._tally.bad_orders += 1
            return None, 1
        if self._holds(plan.unaccepted, pfn):
            return Kind.FREE, 1 << (plan.max_order - 1)
        order, hugetlb = self._compound(pfn)
        kind = self._kind(pfn, slab, hugetlb)
        return kind, 1 if kind is None else 1 << order

    def is_free_block(self, pfn: int, order: int) -> bool:
        """Whether the buddy allocator has a block of ``order`` that starts with ``pfn``."""
        plan = self._plan
        others = (plan.tail, plan.slab_type, plan.slab_flag)
        return (
            self._holds(plan.buddy, pfn)
            and self._word(pfn, plan.private_off) == order
            and not any(self._holds(other, pfn) for other in others)
        )

    def _kind(self, pfn: int, slab: bool, hugetlb: bool) -> Kind | None:
        plan = self._plan
        flags = self._word(pfn, plan.flags_off)
        anon = bool(self._word(pfn, plan.mapping_off) & _ANON_BIT) and not slab
        in_swap_cache = flags & plan.swapcache_mask == plan.swapcache_mask
        cache = bool(flags & plan.lru_mask) or in_swap_cache
        private = bool(flags & plan.private_mask)
        if cache and not anon and private and plan.drop_cache_private:
            return Kind.CACHE_PRIVATE
        if cache and not anon and not private and plan.drop_cache:
            return Kind.CACHE
        if plan.drop_user and (anon or hugetlb):
            return Kind.USER
        if self._holds(plan.hwpoison, pfn):
            return Kind.HWPOISON
        if not slab and self._holds(plan.offline, pfn):
            return Kind.OFFLINE
        return None

    def _compound(self, pfn: int) -> tuple[int, bool]:
        """Compound order and whether it is hugetlb; 0 and False for all but heads."""
        plan = self._plan
        last_of_block = pfn + 1 - self._block_pfn >= self._n_pages
        last_of_group = (pfn + 1) % _GROUP_PAGES == 0
        if last_of_block or last_of_group or not self._holds(plan.head, pfn):
            return 0, False
        order = self._word(pfn + 1, plan.order_off) >> plan.order_shift & plan.order_mask
        # A read-only copy of a head (HVO's fake heads) is not aligned to its order.
        if order >= 64 or pfn % (1 << order):
            order = 0
        return order, self._holds(plan.hugetlb, pfn)

    def _holds(self, test: PageTest, pfn: int) -> bool:
        return self._word(pfn + test.after, test.off) & test.mask == test.value

    def _word(self, pfn: int, off: int) -> int:
        at = (pfn - self._block_pfn) * self._plan.page_size + off
        return int.from_bytes(self._pages[at : at + 8], "little")
