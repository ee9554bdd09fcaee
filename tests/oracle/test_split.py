# SPDX-License-Identifier: GPL-2.0-or-later
"""Split dumps in others' hands, and makedumpfile's in pydumpfile's; its report beside ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.kernel.log import log_lines
from pydumpfile.reassemble import reassemble
from pydumpfile.sinks import Target
from tests.builders import CoreSpec, build_core
from tests.conftest import MIB
from tests.sinks.kdump_reader import Dump

from . import pfnset, witness
from .conftest import Shelf, evidence_of
from .cores import SMALL, Evidence
from .kdumpfile import KdumpFile
from .rawcore import RawCore
from .test_readers import crash_output

# Machines on which makedumpfile 1.7.2 and pydumpfile agree about every page: no memory ends inside
# one. The second has blocks of 1 GiB with little and with no memory.
MACHINES = {
    "one GiB": CoreSpec(layout="6.1", memory=((MIB, 255 * MIB),), hwpoison=False, filled=0.3),
    "holes": CoreSpec(
        layout="6.1",
        memory=((MIB, 255 * MIB), (1 << 30, 64 * MIB), (5 << 30, 128 * MIB)),
        hwpoison=False,
    ),
}


@pytest.fixture(autouse=True)
def _leave_nothing(tmp_path: Path) -> Iterator[None]:
    """Parts of a dump, and the whole, are some two GiB a test."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def program() -> str:
    return witness.program("makedumpfile")


@pytest.fixture(scope="module", params=MACHINES)
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each machine in turn."""
    return build_core(tmp_path_factory.mktemp("core") / "core", MACHINES[request.param]).path


@pytest.fixture(scope="module")
def counted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in which no two PT_LOADs overlap: makedumpfile counts what they share twice."""
    spec = replace(MACHINES["holes"], overlap_image=False)
    return build_core(tmp_path_factory.mktemp("counted") / "core", spec).path


def ours(*arguments: object) -> str:
    """What ``pydumpfile`` says."""
    command = [sys.executable, "-m", "pydumpfile", *map(str, arguments)]
    return _said(command)


def _said(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def names(directory: Path, who: str, n_parts: int) -> list[str]:
    return [str(directory / f"{who}{i}") for i in range(n_parts)]


@pytest.mark.parametrize("n_parts", [2, 5])
@pytest.mark.parametrize("block_kib", [None, 4096, 256])
@pytest.mark.parametrize("level", [0, 1, 31])
def test_the_same_parts_as_makedumpfiles(
    core: Path, program: str, tmp_path: Path, level: int, block_kib: int | None, n_parts: int
) -> None:
    """Byte for byte; and each joins the other's."""
    options = ["-d", str(level), "--split"]
    if block_kib:
        options.append(f"--splitblock-size={block_kib}")
    our_parts, their_parts = names(tmp_path, "our", n_parts), names(tmp_path, "their", n_parts)
    ours(*options, core, *our_parts)
    _said([program, *options, str(core), *their_parts])
    for our, their in zip(our_parts, their_parts):
        assert Path(our).read_bytes() == Path(their).read_bytes()
    ours("-d", level, core, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    _said([program, "--reassemble", *our_parts, str(tmp_path / "theirs")])
    ours("--reassemble", *their_parts[::-1], tmp_path / "ours")
    assert (tmp_path / "theirs").read_bytes() == whole
    assert (tmp_path / "ours").read_bytes() == whole


@pytest.mark.parametrize("codec", ["-c", "-l"])
def test_compressed_parts_change_hands(
    core: Path, program: str, tmp_path: Path, codec: str
) -> None:
    """Their pages may be compressed otherwise, but whose they are when joined can be told."""
    options = [codec, "-d", "31", "--split", "--splitblock-size=4096"]
    our_parts, their_parts = names(tmp_path, "our", 3), names(tmp_path, "their", 3)
    ours(*options, core, *our_parts)
    _said([program, *options, str(core), *their_parts])
    _said([program, "--reassemble", *our_parts, str(tmp_path / "theirs")])
    reassemble(their_parts, Target(str(tmp_path / "ours")))
    ours(codec, "-d", 31, core, tmp_path / "our whole")
    _said([program, codec, "-d", "31", str(core), str(tmp_path / "their whole")])
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "our whole").read_bytes()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "their whole").read_bytes()


def test_boundaries_inside_a_byte(core: Path, program: str, tmp_path: Path) -> None:
    """makedumpfile's, when asked for blocks of a page."""
    parts = names(tmp_path, "their", 5)
    _said([program, "-d", "31", "--split", "--splitblock-size=4", str(core), *parts])
    assert any(Dump(Path(part)).end_pfn_64 % 8 for part in parts)
    reassemble(parts, Target(str(tmp_path / "joined")))
    ours("-d", 31, core, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    assert (tmp_path / "joined").read_bytes() == whole
    ours("-d", 31, *parts, tmp_path / "side by side")
    assert (tmp_path / "side by side").read_bytes() == whole


@pytest.mark.parametrize(
    ("level", "block_kib", "codec"),
    [(0, None, ()), (1, 4096, ("-c",)), (1, 4, ("-p",)), (16, 4, ("-l",))],
)
def test_makedumpfiles_parts_are_read_as_they_are(
    core: Path, program: str, tmp_path: Path, level: int, block_kib: int | None,
    codec: Sequence[str],
) -> None:  # fmt: skip
    """What is made of them is what is made of what either program joins them to."""
    parts = names(tmp_path, "their", 4)
    blocks = [f"--splitblock-size={block_kib}"] if block_kib else []
    _said([program, *codec, "-d", str(level), "--split", *blocks, str(core), *parts])
    _said([program, "--reassemble", *parts, str(tmp_path / "joined")])
    ours("-d", 31, *parts[::-1], tmp_path / "of parts")
    dump = (tmp_path / "of parts").read_bytes()
    ours("-d", 31, tmp_path / "joined", tmp_path / "of joined")
    assert dump == (tmp_path / "of joined").read_bytes()
    ours("-d", 31, core, tmp_path / "direct")
    assert dump == (tmp_path / "direct").read_bytes()


def report_of(said: str) -> list[str]:
    """The lines of the report that both can have; times, and counts of caches, are each its own."""
    lines = []
    for line in said.splitlines():
        if line.startswith("Cache hit: "):
            assert re.fullmatch(r"Cache hit: \d+, miss: \d+(, hit rate: \d+\.\d%)?", line)
        elif line.startswith("STEP ["):
            assert re.fullmatch(r"STEP \[.{27}\] : \d+\.\d{6} seconds", line)
        elif re.match(r"Original|  |Memory Hole|Total pages|Write bytes|-{50}", line):
            lines.append(line)
    return lines


@pytest.mark.parametrize("level", [0, 1, 2, 6, 31])
@pytest.mark.parametrize("more", [(), ("--dry-run",), ("-E",)], ids=" ".join)
def test_the_same_report_as_makedumpfiles(
    counted_once: Path, program: str, tmp_path: Path, level: int, more: Sequence[str]
) -> None:
    options = ["--show-stats", "--message-level", "0", "-d", str(level), *more]
    our = report_of(ours(*options, counted_once, tmp_path / "a"))
    their = report_of(_said([program, *options, str(counted_once), str(tmp_path / "b")]))
    our_size, their_size = (int(lines.pop().split(": ")[1]) for lines in (our, their))
    # It does not count what is empty in two blocks, and program headers written twice twice.
    assert abs(our_size - their_size) < 2 * 4096
    added_since = "    Extension filter pages  : 0x0000000000000000"
    assert [line for line in our if line != added_since] == their
    assert our.count(added_since) == 1
    assert (tmp_path / "a").exists() == (tmp_path / "b").exists() == ("--dry-run" not in more)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """The small core of Linux 6.1."""
    return evidence_of("6.1 small", SMALL["6.1 small"])


@pytest.fixture(scope="module")
def parts(evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """It, in three parts."""
    paths = names(tmp_path_factory.mktemp("parts"), "part", 3)
    core = evidence.core.vmcore
    ours("-z", "-d", 31, "--split", "--splitblock-size=4096", core, *paths)
    return [Path(path) for path in paths]


class TestReaders:
    """The parts as a set, on the small core of Linux 6.1, which all readers understand."""

    pytestmark = pytest.mark.lab

    def test_libkdumpfile_reads_every_page(self, evidence: Evidence, parts: list[Path]) -> None:
        pfns = Dump(parts[0]).pfns
        with KdumpFile(parts[2], parts[0], parts[1]) as dump, RawCore(evidence.core.vmcore) as raw:
            assert dump.text("linux.uts.release") == evidence.core.kernel.release
            for pfn in pfns:
                assert dump.page(pfn) == raw.page(pfn), hex(pfn)
        bounds = [(Dump(p).start_pfn_64, Dump(p).end_pfn_64) for p in parts]
        assert all(any(start <= pfn < end for pfn in pfns) for start, end in bounds)

    def test_crash_reads_pages_of_all_parts(
        self, evidence: Evidence, parts: list[Path], tmp_path: Path
    ) -> None:
        wanted = {}
        with RawCore(evidence.core.vmcore) as raw:
            for part in map(Dump, parts):
                own = [p for p in part.pfns if part.start_pfn_64 <= p < part.end_pfn_64]
                for pfn in (own[0], own[1], own[len(own) // 2], own[-1]):
                    wanted[pfn] = raw.page(pfn)[:8][::-1].hex()
        commands = tmp_path / "commands"
        reads = "".join(f"rd -p {pfn << 12:x}\n" for pfn in wanted)
        commands.write_text(f"sys\nlog\n{reads}quit\n", "utf-8")
        said = crash_output(evidence, parts[1], commands, parts[0], parts[2])
        assert re.search(r"^\[ +\d+\.\d+\] sysrq: Trigger a crash$", said, re.M)
        for pfn, word in wanted.items():
            shown = re.search(rf"^ *{pfn << 12:x}:  ([0-9a-f]+) ", said, re.M)
            assert shown is not None and shown[1] == word, hex(pfn)

    def test_joined_they_are_the_dump(
        self, evidence: Evidence, parts: list[Path], shelf: Shelf, tmp_path: Path
    ) -> None:
        reassemble([str(part) for part in parts], Target(str(tmp_path / "joined")))
        whole = shelf.dump(evidence, 31, "zstd").read_bytes()
        assert (tmp_path / "joined").read_bytes() == whole


@pytest.fixture(scope="module", params=["pydumpfile", "makedumpfile"])
def unfiltered(
    request: pytest.FixtureRequest, evidence: Evidence, program: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[str]]:  # fmt: skip
    """The same core by either program, but for its zero pages, in three parts."""
    directory = tmp_path_factory.mktemp("unfiltered")
    paths = names(directory, "part", 3)
    options = ["-c", "-d", "1", "--split", "--splitblock-size=4096"]
    if request.param == "pydumpfile":
        ours(*options, evidence.core.vmcore, *paths)
    else:
        _said([program, *options, str(evidence.core.vmcore), *paths])
    yield paths[::-1]
    shutil.rmtree(directory)


class TestSideBySide:
    """Them, as pydumpfile reads them."""

    pytestmark = pytest.mark.lab

    def test_every_page(self, evidence: Evidence, unfiltered: list[str]) -> None:
        with RawCore(evidence.core.vmcore) as raw, pydumpfile.open(unfiltered) as vmcore:
            pfns = pfnset.from_runs(vmcore.source.data.pages(12))
            pfnset.require_none((pfns ^ raw.pfns) & ~evidence.fractional, "in one of both only")
            for pfn in pfnset.each(pfns):
                assert vmcore.source.read_page(pfn, 12) == raw.page(pfn), f"page {pfn:#x}"

    def test_a_dump_of_them(self, unfiltered: list[str], tmp_path: Path) -> None:
        """That of the joined file, which TestReaders compares with the core's."""
        ours("-z", "-d", 31, *unfiltered, tmp_path / "of parts")
        reassemble(unfiltered, Target(str(tmp_path / "joined")))
        ours("-z", "-d", 31, tmp_path / "joined", tmp_path / "of joined")
        dump = (tmp_path / "of parts").read_bytes()
        assert dump == (tmp_path / "of joined").read_bytes()

    def test_the_log(self, evidence: Evidence, unfiltered: list[str]) -> None:
        with pydumpfile.open(evidence.core.vmcore) as core, pydumpfile.open(unfiltered) as parts:
            lines = list(log_lines(parts))
            assert lines == list(log_lines(core))
            assert any(b"sysrq: Trigger a crash" in line for line in lines)
