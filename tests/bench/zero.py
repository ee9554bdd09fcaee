# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast each way to find zero pages is, on zero pages in memory, beside copying them.

    python -m tests.bench.zero

Zero pages are the worst case: every byte has to be looked at. 64 MiB, more than any cache holds.
"""

from __future__ import annotations

from pydumpfile._pagescan import ffi, lib

from pydumpfile.variants import VARIANTS, variants
from tests.bench.scan import median_seconds

PAGE_SIZE = 4096
N_PAGES = 16 << 10


def main() -> None:
    """Measure and print a Markdown table."""
    pages = bytearray(N_PAGES * PAGE_SIZE)
    target = memoryview(bytearray(len(pages)))
    source = ffi.from_buffer("uint8_t[]", pages)
    offs = ffi.new("uint64_t[]", list(range(0, len(pages), PAGE_SIZE)))
    state = ffi.new("uint8_t[]", N_PAGES)

    def copy() -> None:
        target[:] = pages

    print("| way | GB/s | of copying |\n|---|---|---|")
    copy_seconds = median_seconds(copy)
    for name in variants():

        def find(variant: int = VARIANTS[name]) -> None:
            found = lib.pydump_find_zero(source, PAGE_SIZE, offs, N_PAGES, state, variant)
            assert found == N_PAGES

        seconds = median_seconds(find)
        print(f"| {name} | {len(pages) / seconds / 1e9:.1f} | {copy_seconds / seconds:.1f} |")


if __name__ == "__main__":
    main()
