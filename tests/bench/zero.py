# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast each way to find zero pages is, on zero pages in memory, beside copying them.

    python -m tests.bench.zero

Zero pages are the worst case: every byte has to be looked at. 64 MiB, more than any cache holds.
Prints JSON, which :mod:`tests.bench.scanning` reads.
"""

from __future__ import annotations

import json
from typing import Any

from pydumpfile._pagescan import ffi, lib

from pydumpfile.variants import VARIANTS, variants
from tests.bench.scan import cpu_seconds

PAGE_SIZE = 4096
N_PAGES = 16 << 10


def measure() -> dict[str, Any]:
    """``find_s`` of each variant and ``copy_s``, all repeats, for ``n_bytes`` bytes."""
    pages = bytearray(N_PAGES * PAGE_SIZE)
    target = memoryview(bytearray(len(pages)))
    source = ffi.from_buffer("uint8_t[]", pages)
    offs = ffi.new("uint64_t[]", list(range(0, len(pages), PAGE_SIZE)))
    state = ffi.new("uint8_t[]", N_PAGES)

    def copy() -> None:
        target[:] = pages

    found: dict[str, Any] = {"n_bytes": len(pages), "copy_s": cpu_seconds(copy), "find_s": {}}
    for name in variants():

        def find(variant: int = VARIANTS[name]) -> None:
            n_zero = lib.pydump_find_zero(source, PAGE_SIZE, offs, N_PAGES, state, variant)
            assert n_zero == N_PAGES

        found["find_s"][name] = cpu_seconds(find)
    return found


if __name__ == "__main__":
    print(json.dumps(measure()))
