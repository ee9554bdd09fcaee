# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/classify.c and records.c for Python: struct pages or records in, bits cleared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydumpfile._pagescan import ffi, lib
from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import NativeError
from pydumpfile.filter.answer import N_KINDS, RECORD_SIZE, Answer
from pydumpfile.filter.plan import PageTest, Plan
from pydumpfile.filter.tally import Tally
from pydumpfile.variants import VARIANTS, variants


class NativeClassifier:
    """Judges pages by one plan. Holds no GIL while it does."""

    def __init__(self, plan: Plan, variant: str = "") -> None:
        self._variant = VARIANTS[variant or variants()[0]]
        self._page_size = plan.page_size
        self._plan = ffi.new("struct pydump_plan *")
        for name, value in plan._asdict().items():
            setattr(self._plan, name, _c_test(value) if isinstance(value, PageTest) else value)
        self._block = ffi.new("struct pydump_block *")

    def classify(
        self,
        pages: memoryview,
        block_pfn: int,
        first_pfn: int,
        end_pfn: int,
        window: Bitmap,
        tally: Tally,
    ) -> None:
        """Judge the pfns ``[first_pfn, end_pfn)`` and clear the bits of those that go.

        :param pages: struct pages of consecutive pfns, the first that of ``block_pfn``; both ends
            of the range to judge lie within, and within ``window``.
        :param tally: counted up; says below which pfn nothing is to be looked at, before and after.
        :raises NativeError: the ranges do not fit each other.
        """
        with self._lent(pages, block_pfn, window, tally) as (block, c_window):
            status = lib.pydump_classify(
                self._plan, block, first_pfn, end_pfn, c_window, self._variant
            )
        if status < 0:
            raise NativeError("pydump_classify", status)

    def pass_free(
        self,
        pages: memoryview,
        block_pfn: int,
        first_pfn: int,
        end_pfn: int,
        window: Bitmap,
        tally: Tally,
    ) -> None:
        """Judge the free blocks of the largest order that follow each other from ``first_pfn`` on.

        Of ``pages`` only the first of each such block has to be there. ``tally.resume_pfn`` says
        afterwards where they end; other parameters and errors are those of :meth:`classify`.
        """
        with self._lent(pages, block_pfn, window, tally) as (block, c_window):
            status = lib.pydump_pass_free(self._plan, block, first_pfn, end_pfn, c_window)
        if status < 0:
            raise NativeError("pydump_pass_free", status)

    @contextmanager
    def _lent(
        self, pages: memoryview, block_pfn: int, window: Bitmap, tally: Tally
    ) -> Iterator[tuple[Any, Any]]:
        """A block and a window for the C to work on; ``tally`` is brought up to date."""
        with ffi.from_buffer("uint8_t[]", pages) as struct_pages:
            self._block.pages = struct_pages
            self._block.n_pages = len(pages) // self._page_size
            self._block.first_pfn = block_pfn
            with _lent_window(window, tally) as c_window:
                yield self._block, c_window


def take_records(records: bytes, answer: Answer, window: Bitmap, tally: Tally) -> int:
    """Do what ``records``, the next of ``answer``, say of pages asked about, and count.

    Those are pages of ``window``; what goes past it is for the next.

    :return: how many records could be followed. If not all, the next is no such record, and what
        came before it has been done.
    """
    c_answer = ffi.new("struct pydump_answer *")
    c_answer.end_pfn = answer.end_pfn
    c_answer.next_pfn = answer.next_pfn
    c_answer.pages = answer.pages
    c_answer.n_totals = answer.n_totals
    content = ffi.from_buffer("uint8_t[]", records)
    with content, _lent_window(window, tally) as c_window:
        n: int = lib.pydump_take_records(content, len(records) // RECORD_SIZE, c_answer, c_window)
    answer.next_pfn = c_answer.next_pfn
    answer.pages[:] = c_answer.pages
    answer.n_totals = c_answer.n_totals
    return n


@contextmanager
def _lent_window(window: Bitmap, tally: Tally) -> Iterator[Any]:
    """A window for the C to work on; ``tally`` is brought up to date."""
    c_window = ffi.new("struct pydump_window *")
    c_window.first_pfn = window.first_pfn
    c_window.end_pfn = window.end_pfn
    c_window.resume_pfn = tally.resume_pfn
    c_window.bad_orders = tally.bad_orders
    c_window.left_out = tally.left_out[:N_KINDS]
    c_window.spill_pfn = tally.spill_pfn[:N_KINDS]
    with ffi.from_buffer("uint8_t[]", window.bits, require_writable=True) as bits:
        c_window.bits = bits
        yield c_window
    tally.resume_pfn = c_window.resume_pfn
    tally.bad_orders = c_window.bad_orders
    tally.left_out[:N_KINDS] = c_window.left_out
    tally.spill_pfn[:N_KINDS] = c_window.spill_pfn


def _c_test(test: PageTest) -> dict[str, Any]:
    return {"off": test.off, "mask": test.mask, "value": test.value, "after": test.after}


assert lib.PYDUMP_KINDS == N_KINDS
