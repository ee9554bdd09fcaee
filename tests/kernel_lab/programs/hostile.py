# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to /proc/vmcore_pfn_lists that nobody should make, and users that meet in one file.

What is refused must leave everything as it was; what is not must be answered, and end.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Callable
from functools import partial

from dead_machine import (
    PLAN_OFF,
    RECORD_SIZE,
    REQUEST_SIZE,
    Machine,
    Random,
    busy_request,
    records_of,
)

from pydumpfile.filter import pfnlists

N_PIECES = 2
"""Of mem_map; a kernel that watches itself takes its time to copy all of them, again and again."""
PAGE_SIZE = mmap.PAGESIZE
NOWHERE = (1 << 64) - 1


def put(request: bytes, off: int, layout: str, value: int) -> bytes:
    size = struct.calcsize(layout)
    return request[:off] + struct.pack(layout, value) + request[off + size :]


def hostile_requests(machine: Machine, good: bytes) -> list[tuple[str, bytes, int]]:
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
        # With so many more the size is the same modulo 1 << 32: all of these tables' entries are
        # multiples of 8 bytes.
        (count,) = struct.unpack_from("<I", good, off)
        many = count + (1 << 29)
        bad.append((f"count {many:#x} at {off}", put(good, off, "<I", many), errno.EINVAL))
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
    for off in (size - size % 8 - 8, size + 7 & ~7, 1 << 62, (1 << 64) - 16, (1 << 64) - 4096):
        bad.append((f"struct pages at {off:#x}", put(good, extents_off, "<Q", off), errno.ENXIO))
    for load in machine.vmcore.source.loads:
        off = load.p_offset + load.p_filesz - 8 & ~7
        across = put(good, extents_off, "<Q", off)
        bad.append((f"struct pages across a PT_LOAD's end at {off:#x}", across, errno.ENXIO))
    return bad + overlapping_requests(good, ranges_off, pieces_off, extents_off)


def overlapping_requests(
    good: bytes, ranges_off: int, pieces_off: int, extents_off: int
) -> list[tuple[str, bytes, int]]:
    """Tables that are not ascending, or have something twice."""
    assert pieces_off - ranges_off >= 2 * 16, "the machine has only one range"
    assert extents_off - pieces_off >= 2 * 24, "the machine has only one piece"
    bad = []
    for what, off, size in (("range", ranges_off, 16), ("piece", pieces_off, 24)):
        first, second = (good[at : at + size] for at in (off, off + size))
        (first_pfn, end_pfn), behind = struct.unpack_from("<QQ", first), good[off + 2 * size :]
        tables = {
            "the same {} twice": first + first,
            "unsorted {}s": second + first,
            "a {} that begins in the one before": first + put(second, 0, "<Q", end_pfn - 1),
            "a {} that begins where the one before does": first + put(second, 0, "<Q", first_pfn),
            "a {} around the one behind it": put(first, 8, "<Q", NOWHERE >> 13) + second,
        }
        for name, table in tables.items():
            bad.append((name.format(what), good[:off] + table + behind, errno.EINVAL))
    return bad


def error_of(action: Callable[[], object]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or 0
    return 0


def rest_of(file: int) -> bytes:
    parts = []
    while part := os.read(file, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def hostile(machine: Machine, n_garbled: int) -> None:
    good = busy_request(machine, N_PIECES)
    whole = records_of(good, [1 << 20])
    file = os.open(pfnlists.PATH, os.O_RDWR)
    assert error_of(lambda: os.read(file, 15)) == errno.EINVAL
    assert error_of(lambda: os.read(file, 16)) == errno.ENODATA
    os.write(file, good)
    first = os.read(file, 1600)
    assert first == whole[:1600]
    bad = hostile_requests(machine, good)
    for name, request, wanted in bad:
        got = error_of(partial(os.write, file, request))
        assert got == wanted, f"{name}: {errno.errorcode.get(got, got)}"
    torn_writes(file, good)
    torn = torn_read(file)
    assert first + torn + rest_of(file) == whole, "a refused request changed something"
    print(f"LISTS hostile: {len(bad)} requests refused, torn ones too, nothing changed by them")
    unprivileged()
    interrupted(file, good)
    os.close(file)
    shared(good, whole)
    side_by_side(good, whole)
    racing(machine, good, whole)
    garbled(good, n_garbled)


class HalfMapped:
    """A buffer of which what lies behind `there` bytes is not there: a file was cut short."""

    def __init__(self, size: int, there: int) -> None:
        file = os.open("/tmp/half-mapped", os.O_RDWR | os.O_CREAT)
        # The pages that are left: what is there ends with the last of them.
        n_pages = -(-there // PAGE_SIZE)
        self._off = n_pages * PAGE_SIZE - there
        os.ftruncate(file, n_pages * PAGE_SIZE + size + PAGE_SIZE)
        self._mapping = mmap.mmap(file, n_pages * PAGE_SIZE + size)
        os.ftruncate(file, n_pages * PAGE_SIZE)
        os.close(file)
        self.there = there
        self.whole = memoryview(self._mapping)[self._off : self._off + size]

    def fill(self, content: bytes) -> None:
        self._mapping[self._off : self._off + self.there] = content[: self.there]

    @property
    def content(self) -> bytes:
        return bytes(self._mapping[self._off : self._off + self.there])


def torn_writes(file: int, good: bytes) -> None:
    """A request that does not come by one write() is none, wherever it is torn."""
    for at in (1, 8, PLAN_OFF, REQUEST_SIZE - 1, REQUEST_SIZE, REQUEST_SIZE + 16, len(good) - 1):
        parts = [good[:at], good[at:]]
        for part in parts:
            assert error_of(partial(os.write, file, part)) == errno.EINVAL, f"torn at {at}"
        assert error_of(partial(os.writev, file, parts)) == errno.EINVAL, f"writev, torn at {at}"
        buffer = HalfMapped(len(good), at)
        buffer.fill(good)
        got = error_of(partial(os.write, file, buffer.whole))
        assert got == errno.EFAULT, f"not there from {at} on: {errno.errorcode.get(got, got)}"
    assert error_of(partial(os.pwrite, file, good, 0)) == errno.ESPIPE
    assert error_of(lambda: os.pread(file, 16, 0)) == errno.ESPIPE
    assert error_of(lambda: os.lseek(file, 0, 0)) == errno.ESPIPE


def torn_read(file: int) -> bytes:
    """Records that the reader has no room for are not lost; what it got."""
    nothing = HalfMapped(RECORD_SIZE, 0)
    assert error_of(partial(os.readv, file, [nothing.whole])) == errno.EFAULT
    half = HalfMapped(RECORD_SIZE, 7)
    assert error_of(partial(os.readv, file, [half.whole])) == errno.EFAULT
    parts = [bytearray(RECORD_SIZE), bytearray(2 * RECORD_SIZE)]
    assert os.readv(file, parts) == 3 * RECORD_SIZE
    return b"".join(parts)


def in_child(action: Callable[[], bool]) -> int:
    """Have it done by another process; gives that process's id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if action() else 1
        finally:
            os._exit(status)
    return child


def shared(good: bytes, whole: bytes) -> None:
    """One open file by two numbers and in two processes: each record goes to one reader."""
    file = os.open(pfnlists.PATH, os.O_RDWR)
    other = os.dup(file)
    os.write(other, good)
    got = os.read(file, 160) + os.read(other, 160)
    os.close(file)
    expected = whole[320:480]
    child = in_child(lambda: os.read(other, 160) == expected)
    assert os.waitpid(child, 0)[1] == 0, "a child reads something else"
    assert got + expected + rest_of(other) == whole, "records are lost between processes"
    child = in_child(lambda: os.write(other, good) == len(good))
    assert os.waitpid(child, 0)[1] == 0
    assert rest_of(other) == whole, "a child's request is not the parent's"
    os.close(other)
    print("LISTS hostile: one open file, two numbers, two processes: no record twice or lost")


def side_by_side(good: bytes, whole: bytes) -> None:
    """Two open files have nothing to do with each other; one may be closed first."""
    files = [os.open(pfnlists.PATH, os.O_RDWR) for _ in range(2)]
    os.write(files[0], good)
    assert error_of(lambda: os.read(files[1], 16)) == errno.ENODATA
    os.write(files[1], good)
    got = [b"", b""]
    for _ in range(40):
        for i, size in enumerate((48, 160)):
            got[i] += os.read(files[i], size)
    os.close(files[0])
    assert got[0] == whole[: len(got[0])] and got[1] + rest_of(files[1]) == whole
    os.close(files[1])
    print("LISTS hostile: two open files, two answers")


def cut_up(records: bytes) -> set[bytes]:
    return {records[at : at + RECORD_SIZE] for at in range(0, len(records), RECORD_SIZE)}


class Race:
    """Two threads write different requests to one open file while two others read from it."""

    n_writes = 150
    n_records = 50
    """At least so many, by each of them."""

    def __init__(self, requests: list[bytes]) -> None:
        self.requests = requests
        self.expected = set().union(*(cut_up(records_of(one, [1 << 20])) for one in requests))
        self.n_read = [0, 0]
        self.wrong: list[str] = []
        self._over = threading.Event()

    def run(self, file: int) -> None:
        sizes = (10 * RECORD_SIZE, 300 * RECORD_SIZE)
        writers = [self._thread(partial(self._write, file, one)) for one in self.requests]
        readers = [self._thread(partial(self._read, file, *one)) for one in enumerate(sizes)]
        for writer in writers:
            writer.join()
        self._over.set()
        for reader in readers:
            reader.join()

    def _thread(self, action: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                action()
            except OSError as error:
                self.wrong.append(str(error))

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def _write(self, file: int, request: bytes) -> None:
        n = 0
        while not self.wrong and (n < self.n_writes or min(self.n_read) < self.n_records):
            os.write(file, request)
            n += 1

    def _read(self, file: int, i: int, size: int) -> None:
        while not self._over.is_set():
            records = cut_up(os.read(file, size))
            if not records <= self.expected:
                self.wrong.append(f"records of neither request: {records - self.expected}")
                return
            self.n_read[i] += len(records)


def racing(machine: Machine, good: bytes, whole: bytes) -> None:
    (other, *_) = machine.requests(machine.plan(31), N_PIECES)
    race = Race([good, other])
    file = os.open(pfnlists.PATH, os.O_RDWR)
    os.write(file, good)
    race.run(file)
    assert not race.wrong, race.wrong[0]
    os.write(file, good)
    assert rest_of(file) == whole, "racing left something behind"
    os.close(file)
    print(f"LISTS hostile: two write while two read: {race.n_read} records, none of them wrong")


def unprivileged() -> None:
    """Whatever the file's mode: it takes CAP_SYS_ADMIN."""

    def refused() -> bool:
        os.chmod(pfnlists.PATH, 0o666)
        os.setuid(65534)
        return error_of(partial(os.open, pfnlists.PATH, os.O_RDWR)) == errno.EPERM

    assert os.waitpid(in_child(refused), 0)[1] == 0, "anybody may open it"
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
