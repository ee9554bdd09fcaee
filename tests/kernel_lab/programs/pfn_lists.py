# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/vmcore_pfn_lists against pydumpfile's own filter, in the crash kernel.

    pfn_lists.py levels FIRST END       bitmaps and counters of the levels in [FIRST, END)
    pfn_lists.py plans N                the same, by N plans no kernel would need
    pfn_lists.py slices                 the same answer through small buffers and from two readers
    pfn_lists.py hostile N              requests to be refused, and N garbled ones; signals

Prints a line that starts with LISTS for each thing done, and stops at the first that is wrong.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import InputError
from pydumpfile.filter import pfnlists
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Kind, Level
from pydumpfile.filter.native import NativeClassifier
from pydumpfile.filter.plan import NEVER, PageTest, Plan
from pydumpfile.kernel.vmcore import Vmcore

REQUEST_SIZE = 344
PLAN_OFF = 56
RECORD_SIZE = 16


class Random:
    """Numbers from a seed (xorshift64*): the module random is not in the initramfs."""

    def __init__(self, seed: int) -> None:
        self._state = seed + 0x9E3779B97F4A7C15

    def getrandbits(self, n: int) -> int:
        state = self._state
        state ^= state >> 12
        state ^= state << 25 & (1 << 64) - 1
        state ^= state >> 27
        self._state = state
        return (state * 0x2545F4914F6CDD1D & (1 << 64) - 1) >> 64 - n

    def below(self, end: int) -> int:
        return self.getrandbits(32) * end >> 32

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent


class Machine:
    """The dead kernel, and where its struct pages are in /proc/vmcore."""

    def __init__(self) -> None:
        self.vmcore = Vmcore.open("/proc/vmcore")
        mem_map = self.vmcore.mem_map
        self.online = [one for one in mem_map if one.online]
        self.offline = [one for one in mem_map if not one.online]
        size = mem_map.struct_page_size
        loads = self.vmcore.source.loads
        self.pieces = [pfnlists.locate(one, size, self.vmcore.memory, loads) for one in self.online]

    def filter(self, level: int, plan: Plan | None = None) -> PageFilter:
        made = PageFilter(self.vmcore, Level.of(level))
        if plan is not None:
            made._plan = plan
            made._classifier = NativeClassifier(plan)
            made.scans = True
        return made

    def requests(self, page_filter: PageFilter) -> list[bytes]:
        end_pfn = self.vmcore.mem_map.end_pfn
        plan, memory = page_filter._plan, page_filter.candidates
        return list(pfnlists.make_requests(plan, memory, self.pieces, end_pfn))

    def by_kernel(self, page_filter: PageFilter) -> tuple[list[bytes], list[int], int, int]:
        """The windows' bits, pages left out by kind, bad orders, and how many runs it took."""
        with pfnlists.PfnLists() as lists:
            going = [one for request in self.requests(page_filter) for one in lists.ask(request)]
            windows, left_out = [], [0] * len(Kind)
            for bounds in page_filter.window_bounds():
                window = Bitmap(*bounds)
                page_filter.candidates.mark(window)
                for one in self.offline:
                    dropped = window.clear_range(one.first_pfn, one.end_pfn)
                    left_out[Kind.OFFLINE] += dropped
                for first_pfn, end_pfn, kind in going:
                    left_out[kind] += window.clear_range(first_pfn, end_pfn)
                windows.append(bytes(window.bits))
            return windows, left_out, lists.bad_orders, len(going)


def compare(machine: Machine, what: str, level: int, plan: Plan | None = None) -> None:
    begin = time.monotonic()
    by_user = machine.filter(level, plan)
    if not by_user.scans:
        print(f"LISTS {what}: no struct page matters")
        return
    windows = [bytes(window.bits) for window in by_user.windows()]
    middle = time.monotonic()
    found, left_out, bad_orders, n_runs = machine.by_kernel(machine.filter(level, plan))
    end = time.monotonic()
    assert windows == found, f"{what}: bitmaps differ"
    assert by_user.tally.left_out == left_out, f"{what}: {by_user.tally.left_out}, {left_out}"
    assert by_user.tally.bad_orders == bad_orders, f"{what}: {bad_orders} bad orders"
    print(
        f"LISTS {what}: same {8 * sum(map(len, windows))} bits, left out {left_out}, {n_runs} runs"
        f" (user {1000 * (middle - begin):.0f} ms, kernel {1000 * (end - middle):.0f} ms)"
    )


def random_plan(random: Random, sound: Plan) -> Plan:
    """Tests of bits that are somewhere in struct pages; a few as they should be."""

    def word() -> int:
        return 8 * random.below(sound.page_size // 8)

    def test(after: bool = False) -> PageTest:
        if random.chance(20):
            return NEVER
        mask = 1 << random.below(64) | 1 << random.below(64)
        return PageTest(word(), mask, mask & random.getrandbits(64), after and random.chance(50))

    changed: dict[str, object] = {
        name: test(name == "hugetlb")
        for name, value in sound._asdict().items()
        if isinstance(value, PageTest) and random.chance(50)
    }
    if random.chance(50):
        changed["order_off"] = word()
        changed["order_shift"] = random.below(64)
        changed["order_mask"] = random.getrandbits(1 + random.below(7))
    if random.chance(50):
        changed["private_off"] = word()
        changed["max_order"] = 1 + random.below(64)
    for name in ("lru_mask", "swapcache_mask", "private_mask"):
        if random.chance(30):
            changed[name] = 1 << random.below(64)
    return sound._replace(**changed)


def records_of(request: bytes, sizes: list[int]) -> bytes:
    """All records, read with buffers of these sizes in turn."""
    file = os.open(pfnlists.PATH, os.O_RDWR)
    os.write(file, request)
    got = []
    i = 0
    while True:
        part = os.read(file, sizes[i % len(sizes)])
        if not part:
            break
        got.append(part)
        i += 1
    os.close(file)
    return b"".join(got)


def busy_request(machine: Machine) -> bytes:
    """One that is answered by many records, and has tables of several entries."""
    sound = machine.filter(31)._plan
    for seed in range(200):
        plan = random_plan(Random(seed), sound)
        (request, *_) = machine.requests(machine.filter(31, plan))
        if len(records_of(request, [1 << 20])) > 1000 * RECORD_SIZE:
            return request
    raise AssertionError("no plan gives many records")


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


def put(request: bytes, off: int, layout: str, value: int) -> bytes:
    size = struct.calcsize(layout)
    return request[:off] + struct.pack(layout, value) + request[off + size :]


def hostile_requests(good: bytes) -> list[tuple[str, bytes, int]]:
    """What is wrong, the request, and the error it must get."""
    n_ranges, n_pieces = struct.unpack_from("<2I", good, 36)
    ranges_off = REQUEST_SIZE
    pieces_off = ranges_off + 16 * n_ranges
    extents_off = pieces_off + 24 * n_pieces
    first_off, first_size = struct.unpack_from("<QQ", good, extents_off)
    range_first, range_end = struct.unpack_from("<QQ", good, ranges_off)
    bad: list[tuple[str, bytes, int]] = [
        ("empty", b"", errno.EINVAL),
        ("one byte", good[:1], errno.EINVAL),
        ("torn header", good[: REQUEST_SIZE - 1], errno.EINVAL),
        ("only a header", good[:REQUEST_SIZE], errno.EINVAL),
        ("torn tables", good[:-1], errno.EINVAL),
        ("a byte more", good + b"\0", errno.EINVAL),
        ("too long", good + bytes(pfnlists.REQUEST_MAX), errno.E2BIG),
        ("magic", put(good, 0, "<Q", 1), errno.EINVAL),
        ("version", put(good, 8, "<I", 2), errno.EINVAL),
        ("end_pfn", put(good, 48, "<Q", (1 << 52) + 1), errno.EINVAL),
        ("end_pfn before memory", put(good, 48, "<Q", 1), errno.EINVAL),
    ]
    for off in range(12, 36, 4):
        bad.append((f"struct size at {off}", put(good, off, "<I", 0), errno.EINVAL))
    for off in (36, 40, 44):
        for count in (0, 1 << 16, 1 << 28, 0xFFFFFFFF):
            bad.append((f"count {count:#x} at {off}", put(good, off, "<I", count), errno.EINVAL))
    plan: list[tuple[str, int, str, int]] = [
        *(("page_size", 0, "<I", n) for n in (0, 4, 8, 63, 1032, 1 << 31, 0xFFFFFFFF)),
        *((f"offset at {off}", off, "<I", n) for off in range(4, 20, 4) for n in (60, 64, 1 << 31)),
        *((f"offset at {off}", off, "<I", 0xFFFFFFFC) for off in range(4, 20, 4)),
        *(("order_shift", 20, "<I", n) for n in (64, 0xFFFFFFFF)),
        *(("max_order", 32, "<I", n) for n in (0, 65, 0xFFFFFFFF)),
    ]
    for i in range(9):
        off = 48 + 24 * i
        plan += [(f"test {i}", off, "<I", n) for n in (4, 60, 64, 0xFFFFFFF8, 0xFFFFFFFC)]
        plan.append((f"after of test {i}", off + 4, "<I", 2 if i == 6 else 1))
    bad += [
        (f"plan: {name} {value:#x}", put(good, PLAN_OFF + off, layout, value), errno.EINVAL)
        for name, off, layout, value in plan
    ]
    bad += [
        ("empty range", put(good, ranges_off + 8, "<Q", range_first), errno.EINVAL),
        ("inverted range", put(good, ranges_off, "<Q", range_end + 1), errno.EINVAL),
        ("range past the end", put(good, ranges_off + 8, "<Q", (1 << 64) - 1), errno.EINVAL),
        ("reserved", put(good, pieces_off + 20, "<I", 1), errno.EINVAL),
        ("no extents", put(good, pieces_off + 16, "<I", 0), errno.EINVAL),
        ("more extents than there are", put(good, pieces_off + 16, "<I", 1 << 31), errno.EINVAL),
        ("longer piece", put(good, pieces_off + 8, "<Q", (1 << 15) + 1), errno.EINVAL),
        ("shorter piece", put(good, pieces_off + 8, "<Q", (1 << 15) - 1), errno.EINVAL),
        ("piece past the end", put(good, pieces_off + 8, "<Q", (1 << 64) - 1), errno.EINVAL),
        ("empty extent", put(good, extents_off + 8, "<Q", 0), errno.EINVAL),
        ("unaligned extent", put(good, extents_off, "<Q", first_off + 4), errno.EINVAL),
        ("unaligned size", put(good, extents_off + 8, "<Q", first_size - 4), errno.EINVAL),
        ("long extent", put(good, extents_off + 8, "<Q", first_size + 8), errno.EINVAL),
        ("short extent", put(good, extents_off + 8, "<Q", first_size - 8), errno.EINVAL),
        ("endless extent", put(good, extents_off + 8, "<Q", (1 << 64) - 8), errno.EINVAL),
        ("struct pages in the ELF header", put(good, extents_off, "<Q", 0), errno.ENXIO),
    ]
    size = os.stat("/proc/vmcore").st_size
    for off in (size - size % 8 - 8, size + 7 & ~7, 1 << 62, (1 << 64) - 8, (1 << 64) - 4096):
        bad.append((f"struct pages at {off:#x}", put(good, extents_off, "<Q", off), errno.ENXIO))
    if n_ranges > 1:
        swapped = good[: ranges_off + 16] + good[ranges_off : ranges_off + 16]
        bad.append(("overlapping ranges", swapped + good[ranges_off + 32 :], errno.EINVAL))
    if n_pieces > 1:
        twice = good[: pieces_off + 24] + good[pieces_off : pieces_off + 24]
        bad.append(("overlapping pieces", twice + good[pieces_off + 48 :], errno.EINVAL))
        first, second = (good[pieces_off + at : pieces_off + at + 24] for at in (0, 24))
        order = good[:pieces_off] + second + first + good[pieces_off + 48 :]
        bad.append(("unsorted pieces", order, errno.EINVAL))
    return bad


def error_of(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or 0
    return 0


def hostile(machine: Machine, n_garbled: int) -> None:
    good = busy_request(machine)
    file = os.open(pfnlists.PATH, os.O_RDWR)
    assert error_of(lambda: os.read(file, 15)) == errno.EINVAL
    assert error_of(lambda: os.read(file, 16)) == errno.ENODATA
    os.write(file, good)
    first = os.read(file, 1600)
    assert first == records_of(good, [1 << 20])[:1600]
    bad = hostile_requests(good)
    for name, request, wanted in bad:
        got = error_of(partial(os.write, file, request))
        assert got == wanted, f"{name}: {errno.errorcode.get(got, got)}"
    rest = b""
    while part := os.read(file, 1 << 16):
        rest += part
    assert first + rest == records_of(good, [1 << 20]), "a refused request changed something"
    print(f"LISTS hostile: {len(bad)} requests refused, nothing changed by them")
    assert error_of(lambda: os.pread(file, 16, 0)) == errno.ESPIPE
    assert error_of(lambda: os.lseek(file, 0, 0)) == errno.ESPIPE
    unprivileged()
    interrupted(file, good)
    os.close(file)
    garbled(good, n_garbled)


def unprivileged() -> None:
    child = os.fork()
    if child == 0:
        os.chmod(pfnlists.PATH, 0o666)
        os.setuid(65534)
        got = error_of(partial(os.open, pfnlists.PATH, os.O_RDWR))
        os._exit(0 if got == errno.EPERM else 1)
    assert os.waitpid(child, 0)[1] == 0, "anybody may open it"
    print("LISTS hostile: refused without CAP_SYS_ADMIN")


class Alarm(Exception):
    pass


def raise_alarm(_number: int, _frame: object) -> None:
    raise Alarm


def interrupted(file: int, good: bytes) -> None:
    """A piece of 2**40 pages whose struct pages are nowhere takes long enough."""
    plan = good[PLAN_OFF:REQUEST_SIZE]
    (page_size,) = struct.unpack_from("<I", plan)
    n = 1 << 40
    endless = b"".join(
        (
            good[:36],
            struct.pack("<IIIQ", 1, 1, 1, n),
            plan,
            struct.pack("<QQ", 0, n),
            struct.pack("<QQII", 0, n, 1, 0),
            struct.pack("<QQ", (1 << 64) - 1, n * page_size),
        )
    )
    os.write(file, endless)
    signal.signal(signal.SIGALRM, raise_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    begin = time.monotonic()
    try:
        os.read(file, 4096)
        raise AssertionError("2**40 pages judged")
    except Alarm:
        print("LISTS hostile: a signal ends a read")
    assert time.monotonic() - begin < 60
    os.write(file, good)
    assert os.read(file, 1600) == records_of(good, [1 << 20])[:1600]


def garbled(good: bytes, n: int) -> None:
    """Whatever the kernel takes it must answer, and end."""
    random = Random(7)
    taken = cut = 0
    file = os.open(pfnlists.PATH, os.O_RDWR)
    for _ in range(n):
        request = bytearray(good)
        for _ in range(1 + random.below(3)):
            # Not the header, of which every byte is checked; of the plan not every is.
            at = 48 + random.below(len(request) - 48)
            request[at] = (0, 1, 0x7F, 0x80, 0xFF, random.getrandbits(8))[random.below(6)]
        if error_of(partial(os.write, file, bytes(request))):
            continue
        taken += 1
        signal.setitimer(signal.ITIMER_REAL, 2)
        try:
            while os.read(file, 1 << 16):
                pass
        except Alarm:
            cut += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    os.close(file)
    print(f"LISTS hostile: {n} garbled requests, {taken} taken, {cut} of them cut short")


def main() -> None:
    machine = Machine()
    what, *numbers = sys.argv[1:]
    if what == "levels":
        n_extents = sum(len(piece.extents) for piece in machine.pieces)
        print(f"LISTS {len(machine.pieces)} pieces of mem_map in {n_extents} places")
        for level in range(int(numbers[0]), int(numbers[1])):
            compare(machine, f"level {level}", level)
    elif what == "plans":
        sound = machine.filter(31)._plan
        for seed in range(int(numbers[0])):
            compare(machine, f"plan {seed}", 31, random_plan(Random(seed), sound))
    elif what == "slices":
        slices(machine)
    elif what == "hostile":
        hostile(machine, int(numbers[0]))
    print(f"LISTS DONE {what}")


try:
    main()
except (AssertionError, InputError) as error:
    print(f"LISTS WRONG {error}")
