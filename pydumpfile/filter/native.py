# SPDX-License-Identifier: GPL-2.0-or-later
"""csrc/classify.c for Python: blocks of struct pages in, bits of the bitmap cleared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydumpfile._pagescan import ffi, lib
from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import NativeError
from pydumpfile.filter.level import Kind
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
        self._window = ffi.new("struct pydump_window *")

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
        bits = ffi.from_buffer("uint8_t[]", window.bits, require_writable=True)
        struct_pages = ffi.from_buffer("uint8_t[]", pages)
        self._block.pages = struct_pages
        self._block.n_pages = len(pages) // self._page_size
        self._block.first_pfn = block_pfn
        c_window = self._window
        c_window.bits = bits
        c_window.first_pfn = window.first_pfn
        c_window.end_pfn = window.end_pfn
        c_window.resume_pfn = tally.resume_pfn
        c_window.bad_orders = tally.bad_orders
        n = lib.PYDUMP_KINDS
        c_window.left_out = tally.left_out[:n]
        c_window.spill_pfn = tally.spill_pfn[:n]
        yield self._block, c_window
        tally.resume_pfn = c_window.resume_pfn
        tally.bad_orders = c_window.bad_orders
        tally.left_out[:n] = c_window.left_out
        tally.spill_pfn[:n] = c_window.spill_pfn


def _c_test(test: PageTest) -> dict[str, Any]:
    return {"off": test.off, "mask": test.mask, "value": test.value, "after": test.after}


assert lib.PYDUMP_KINDS == Kind.UNUSED_MEM_MAP
