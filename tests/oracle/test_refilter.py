# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of dumps of real kernels: by the direct way, by other readers, and in others' hands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.kernel.log import log_lines
from tests.decompress import CODEC_FLAGS

from . import deadkernel, pfnset, witness
from .conftest import Shelf, evidence_of
from .cores import SMALL, Evidence
from .dumpreader import DumpReader
from .rawcore import RawCore
from .test_readers import check_with_libkdumpfile, check_with_plain_parser

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """The small core of Linux 6.1, which makedumpfile 1.7.2 understands."""
    return evidence_of("6.1 small", SMALL["6.1 small"])


@pytest.fixture(scope="module")
def program() -> str:
    return witness.program("makedumpfile")


@pytest.mark.parametrize("codec", CODEC_FLAGS)
def test_core_to_1_to_31_is_core_to_31(
    small: Evidence, shelf: Shelf, codec: str, tmp_path: Path
) -> None:
    """Through every codec, and what comes of it as other readers see it."""
    first, second = tmp_path / "first", tmp_path / "second"
    pydumpfile.dump(small.core.vmcore, first, 1, codec)
    statistics = pydumpfile.dump(first, second, 31, "zlib")
    first.unlink()  # large, and nobody else's, as are others here
    assert (statistics.lost, statistics.warnings) == (0, [])
    assert second.read_bytes() == shelf.dump(small, 31, "zlib").read_bytes()
    if codec == "zstd":
        check_with_plain_parser(small, second, 31, "zlib")
        check_with_libkdumpfile(small, second, refusals=100)


def test_through_a_stream_and_back(small: Evidence, shelf: Shelf, tmp_path: Path) -> None:
    stream, again = tmp_path / "stream", tmp_path / "again"
    pydumpfile.dump(small.core.vmcore, stream, 17, "lzo", flattened=True)
    pydumpfile.dump(stream, again, 14, "zstd")
    stream.unlink()
    assert again.read_bytes() == shelf.dump(small, 31, "zstd").read_bytes()


def test_full_cores(full: Evidence, shelf: Shelf, tmp_path: Path) -> None:
    """Huge pages, poisoned ones, offline ones: left out in two steps as in one."""
    first, second = tmp_path / "first", tmp_path / "second"
    pydumpfile.dump(full.core.vmcore, first, 16, "zstd")
    pydumpfile.dump(first, second, 15, "zstd")
    first.unlink()
    assert second.read_bytes() == shelf.dump(full).read_bytes()
    second.unlink()


def test_the_log_of_a_dump_is_that_of_the_core(small: Evidence, shelf: Shelf) -> None:
    with pydumpfile.open(small.core.vmcore) as core, pydumpfile.open(shelf.dump(small)) as dump:
        lines = list(log_lines(dump))
        assert lines == list(log_lines(core))
        assert any(b"sysrq: Trigger a crash" in line for line in lines)


@pytest.mark.parametrize("options", [("-c",), ("-l",), ("-p",), (), ("-c", "-F")])
def test_makedumpfiles_own_dumps(
    evidence: Evidence, program: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Every page it has, by its bytes in the core; and at level 31 what is kept of the core."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    vmcore = evidence.core.vmcore
    with theirs.open("wb") as stream:
        command = [program, *options, "-d", "1", str(vmcore)]
        to = stream if "-F" in options else subprocess.DEVNULL
        if "-F" not in options:
            command[1:1] = ["-f"]
            command.append(str(theirs))
        subprocess.run(command, check=True, stdout=to, stderr=subprocess.DEVNULL, timeout=300)
    with RawCore(vmcore) as raw, pydumpfile.open(theirs) as dump:
        pfns = pfnset.from_runs(dump.source.data.pages(12))
        pfnset.require_none(pfns ^ raw.pfns & ~evidence.fractional, "in one of both only")
        for pfn in pfnset.each(pfns):
            assert dump.source.read_page(pfn, 12) == raw.page(pfn), f"page {pfn:#x}"
    pydumpfile.dump(theirs, ours, 31, "none")
    theirs.unlink()
    pydumpfile.dump(vmcore, tmp_path / "direct", 31, "none")
    with DumpReader(ours) as refiltered, DumpReader(tmp_path / "direct") as direct:
        kept = direct.kept & ~evidence.fractional
        pfnset.require_none(refiltered.kept ^ kept, "kept in one of both only")
        assert all(page == direct.page(pfn) for pfn, page in refiltered.pages())


def test_makedumpfile_filters_ours_further(
    evidence: Evidence, program: str, tmp_path: Path
) -> None:
    """What it makes of our dump is what it makes of the core, but for what it never reads."""
    first, refiltered, direct = (tmp_path / name for name in ("first", "refiltered", "direct"))
    pydumpfile.dump(evidence.core.vmcore, first, 1, "zlib")
    for source, target in ((first, refiltered), (evidence.core.vmcore, direct)):
        command = [program, "-f", "-d", "31", str(source), str(target)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    first.unlink()
    with DumpReader(refiltered) as one, DumpReader(direct) as other:
        left_out_before = evidence.fractional | (other.kept & ~one.kept)
        pfnset.require_none((one.kept ^ other.kept) & ~left_out_before, "kept in one of both only")
        assert all(page == one.page(pfn) for pfn, page in other.pages() if pfn in one.descriptors)


def test_drgn_finds_all_tasks(small: Evidence, shelf: Shelf, tmp_path: Path) -> None:
    pydumpfile.dump(shelf.dump(small, 31, "zstd"), tmp_path / "again", 0, "snappy")
    program = deadkernel.open_program(tmp_path / "again", small.core.vmlinux())
    assert deadkernel.tasks(program) == deadkernel.tasks(small.program)
