# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast the C loop judges struct pages in memory, beside copying them.

    python -m tests.bench.scan

Mixes of pages of Linux 6.12's layout: all kept, so that each goes through every rule; all free, but
as single pages; and four kinds mixed. One core, level 31; copying the same bytes in the same run
says what the memory allows. Prints JSON, which :mod:`tests.bench.scanning` reads.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any, Callable

from pydumpfile.bitmap import Bitmap
from pydumpfile.filter.level import Level
from pydumpfile.filter.native import NativeClassifier
from pydumpfile.filter.plan import Plan, make_plan
from pydumpfile.filter.tally import Tally
from pydumpfile.kernel.facts import Facts
from tests.builders import CoreSpec, build_core

N_PAGES = 1 << 20
STRUCT_PAGE_SIZE = 64
REPEATS = 9

_LRU, _HEAD, _SWAPBACKED = 1 << 5, 1 << 6, 1 << 17
BUDDY = (0xF0 << 24).to_bytes(4, "little")
_SLAB = (0xF5 << 24).to_bytes(4, "little")
_NO_TYPE = b"\xff\xff\xff\xff"


def struct_page(flags: int, mapping: int, type_word: bytes, private: int = 0) -> bytes:
    """One ``struct page`` of Linux 6.12 on x86_64."""
    page = bytearray(STRUCT_PAGE_SIZE)
    page[0:8] = flags.to_bytes(8, "little")
    page[24:32] = mapping.to_bytes(8, "little")
    page[40:48] = private.to_bytes(8, "little")
    page[48:52] = type_word
    return bytes(page)


KEPT = struct_page(0, 0, _SLAB)
FREE = struct_page(0, 0, BUDDY)
ANON = struct_page(_LRU | _SWAPBACKED, 0xFFFF888000000001, _NO_TYPE)
CACHE = struct_page(_LRU, 0xFFFF888000000000, _NO_TYPE)
MIXES = {
    "all kept": (KEPT,),
    "all free, single pages": (FREE,),
    "mixed, runs of 16": (KEPT, FREE, ANON, CACHE),
    "mixed, no runs": (KEPT, FREE, ANON, CACHE),
}
"""The last is the worst there can be for branch prediction: a real mem_map has runs of a kind."""


def plan_of_6_12() -> Plan:
    """Level 31 for the layout above, from the note a synthetic core of it carries."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        built = build_core(f"{folder}/core", CoreSpec(layout="6.12"))
    return make_plan(Facts.from_vmcoreinfo(built.vmcoreinfo.encode(), "bench"), Level(31))


def cpu_seconds(work: Callable[[], object]) -> list[float]:
    """CPU time of each of several calls: they do nothing but compute."""
    seconds = []
    for _ in range(REPEATS):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return seconds


def measure() -> dict[str, Any]:
    """``scan_s`` and ``copy_s`` of each mix, all repeats, for ``n_pages`` pages."""
    classifier = NativeClassifier(plan_of_6_12())
    target = memoryview(bytearray(N_PAGES * STRUCT_PAGE_SIZE))
    chooser = random.Random(1)
    found: dict[str, Any] = {"n_pages": N_PAGES, "struct_page_size": STRUCT_PAGE_SIZE}
    found["scan_s"], found["copy_s"] = {}, {}
    for name, kinds in MIXES.items():
        run = 1 if name.endswith("no runs") else 16
        runs = chooser.choices(kinds, k=N_PAGES // run)
        pages = memoryview(b"".join(page * run for page in runs))

        def scan(pages: memoryview = pages) -> None:
            window = Bitmap(0, N_PAGES)
            window.set_ranges([(0, N_PAGES)])
            classifier.classify(pages, 0, 0, N_PAGES, window, Tally())

        def copy(pages: memoryview = pages) -> None:
            target[:] = pages

        found["scan_s"][name], found["copy_s"][name] = cpu_seconds(scan), cpu_seconds(copy)
    return found


if __name__ == "__main__":
    print(json.dumps(measure()))
