# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's filter, taken out of the patches and compiled for user space with sanitizers.

On synthetic cores of every shape its answers make the bitmap that pydumpfile makes; garbled
requests make it read nothing it should not, which AddressSanitizer would end it for.
"""

from __future__ import annotations

import errno
import re
import struct

import pytest

from pydumpfile.errors import UnsupportedError
from pydumpfile.filter import classify, pfnlists
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.level import Level
from pydumpfile.filter.plan import Plan, make_plan
from pydumpfile.kernel.vmcore import Vmcore
from tests.conftest import CoreMaker
from tests.filter.test_verdict import ALL_LEVELS, BASE, VARIANTS

from .conftest import Kernel

# /proc/vmcore is cut up inside of struct pages' words nowhere, and is no dump.
SHAPES = sorted(set(VARIANTS) - {"many segments", "already filtered"})


def plan_of(vmcore: Vmcore) -> Plan:
    return make_plan(vmcore.need_facts(), Level.of(31))


def request_of(vmcore: Vmcore) -> bytes:
    """The first of level 31."""
    mem_map = vmcore.mem_map
    loads = vmcore.source.loads  # type: ignore[attr-defined]
    pieces = [
        pfnlists.locate(one, mem_map.struct_page_size, vmcore.memory, loads)
        for one in mem_map
        if one.online
    ]
    memory = PageFilter(vmcore, Level.of(31)).candidates
    return next(pfnlists.make_requests(plan_of(vmcore), memory, pieces, mem_map.end_pfn))


def judged(vmcore: Vmcore, level: int, filter_in: FilterIn) -> tuple[bytes, dict[str, object]]:
    """The 2nd bitmap, and all that is counted."""
    page_filter = PageFilter(vmcore, Level.of(level), filter_in=filter_in)
    bits = b"".join(bytes(window.bits) for window in page_filter.windows())
    if page_filter.scan is not None:
        assert page_filter.scan.judged_in == {filter_in}
    counters = vars(page_filter.tally)
    # Where to go on is the business of who judges.
    return bits, {k: v for k, v in counters.items() if k not in {"spill_pfn", "resume_pfn"}}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_judges_as_user_space_does(shape: str, core_of: CoreMaker, kernel: Kernel) -> None:
    kernel.boot(core_of(VARIANTS[shape]).path)
    with Vmcore.open(str(kernel.core)) as vmcore:
        for level, direct in ((31, 1 << 21), (31, 0), (10, 40000)):
            kernel.direct = direct
            expected = judged(vmcore, level, FilterIn.USER)
            assert judged(vmcore, level, FilterIn.KERNEL) == expected
        assert len(kernel.requests) >= 2


@pytest.mark.parametrize("shape", ["flatmem", "garbage", "garbage, odd", "1 GiB pages"])
def test_every_level(shape: str, core_of: CoreMaker, kernel: Kernel) -> None:
    kernel.boot(core_of(VARIANTS[shape]).path)
    with Vmcore.open(str(kernel.core)) as vmcore:
        for level in ALL_LEVELS:
            expected = judged(vmcore, level, FilterIn.USER)
            assert judged(vmcore, level, FilterIn.KERNEL) == expected


@pytest.mark.parametrize("window_pfns", [4096, 65536])
@pytest.mark.parametrize("shape", ["1 GiB pages", "garbage", "flatmem", "unreadable struct pages"])
def test_windows_change_nothing(
    shape: str, window_pfns: int, core_of: CoreMaker, kernel: Kernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Pages that go past the end of a window, or speak for others there, do so in the next."""
    monkeypatch.setattr(classify, "WINDOW_PFNS", window_pfns)
    kernel.boot(core_of(VARIANTS[shape]).path)
    with Vmcore.open(str(kernel.core)) as vmcore:
        expected = judged(vmcore, 31, FilterIn.USER)
        assert judged(vmcore, 31, FilterIn.KERNEL) == expected
        monkeypatch.setenv("PYDUMPFILE_KERNEL", "python")
        assert judged(vmcore, 31, FilterIn.KERNEL) == expected


def test_mem_map_in_too_many_places_is_not_asked_about(core_of: CoreMaker) -> None:
    with Vmcore.open(str(core_of(BASE).path)) as vmcore:
        memory = PageFilter(vmcore, Level.of(31)).candidates
        extents = tuple(pfnlists.Extent(16 * i, 8) for i in range(5000))
        piece = pfnlists.Piece(0, 625, extents)
        with pytest.raises(UnsupportedError, match="5000 places"):
            list(pfnlists.make_requests(plan_of(vmcore), memory, [piece], 625))


def test_many_pieces_take_many_requests(core_of: CoreMaker, kernel: Kernel) -> None:
    path = core_of(BASE).path
    with Vmcore.open(str(path)) as vmcore:
        memory = PageFilter(vmcore, Level.of(31)).candidates
        whole = request_of(vmcore)
        size, mem_map = vmcore.mem_map.struct_page_size, next(iter(vmcore.mem_map))
        loads = vmcore.source.loads  # type: ignore[attr-defined]
        pieces = [
            pfnlists.locate(
                mem_map._replace(
                    first_pfn=pfn, end_pfn=pfn + 8, vaddr=mem_map.vaddr + pfn * size
                ), size, vmcore.memory, loads,
            )
            for pfn in range(mem_map.first_pfn, mem_map.end_pfn, 8)
        ]  # fmt: skip
        end_pfn = vmcore.mem_map.end_pfn
        cut = list(pfnlists.make_requests(plan_of(vmcore), memory, pieces, end_pfn))
        assert len(cut) > 1 and all(len(one) <= pfnlists.REQUEST_MAX for one in cut)
        for one in cut:
            assert kernel.run(one, "answer", path, 0, 4096).returncode == 0
        assert len(whole) < min(map(len, cut[:-1]))


@pytest.mark.parametrize("shape", ["garbage", "garbage, odd", "unreadable struct pages", "flatmem"])
def test_garbled_requests_read_nothing_else(shape: str, core_of: CoreMaker, kernel: Kernel) -> None:
    path = core_of(VARIANTS[shape]).path
    with Vmcore.open(str(path)) as vmcore:
        request = request_of(vmcore)
    done = kernel.run(request, "garble", path, 1, 400)
    assert done.returncode == 0, done.stderr.decode()
    taken = re.fullmatch(r"(\d+) taken\n", done.stdout.decode())
    assert taken and 20 < int(taken[1]) < 400


@pytest.mark.parametrize(
    ("off", "layout", "value", "error"),
    [(0, "<Q", 1, errno.EINVAL), (8, "<I", 2, errno.EINVAL), (40, "<I", 1 << 31, errno.EINVAL),
     (48, "<Q", (1 << 52) + 1, errno.EINVAL), (56, "<I", 0, errno.EINVAL),
     (56, "<I", 2048, errno.EINVAL), (88, "<I", 0, errno.EINVAL)],
)  # fmt: skip
def test_hostile_requests_are_refused(
    off: int, layout: str, value: int, error: int, core_of: CoreMaker, kernel: Kernel
) -> None:
    path = core_of(BASE).path
    with Vmcore.open(str(path)) as vmcore:
        request = request_of(vmcore)
    hostile = bytearray(request)
    struct.pack_into(layout, hostile, off, value)
    done = kernel.run(bytes(hostile), "answer", path, 0, 4096)
    assert (done.returncode, done.stderr) == (error, b"")
    torn = kernel.run(request[:-1], "answer", path, 0, 4096)
    assert torn.returncode == errno.EINVAL
