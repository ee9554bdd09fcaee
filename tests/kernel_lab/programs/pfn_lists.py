# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/vmcore_pfn_lists against pydumpfile's own filter, in the crash kernel.

    pfn_lists.py levels FIRST END       bitmaps and counters of the levels in [FIRST, END)
    pfn_lists.py plans N                the same, by N plans no kernel would need
    pfn_lists.py slices                 the same answer through small buffers and from two readers
    pfn_lists.py hostile N              hostile.py: requests to be refused, and N garbled ones
    pfn_lists.py place                  physical addresses between which are struct pages only

Prints a line that starts with LISTS for each thing done, and stops at the first that is wrong.
"""

from __future__ import annotations

import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(__file__))

from dead_machine import RECORD_SIZE, Machine, Random, busy_request, random_plan, records_of
from hostile import hostile

from pydumpfile.errors import PydumpfileError
from pydumpfile.filter import pfnlists
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.plan import Plan


def compare(machine: Machine, what: str, level: int, plan: Plan | None = None) -> None:
    begin = time.monotonic()
    by_user = machine.filter(level, FilterIn.USER, plan)
    if by_user.scan is None:
        print(f"LISTS {what}: no struct page matters")
        return
    windows = [bytes(window.bits) for window in by_user.windows()]
    middle = time.monotonic()
    by_kernel = machine.filter(level, FilterIn.KERNEL, plan)
    found = [bytes(window.bits) for window in by_kernel.windows()]
    end = time.monotonic()
    assert windows == found, f"{what}: bitmaps differ"
    for counter in ("left_out", "bad_orders", "unreadable"):
        expected, counted = (getattr(one.tally, counter) for one in (by_user, by_kernel))
        assert counted == expected, f"{what}: {counter} is {counted}, and {expected} in user space"
    print(
        f"LISTS {what}: same {8 * sum(map(len, windows))} bits, left out {by_user.tally.left_out}"
        f" (user {1000 * (middle - begin):.0f} ms, kernel {1000 * (end - middle):.0f} ms)"
    )


def slices(machine: Machine) -> None:
    request = busy_request(machine)
    whole = records_of(request, [1 << 20])
    for sizes in ([16], [31, 17, 100], [4096], [4097, 16]):
        assert records_of(request, sizes) == whole, f"buffers of {sizes} bytes"
        print(f"LISTS slices {sizes}: same {len(whole) // RECORD_SIZE} records")
    file = os.open(pfnlists.PATH, os.O_RDWR)
    os.write(file, request)
    parts: list[bytes] = []

    def read(size: int) -> None:
        while part := os.read(file, size):
            parts.append(part)

    readers = [threading.Thread(target=read, args=(size,)) for size in (16, 48, 160)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    os.close(file)
    got = sorted(
        part[at : at + RECORD_SIZE] for part in parts for at in range(0, len(part), RECORD_SIZE)
    )
    wanted = sorted(whole[at : at + RECORD_SIZE] for at in range(0, len(whole), RECORD_SIZE))
    assert got == wanted, "three readers got other records than one"
    print("LISTS slices: three readers got each record once")


def place(machine: Machine) -> None:
    """The largest part of mem_map that is in one place."""
    largest = max((one for piece in machine.pieces for one in piece.extents), key=lambda e: e.size)
    for load in machine.vmcore.source.loads:
        if load.p_offset <= largest.off < load.p_offset + load.p_filesz:
            start_paddr = load.p_paddr + largest.off - load.p_offset
            print(f"LISTS PLACE {start_paddr:#x} {start_paddr + largest.size:#x}")


def main() -> None:
    machine = Machine()
    what, *numbers = sys.argv[1:]
    if what == "levels":
        n_extents = sum(len(piece.extents) for piece in machine.pieces)
        print(f"LISTS {len(machine.pieces)} pieces of mem_map in {n_extents} places")
        for level in range(int(numbers[0]), int(numbers[1])):
            compare(machine, f"level {level}", level)
    elif what == "plans":
        sound = machine.plan(31)
        for seed in range(int(numbers[0])):
            compare(machine, f"plan {seed}", 31, random_plan(Random(seed), sound))
    elif what == "slices":
        slices(machine)
    elif what == "hostile":
        hostile(machine, int(numbers[0]))
    elif what == "place":
        place(machine)
    print(f"LISTS DONE {what}")


try:
    main()
except (AssertionError, PydumpfileError) as error:
    print(f"LISTS WRONG {error}")
