# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that cannot be read, in an otherwise good core."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Optional

from pydumpfile.pfn import Range
from pydumpfile.sources.base import UnreadableError
from pydumpfile.sources.elf import ElfSource

PAGE = 4096


class BadMemory(ElfSource):
    """A core in which some pages cannot be read, as /proc/vmcore answers for bad memory."""

    bad_pfns: frozenset[int] = frozenset()

    def view(self, paddr: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        for start, end in wanted if wanted is not None else ((0, size),):
            for pfn in range((paddr + start) >> 12, (paddr + end + PAGE - 1) >> 12):
                if pfn in self.bad_pfns:
                    raise UnreadableError(max(paddr, pfn << 12), errno.EIO, "I/O error")
        return super().view(paddr, size, wanted)
