# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's filter, taken out of the patches and compiled for user space with sanitizers.

On synthetic cores of every shape its answers make the bitmap that pydumpfile makes; garbled
requests make it read nothing it should not, which AddressSanitizer would end it for.
"""

from __future__ import annotations

import errno
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from pydumpfile.bitmap import Bitmap
from pydumpfile.errors import InputError, UnsupportedError
from pydumpfile.filter import pfnlists
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.filter.pfnlists import Going, PfnLists
from pydumpfile.filter.tally import Tally
from pydumpfile.kernel.vmcore import Vmcore
from tests.conftest import CoreMaker
from tests.filter.test_verdict import BASE, VARIANTS

from .purecode import SHIM, extract_new_files
from .series import pfn_lists_series

_SOURCE = "fs/proc/vmcore_pfn_lists.c"
_HEADERS = (
    "fs/proc/page_judge.h",
    "fs/proc/page_words.h",
    "include/uapi/linux/vmcore_pfn_lists.h",
)
# /proc/vmcore is cut up inside of struct pages' words nowhere, and is no dump.
SHAPES = sorted(set(VARIANTS) - {"many segments", "already filtered"})

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


class Kernel:
    """The harness; stands in for `os` in pydumpfile.filter.pfnlists."""

    O_RDWR = 2

    def __init__(self, program: Path) -> None:
        self._program = program
        self.core = Path()
        self.direct = 1 << 21
        self.requests: list[bytes] = []
        self._records = b""

    def run(self, request: bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        words = [str(self._program), *map(str, arguments)]
        return subprocess.run(words, input=request, capture_output=True, check=False)

    def open(self, _path: str, _flags: int) -> int:
        return 3

    def close(self, file: int) -> None:
        assert file == 3

    def write(self, _file: int, request: bytes) -> int:
        self.requests.append(request)
        done = self.run(request, "answer", self.core, self.direct, 4096)
        assert not done.stderr, done.stderr.decode()
        if done.returncode:
            raise OSError(done.returncode, "refused")
        self._records = done.stdout
        return len(request)

    def read(self, _file: int, size: int) -> bytes:
        part, self._records = self._records[:size], self._records[size:]
        return part


@pytest.fixture(scope="session", params=["6.1", "6.12"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernel")
    extract_new_files(
        pfn_lists_series(request.param), (_SOURCE, *_HEADERS, "fs/proc/vmcore_oldmem.h"), folder
    )
    for path in folder.glob("*.[ch]"):
        for header in re.findall(r"^#include <(\S+)>$", path.read_text(), re.M):
            stub = folder / header
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text(f'#include "{SHIM}/kernel.h"\n')
    (folder / "vmcore_pfn_lists.h").rename(folder / "linux/vmcore_pfn_lists.h")
    subprocess.run(
        ["gcc", "-std=gnu11", "-g", "-O1", "-Wall", "-Werror", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=all", f"-I{folder}", "-o", folder / "harness",
         SHIM / "pfn_lists_harness.c"],
        check=True,
    )  # fmt: skip
    return folder / "harness"


@pytest.fixture
def kernel(program: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(program)
    monkeypatch.setattr(pfnlists, "os", made)
    return made


def requests_of(vmcore: Vmcore, page_filter: PageFilter) -> list[bytes]:
    mem_map = vmcore.mem_map
    loads = vmcore.source.loads  # type: ignore[attr-defined]
    pieces = [
        pfnlists.locate(one, mem_map.struct_page_size, vmcore.memory, loads)
        for one in mem_map
        if one.online
    ]
    memory = page_filter.candidates
    return list(pfnlists.make_requests(page_filter._plan, memory, pieces, mem_map.end_pfn))


def bitmap(vmcore: Vmcore, page_filter: PageFilter, going: list[Going]) -> list[bytes]:
    """The 2nd bitmap as the answers have it, and what the filter does besides."""
    found = []
    for bounds in page_filter.window_bounds():
        window = Bitmap(*bounds)
        page_filter.candidates.mark(window)
        for piece in vmcore.mem_map:
            if not piece.online:
                window.clear_range(piece.first_pfn, piece.end_pfn)
        for first_pfn, end_pfn, _ in going:
            window.clear_range(first_pfn, end_pfn)
        if page_filter._free_lists is not None:
            for block in page_filter._free_lists.blocks(Tally()):
                window.clear_range(*block)
        found.append(bytes(window.bits))
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_its_answers_make_the_same_bitmap(shape: str, core_of: CoreMaker, kernel: Kernel) -> None:
    kernel.core = core_of(VARIANTS[shape]).path
    with Vmcore.open(str(kernel.core)) as vmcore, PfnLists() as lists:
        for level, direct in ((31, 1 << 21), (31, 0), (10, 40000)):
            kernel.direct = direct
            page_filter = PageFilter(vmcore, Level.of(level))
            if not page_filter.scans:
                continue
            requests = requests_of(vmcore, page_filter.another())
            going = [one for request in requests for one in lists.ask(request)]
            assert going
            expected = [bytes(window.bits) for window in page_filter.windows()]
            assert bitmap(vmcore, page_filter.another(), going) == expected
        n_pages = sum(lists.totals)
    assert n_pages > 0


def test_a_refusal_says_what_it_is_about(core_of: CoreMaker, kernel: Kernel) -> None:
    kernel.core = core_of(BASE).path
    with Vmcore.open(str(kernel.core)) as vmcore, PfnLists() as lists:
        (request,) = requests_of(vmcore, PageFilter(vmcore, Level.of(31)))
        with pytest.raises(InputError, match="having pages judged by the kernel") as caught:
            list(lists.ask(b"\0" + request[1:]))
    assert caught.value.exit_code


def test_mem_map_in_too_many_places_is_not_asked_about(core_of: CoreMaker) -> None:
    with Vmcore.open(str(core_of(BASE).path)) as vmcore:
        page_filter = PageFilter(vmcore, Level.of(31))
        extents = tuple(pfnlists.Extent(16 * i, 8) for i in range(5000))
        piece = pfnlists.Piece(0, 625, extents)
        with pytest.raises(UnsupportedError, match="5000 places"):
            list(pfnlists.make_requests(page_filter._plan, page_filter.candidates, [piece], 625))


def test_many_pieces_take_many_requests(core_of: CoreMaker, kernel: Kernel) -> None:
    kernel.core = core_of(BASE).path
    with Vmcore.open(str(kernel.core)) as vmcore, PfnLists() as lists:
        page_filter = PageFilter(vmcore, Level.of(31))
        (whole,) = requests_of(vmcore, page_filter)
        size, mem_map = page_filter._plan.page_size, next(iter(vmcore.mem_map))
        loads = vmcore.source.loads  # type: ignore[attr-defined]
        pieces = [
            pfnlists.locate(
                mem_map._replace(
                    first_pfn=pfn, end_pfn=pfn + 8, vaddr=mem_map.vaddr + pfn * size
                ), size, vmcore.memory, loads,
            )
            for pfn in range(mem_map.first_pfn, mem_map.end_pfn, 8)
        ]  # fmt: skip
        cut = list(
            pfnlists.make_requests(
                page_filter._plan, page_filter.candidates, pieces, vmcore.mem_map.end_pfn
            )
        )
        assert len(cut) > 1 and all(len(one) <= pfnlists.REQUEST_MAX for one in cut)
        for one in cut:
            assert list(lists.ask(one)) is not None
        assert len(whole) < min(map(len, cut[:-1]))


@pytest.mark.parametrize("shape", ["garbage", "garbage, odd", "unreadable struct pages", "flatmem"])
def test_garbled_requests_read_nothing_else(shape: str, core_of: CoreMaker, kernel: Kernel) -> None:
    path = core_of(VARIANTS[shape]).path
    with Vmcore.open(str(path)) as vmcore:
        (request, *_) = requests_of(vmcore, PageFilter(vmcore, Level.of(31)))
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
        (request,) = requests_of(vmcore, PageFilter(vmcore, Level.of(31)))
    hostile = bytearray(request)
    struct.pack_into(layout, hostile, off, value)
    done = kernel.run(bytes(hostile), "answer", path, 0, 4096)
    assert (done.returncode, done.stderr) == (error, b"")
    torn = kernel.run(request[:-1], "answer", path, 0, 4096)
    assert torn.returncode == errno.EINVAL
