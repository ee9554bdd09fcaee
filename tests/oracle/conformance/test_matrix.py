# SPDX-License-Identifier: GPL-2.0-or-later
"""Levels, codecs and kinds of output on many machines: what is in the dumps of both programs.

Byte for byte where the format leaves no choice: uncompressed dumps, streams that were rearranged,
parts that were joined, ELF with ``--makedumpfile-bytes``. Of compressed ones headers, bitmaps and
every page: what lzo makes of a page depends on the page before, and there is more than one zlib.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import build_core
from tests.oracle import pfnset, witness
from tests.oracle.conftest import evidence_of
from tests.oracle.cores import SMALL
from tests.oracle.dumpreader import INCOMPLETE, DumpReader

from .machines import MACHINES, PACKED
from .programs import PROJECT, Program, ours, theirs

LEVELS = (1, 31)
STATUS_OFF = 424
FILES = [
    pytest.param(name, level, id=f"{name} -d {level}")
    for name, machine in MACHINES.items()
    for level in machine.levels
]
OUTPUTS = [
    pytest.param(name, level, id=f"{name} -d {level}") for name in PACKED for level in LEVELS
]


class Bench:
    """Both programs, the cores, and a folder for what is made of them."""

    def __init__(self, makedumpfile: str, directory: Path) -> None:
        self.theirs, self.ours = theirs(makedumpfile, directory), ours(directory)
        self._directory = directory
        self._n_made = 0

    def core(self, name: str) -> Path:
        """That of a machine, built when first asked for."""
        path = self._directory / f"core {name}"
        if not path.exists():
            build_core(path, MACHINES[name].spec)
        return path

    def new_file(self) -> Path:
        """That is not there yet."""
        self._n_made += 1
        return self._directory / f"made {self._n_made}"

    def make(
        self, program: Program, *words: object, n: int = 1, stdin: bytes = b"", status: int = 0
    ) -> list[Path]:
        """Run with ``words`` and the names of ``n`` new files, which it is to write."""
        made = [self.new_file() for _ in range(n)]
        program.make(*words, *made, cwd=self._directory, stdin=stdin, status=status)
        return made

    def forget(self) -> None:
        """Remove what was made."""
        for path in self._directory.glob("made *"):
            path.unlink()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("matrix")
    yield Bench(witness.program("makedumpfile"), directory)
    for path in directory.glob("core *"):
        path.unlink()


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    yield shared
    shared.forget()


def same(one: Path, other: Path) -> bool:
    """Byte for byte."""
    return one.read_bytes() == other.read_bytes()


def differing_pages(one: Path, other: Path) -> int:
    """Set of the pfns that only one of two dumps has; headers and all other pages are the same."""
    with DumpReader(one) as first, DumpReader(other) as second:
        assert (first.level, first.status, first.release) == (
            second.level, second.status, second.release,
        )  # fmt: skip
        for pfn in pfnset.each(first.kept & second.kept):
            assert first.page(pfn) == second.page(pfn), f"page {pfn:#x}"
        differing = first.kept ^ second.kept
        pfnset.require_none((first.exists ^ second.exists) & ~differing, "in one 1st bitmap only")
        return differing


@pytest.mark.lab
@pytest.mark.parametrize(("name", "level"), FILES)
def test_files(bench: Bench, name: str, level: int) -> None:
    core, machine = bench.core(name), MACHINES[name]
    (their_dump,) = bench.make(bench.theirs, "-d", level, core)
    (our_dump,) = bench.make(bench.ours, "-d", level, core)
    assert same(their_dump, our_dump) == (not machine.heading), machine.heading
    if machine.heading:
        differing = differing_pages(their_dump, our_dump)
        assert machine.only_ours is None or differing == pfnset.from_pfns(machine.only_ours)


@pytest.mark.lab
@pytest.mark.parametrize("codec", ["-c", "-l"])
@pytest.mark.parametrize(("name", "level"), OUTPUTS)
def test_compressed(bench: Bench, name: str, level: int, codec: str) -> None:
    core = bench.core(name)
    (their_dump,) = bench.make(bench.theirs, codec, "-d", level, core)
    (our_dump,) = bench.make(bench.ours, codec, "-d", level, "--num-threads=3", core)
    pfnset.require_none(differing_pages(their_dump, our_dump), "kept by one")


@pytest.mark.lab
@pytest.mark.parametrize(("name", "level"), OUTPUTS)
def test_streams_rearranged(bench: Bench, name: str, level: int) -> None:
    """Each by each."""
    core = bench.core(name)
    (direct,) = bench.make(bench.theirs, "-d", level, core)
    for sender, receiver in (
        (bench.ours, bench.theirs),
        (bench.theirs, bench.ours),
        (bench.ours, bench.ours),
    ):
        stream = sender.make("-F", "-d", level, core, cwd=core.parent)
        (rearranged,) = bench.make(receiver, "-R", stdin=stream)
        assert same(rearranged, direct)


@pytest.mark.lab
@pytest.mark.parametrize(("name", "level"), OUTPUTS)
def test_parts_joined(bench: Bench, name: str, level: int) -> None:
    """The parts themselves, and each set joined by each."""
    words = ("--split", "--splitblock-size", 1024, "-d", level, bench.core(name))
    (direct,) = bench.make(bench.theirs, "-d", level, bench.core(name))
    their_parts = bench.make(bench.theirs, *words, n=3)
    our_parts = bench.make(bench.ours, *words, n=3)
    for their_part, our_part in zip(their_parts, our_parts):
        assert same(their_part, our_part)
    for program in (bench.theirs, bench.ours):
        (joined,) = bench.make(program, "--reassemble", *reversed(our_parts))
        assert same(joined, direct)


@pytest.mark.lab
@pytest.mark.parametrize(("name", "level"), OUTPUTS)
def test_elf(bench: Bench, name: str, level: int) -> None:
    """The same bytes if asked for; without, zeros where pages are left out, which is told."""
    core = bench.core(name)
    (their_dump,) = bench.make(bench.theirs, "-E", "-d", level, core)
    (leaking,) = bench.make(bench.ours, "-E", "--makedumpfile-bytes", "-d", level, core)
    (usual,) = bench.make(bench.ours, "-E", "-d", level, core)
    assert same(their_dump, leaking)
    their_bytes, our_bytes = their_dump.read_bytes(), usual.read_bytes()
    assert len(their_bytes) == len(our_bytes)
    n_differing = 0
    for at in range(0, len(our_bytes), 4096):
        their_piece, our_piece = their_bytes[at : at + 4096], our_bytes[at : at + 4096]
        if their_piece != our_piece:
            n_differing += 1
            assert all(ours in (theirs, 0) for theirs, ours in zip(their_piece, our_piece))
    assert n_differing


@pytest.mark.lab
@pytest.mark.parametrize("words", [("-d", 31), ("-d", 16), ("-d", 1)], ids=str)
def test_dumps_of_dumps(bench: Bench, words: tuple[object, ...]) -> None:
    """Of a kdump file, and of an ELF dump with holes."""
    core = bench.core("Linux 6.1")
    for first in (("-l", "-d", 9), ("-E", "-d", 1)):
        (between,) = bench.make(bench.theirs, *first, core)
        (their_dump,) = bench.make(bench.theirs, *words, between)
        (our_dump,) = bench.make(bench.ours, *words, between)
        assert same(their_dump, our_dump)


def without_pages_past(dump: bytes, end: int, whole: Path) -> bytearray:
    """``dump``, a beginning of ``whole``, with the descriptors that lead past ``end`` emptied."""
    emptied = bytearray(dump)
    with DumpReader(whole) as complete:
        table = range(complete.layout.bitmaps_end, min(complete.data_off, len(dump) - 23), 24)
    for at in table:
        off, size = struct.unpack_from("<qI", dump, at)
        if off + size > end:
            emptied[at : at + 24] = bytes(24)
    return emptied


@pytest.mark.lab
@pytest.mark.parametrize("place", [1 << 18, 1 << 21, -17, -16, -1])
def test_streams_that_end_early(bench: Bench, place: int) -> None:
    """In pages or descriptors, in the last record, before the end mark, in it.

    What came is in the file, marked; and read as it is, the stream gives the pages that came.
    """
    core = bench.core("Linux 5.15")
    (whole,) = bench.make(bench.theirs, "-d", 1, core)
    stream = bench.theirs.make("-F", "-d", 1, core, cwd=core.parent)[:place]
    (their_dump,) = bench.make(bench.theirs, "-R", stdin=stream, status=1)
    (our_dump,) = bench.make(bench.ours, "-R", stdin=stream, status=1)
    our_bytes = our_dump.read_bytes()
    expected = without_pages_past(their_dump.read_bytes(), len(our_bytes), whole)
    expected[STATUS_OFF] |= INCOMPLETE
    # Of the record that is not whole theirs has only what filled its buffer.
    assert all(theirs in (ours, 0) for ours, theirs in zip(our_bytes, expected))
    assert len(our_bytes) >= len(expected)
    cut = bench.new_file()
    cut.write_bytes(stream)
    (of_stream,) = bench.make(bench.ours, "-d", 1, cut, status=1)
    (of_file,) = bench.make(bench.ours, "-d", 1, our_dump, status=1)
    with DumpReader(whole) as complete:
        for made in (of_stream, of_file):
            with DumpReader(made) as partial:
                assert partial.status == complete.status | INCOMPLETE
                assert partial.kept == complete.kept
                assert 0 < len(partial.descriptors) <= len(complete.descriptors)
                assert all(page == complete.page(pfn) for pfn, page in partial.pages())
    with DumpReader(of_stream) as one, DumpReader(of_file) as other:
        assert list(one.pages()) == list(other.pages())


@pytest.mark.lab
@pytest.mark.parametrize("words", [("-d", 1), ("-l", "-d", 31), ("-c", "-d", 31)], ids=str)
def test_a_real_machine(bench: Bench, words: tuple[object, ...]) -> None:
    check_a_real_machine(bench, words)


@pytest.mark.lab
@pytest.mark.parametrize("option", ["-x", "-i"])
def test_a_real_machine_that_is_described(bench: Bench, option: str) -> None:
    """By its vmlinux, or by what ``-g`` makes of that."""
    vmlinux = evidence_of("6.1 small", SMALL["6.1 small"]).core.vmlinux()
    file = bench.new_file()
    bench.ours.make("-g", file, "-x", vmlinux, cwd=file.parent)
    check_a_real_machine(bench, (option, vmlinux if option == "-x" else file, "-d", 31))


def check_a_real_machine(bench: Bench, words: tuple[object, ...]) -> None:
    """makedumpfile keeps its memory that is offline, and not the page that low memory ends in."""
    evidence = evidence_of("6.1 small", SMALL["6.1 small"])
    (their_dump,) = bench.make(bench.theirs, *words, evidence.core.vmcore)
    (our_dump,) = bench.make(bench.ours, *words, evidence.core.vmcore)
    is_judged = words[-1] == 31 or evidence.can_poison
    offline = evidence.offlined_block if is_judged else 0
    differing = differing_pages(their_dump, our_dump)
    pfnset.require_none((differing & ~evidence.fractional) ^ offline, "kept by one")


def test_every_difference_has_a_reason() -> None:
    text = (PROJECT / "docs" / "differences.md").read_text("utf-8")
    headings = set(re.findall(r"^### (.*)$", text, re.M))
    reasons = {machine.heading for machine in MACHINES.values()} - {""}
    assert reasons <= headings, reasons - headings
