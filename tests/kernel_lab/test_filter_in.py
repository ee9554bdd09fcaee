# SPDX-License-Identifier: GPL-2.0-or-later
"""``--filter-in``: whoever judges, and whatever goes wrong with it, the dump is the same."""

from __future__ import annotations

import errno
import os
import re
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

import pydumpfile
from pydumpfile import cli
from pydumpfile.errors import (
    FormatError,
    InputError,
    PydumpfileError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)
from pydumpfile.filter import classify, pfnlists
from pydumpfile.filter.filter_in import FilterIn
from tests.builders import CoreSpec
from tests.conftest import MIB, CoreMaker
from tests.filter.test_verdict import VARIANTS

from .conftest import Kernel

WINDOW_PFNS = 8192
"""Two windows for the core below."""
CORE = VARIANTS["unreadable struct pages"]
Spoil = Callable[[bytes], bytes]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """main() takes signals; the test process gets them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def crashed(kernel: Kernel, core_of: CoreMaker, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(classify, "WINDOW_PFNS", WINDOW_PFNS)
    kernel.boot(core_of(CORE).path)
    return kernel


class Run:
    """One run of the command, and the dump it left."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], target: Path, *arguments: object
    ) -> None:
        words = [*arguments, "-f", target] if target.suffix else arguments
        self.status = cli.main([str(word) for word in words])
        self.out, self.err = capsys.readouterr()
        self.dump = target.read_bytes() if target.exists() else b""

    @property
    def counted(self) -> list[str]:
        """The table of pages by kind, and what was kept for safety."""
        rows = [line for line in self.out.splitlines() if line.endswith("%")]
        assert len(rows) > 2
        return [*rows, self.err]

    @property
    def who(self) -> str:
        (line,) = re.findall(r"^Pages were judged (.*)$", self.out, re.M)
        return str(line)


@pytest.mark.parametrize(
    "options",
    [("-d31",), ("-d31", "-l", "--num-threads=2"), ("-d31", "-e"), ("-d31", "-E"), ("-d1", "-c"),
     ("-d31", "--dry-run", "--show-stats"), ("-d31", "-E", "--makedumpfile-bytes"),
     ("-d8,31", "-L", "60M"), ("-d31", "--non-mmap"), ("-d31", "--profile")],
    ids=" ".join,
)  # fmt: skip
def test_the_dump_is_the_same(
    options: tuple[str, ...], crashed: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.dump"
    by_user = Run(capsys, target, *options, crashed.core)
    assert not crashed.requests and "judged" not in by_user.out.replace("s judging", "")
    for place in ("kernel", "auto"):
        by_kernel = Run(capsys, target, *options, "--filter-in", place, crashed.core)
        assert by_kernel.status == by_user.status == 0
        assert by_kernel.dump == by_user.dump
        assert by_kernel.counted == by_user.counted
        assert by_kernel.who == "in the kernel."
    assert len(crashed.requests) >= 4


def test_parts_are_the_same(
    crashed: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {}
    for place in ("user", "kernel"):
        names = [tmp_path / f"{place}{i}" for i in (1, 2)]
        options = ("--split", "--splitblock-size", 4096, "-d31", "--filter-in", place)
        assert Run(capsys, tmp_path / "none", *options, crashed.core, *names).status == 0
        parts[place] = [name.read_bytes() for name in names]
    assert parts["kernel"] == parts["user"]


def test_the_next_level_is_judged_in_the_kernel_too(
    crashed: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a.dump"
    by_user = Run(capsys, target, "-d0,31", "-L", "30M", crashed.core)
    by_kernel = Run(capsys, target, "-d0,31", "-L", "30M", "--filter-in=kernel", crashed.core)
    assert "Retry to create a dumpfile by dump_level(31)." in by_kernel.out
    assert (by_kernel.dump, by_kernel.counted) == (by_user.dump, by_user.counted)


def _refuse(number: int) -> Spoil:
    def spoil(_: bytes) -> bytes:
        raise OSError(number, os.strerror(number))

    return spoil


def _changed(at: int, record: Callable[[int, int, int], tuple[int, int, int]]) -> Spoil:
    """One record becomes another."""

    def spoil(records: bytes) -> bytes:
        start = 16 * at % len(records)
        first_pfn, n_kind = struct.unpack_from("<QQ", records, start)
        first_pfn, n, kind = record(first_pfn, n_kind >> 8, n_kind & 0xFF)
        changed = struct.pack("<QQ", first_pfn % (1 << 64), n << 8 | kind)
        return records[:start] + changed + records[start + 16 :]

    return spoil


SPOILT: dict[str, tuple[Spoil, type[PydumpfileError]]] = {
    "EINVAL": (_refuse(errno.EINVAL), InputError),
    "EIO": (_refuse(errno.EIO), InputError),
    "ENXIO": (_refuse(errno.ENXIO), InputError),
    "nothing": (lambda _: b"", TruncatedError),
    "half an answer": (lambda records: records[: len(records) // 32 * 16], TruncatedError),
    "no last record": (lambda records: records[:-16], TruncatedError),
    "half a record": (lambda records: records[:-8], FormatError),
    "one too many": (lambda records: records + records[-16:], FormatError),
    "twice": (lambda records: 2 * records, FormatError),
    "a run of nothing": (_changed(9, lambda pfn, _, kind: (pfn, 0, kind)), FormatError),
    "a run past the end": (_changed(9, lambda pfn, _, kind: (pfn, 1 << 40, kind)), FormatError),
    "an endless run": (_changed(9, lambda pfn, _, kind: (pfn, (1 << 56) - 1, kind)), FormatError),
    "pages elsewhere": (_changed(9, lambda pfn, n, kind: (pfn + 8192, n, kind)), FormatError),
    "pages before": (_changed(0, lambda pfn, n, kind: (pfn - 8192, n, kind)), FormatError),
    "pages at the end": (_changed(9, lambda _, n, kind: ((1 << 64) - 1, n, kind)), FormatError),
    "the same again": (_changed(9, lambda _, n, kind: (0, n, kind)), FormatError),
    "another kind": (_changed(9, lambda pfn, n, kind: (pfn, n, (kind + 1) % 6)), FormatError),
    "no kind": (_changed(9, lambda pfn, n, _: (pfn, n, 6)), FormatError),
    "an early total": (_changed(9, lambda pfn, _, __: (pfn, 0, 0x80)), FormatError),
    "another total": (_changed(-7, lambda total, n, kind: (total + 1, n, kind)), FormatError),
    "a total of something": (_changed(-7, lambda total, _, kind: (total, 1, kind)), FormatError),
    "bad orders": (_changed(-1, lambda _, n, kind: (1 << 63, n, kind)), FormatError),
}  # fmt: skip


def later(kernel: Kernel, spoil: Spoil) -> Spoil:
    """All but the first answer is spoilt."""
    return lambda records: spoil(records) if len(kernel.requests) > 1 else records


@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.parametrize("options", [("-d31",), ("-d31", "-e")], ids=" ".join)
def test_a_kernel_that_fails_is_told_and_done_without(
    name: str, options: tuple[str, ...], crashed: Kernel, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    spoil, error = SPOILT[name]
    target = tmp_path / "a.dump"
    by_user = Run(capsys, target, *options, crashed.core)
    for spoil_when, who in ((spoil, "in user space: "), (later(crashed, spoil), None)):
        crashed.requests.clear()
        crashed.spoil = spoil_when
        done = Run(capsys, target, *options, "--filter-in", "auto", crashed.core)
        assert (done.status, done.dump) == (0, by_user.dump)
        assert done.counted == by_user.counted
        pfn = 0 if who else WINDOW_PFNS
        places = who or "in the kernel, then in user space: "
        assert done.who.startswith(f"{places}pages from pfn {pfn:#x} on: {pfnlists.PATH}: ")
        assert len(crashed.requests) == (1 if who else 2), "asked on"
    crashed.requests.clear()
    demanded = Run(capsys, target, *options, "--filter-in", "kernel", crashed.core)
    assert demanded.status == error.exit_code
    assert pfnlists.PATH in demanded.err
    assert demanded.dump != by_user.dump


def test_a_window_is_taken_back_whole(
    crashed: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records come a few at a time: the wrong one when others have been followed."""
    monkeypatch.setattr(pfnlists, "_READ_SIZE", 48)
    expected = pydumpfile.dump(crashed.core, tmp_path / "user", compression="none")
    crashed.spoil = SPOILT["no kind"][0]
    found = pydumpfile.dump(crashed.core, tmp_path / "auto", compression="none", filter_in="auto")
    assert (tmp_path / "auto").read_bytes() == (tmp_path / "user").read_bytes()
    assert found.left_out == expected.left_out
    assert found.judged_in == {FilterIn.USER}
    assert re.search(r"found [0-9a-f]{16} 06[0-9a-f]{14}$", found.why_user)
    crashed.spoil = bytes
    found = pydumpfile.dump(crashed.core, tmp_path / "kernel", compression="none",
                            filter_in="kernel")  # fmt: skip
    assert (tmp_path / "kernel").read_bytes() == (tmp_path / "user").read_bytes()
    assert (found.judged_in, found.why_user) == ({FilterIn.KERNEL}, "")


def test_the_library(crashed: Kernel, tmp_path: Path) -> None:
    expected = pydumpfile.dump_elf(crashed.core, tmp_path / "user")
    found = pydumpfile.dump_elf(crashed.core, tmp_path / "kernel", filter_in="kernel")
    assert (tmp_path / "kernel").read_bytes() == (tmp_path / "user").read_bytes()
    assert (expected.judged_in, found.judged_in) == ({FilterIn.USER}, {FilterIn.KERNEL})
    with pytest.raises(UsageError, match="not in 'here'"):
        pydumpfile.dump(crashed.core, tmp_path / "nowhere", filter_in="here")


def test_a_kernel_without_it(
    crashed: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crashed.missing = True
    target = tmp_path / "a.dump"
    demanded = Run(capsys, target, "-d31", "--filter-in=kernel", crashed.core)
    assert demanded.status == UnsupportedError.exit_code
    assert f"{pfnlists.PATH} (No such file or directory)" in demanded.err
    assert "kpatch" in demanded.err
    assert not demanded.dump, "a dump was begun"
    done = Run(capsys, target, "-d31", "--filter-in=auto", crashed.core)
    assert done.status == 0
    assert done.who.startswith("in user space: judging pages in the kernel without")


def test_other_images_are_not_the_kernels(
    crashed: Kernel, core_of: CoreMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "first.dump", tmp_path / "again.dump"
    assert Run(capsys, first, "-d1", crashed.core).status == 0
    other = core_of(CoreSpec(memory_size=40 * MIB, filled=0.3)).path
    for image in (other, first):
        again.unlink(missing_ok=True)
        demanded = Run(capsys, again, "-d31", "--filter-in=kernel", image)
        assert (demanded.status, demanded.dump) == (UnsupportedError.exit_code, b"")
        assert f"pages of {image} in the kernel" in demanded.err
        done = Run(capsys, again, "-d31", "--filter-in=auto", image)
        assert done.status == 0 and done.who.startswith(f"in user space: judging pages of {image}")
    assert not crashed.requests


def test_a_layout_that_cannot_be_said(
    crashed: Kernel, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Too many places for a request, even if it is about one piece of mem_map."""
    monkeypatch.setattr(pfnlists, "REQUEST_MAX", 400)
    target = tmp_path / "a.dump"
    by_user = Run(capsys, target, "-d31", crashed.core)
    done = Run(capsys, target, "-d31", "--filter-in=auto", crashed.core)
    assert (done.status, done.dump, done.counted) == (0, by_user.dump, by_user.counted)
    assert re.match(r"in user space: .* struct pages in \d+ places", done.who)
    demanded = Run(capsys, target, "-d31", "--filter-in=kernel", crashed.core)
    assert demanded.status == UnsupportedError.exit_code
    assert demanded.dump != by_user.dump and not crashed.requests


@pytest.mark.parametrize(
    "arguments",
    [("--filter-in=kernel", "--dump-dmesg", "a", "b"), ("--filter-in=auto", "--mem-usage", "a"),
     ("--filter-in=kernel", "--reassemble", "a", "b"), ("--filter-in=auto", "-R", "a"),
     ("--filter-in=kernel", "-g", "a", "-x", "b"), ("--filter-in=here", "a", "b"),
     ("--filter-in", "a", "b")],
    ids=" ".join,
)  # fmt: skip
def test_what_makes_no_sense(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Run(capsys, tmp_path / "none", *arguments)
    assert refused.status == UsageError.exit_code
    assert "filter-in" in refused.err or "can be judged in one of user, kernel, auto" in refused.err


def test_nobody_judges_without_a_description(
    kernel: Kernel, core_of: CoreMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.boot(core_of(CoreSpec(memory_size=40 * MIB, filled=0.01, note=False)).path)
    done = Run(capsys, tmp_path / "a.dump", "-d1", "--filter-in=kernel", kernel.core)
    assert done.status == 0
    assert "Pages were not judged: no struct page matters at this level." in done.out
    assert not kernel.requests
