# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead kernel as pfn_lists.py and hostile.py ask about it: its memory, plans, requests."""

from __future__ import annotations

import os

from pydumpfile.filter import pfnlists
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.kernel_scan import KernelScan
from pydumpfile.filter.level import Level
from pydumpfile.filter.plan import NEVER, PageTest, Plan, make_plan
from pydumpfile.filter.scan import UserScan
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
        size = mem_map.struct_page_size
        loads = self.vmcore.source.loads
        online = (one for one in mem_map if one.online)
        self.pieces = [pfnlists.locate(one, size, self.vmcore.memory, loads) for one in online]

    def plan(self, level: int) -> Plan:
        return make_plan(self.vmcore.need_facts(), Level.of(level))

    def filter(self, level: int, filter_in: FilterIn, plan: Plan | None = None) -> PageFilter:
        made = PageFilter(self.vmcore, Level.of(level), filter_in=filter_in)
        if plan is not None:
            scan = KernelScan if filter_in is FilterIn.KERNEL else UserScan
            made.scan = scan(self.vmcore, made.candidates, plan)
        return made

    def requests(self, plan: Plan, n_pieces: int | None = None) -> list[bytes]:
        """About all of mem_map, or its first pieces."""
        memory = PageFilter(self.vmcore, Level.of(0)).candidates
        end_pfn = self.vmcore.mem_map.end_pfn
        return list(pfnlists.make_requests(plan, memory, self.pieces[:n_pieces], end_pfn))


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


def busy_request(machine: Machine, n_pieces: int | None = None) -> bytes:
    """One that is answered by many records, and has tables of several entries."""
    sound = machine.plan(31)
    for seed in range(200):
        plan = random_plan(Random(seed), sound)
        (request, *_) = machine.requests(plan, n_pieces)
        if len(records_of(request, [1 << 20])) > 1000 * RECORD_SIZE:
            return request
    raise AssertionError("no plan gives many records")
