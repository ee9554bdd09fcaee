# SPDX-License-Identifier: GPL-2.0-or-later
"""What the crash kernel answers when it is to judge pages, followed batch after batch of records.

Format: csrc/vmcore_pfn_lists.h.
"""

from __future__ import annotations

from typing import Protocol

from pydumpfile import loops
from pydumpfile.bitmap import Bitmap
from pydumpfile.filter.level import Kind
from pydumpfile.filter.tally import Tally

RECORD_SIZE = 16
TOTAL = 0x80
"""Added to a kind, in the record that tells how many pages of it there were."""
BAD_ORDERS = 0x90
"""In the kind's place of the last record."""
N_KINDS = int(Kind.UNUSED_MEM_MAP)
"""The last is no matter of one struct page."""


class Answer:
    """How far the answer to one request has come."""

    def __init__(self, end_pfn: int) -> None:
        self.end_pfn = end_pfn
        """That of the request: no run of pages goes past it."""
        self.next_pfn = 0
        """No run of pages begins below: they ascend."""
        self.pages = [0] * N_KINDS
        """In runs, by :class:`Kind`."""
        self.n_totals = 0
        """Records behind the runs: one for each kind, one for bad orders."""

    @property
    def complete(self) -> bool:
        """Its last record has come."""
        return self.n_totals > N_KINDS


class TakeRecords(Protocol):
    """The loop over records: C, or its reference."""

    def __call__(self, records: bytes, answer: Answer, window: Bitmap, tally: Tally) -> int:
        """See :func:`pydumpfile.filter.native.take_records`."""


def make_take_records() -> TakeRecords:
    """The one that PYDUMPFILE_KERNEL demands."""
    if loops.in_python():
        from pydumpfile.filter.reference import take_records as in_python  # noqa: PLC0415

        return in_python
    from pydumpfile.filter.native import take_records as in_c  # noqa: PLC0415

    return in_c
