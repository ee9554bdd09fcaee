# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams of pydumpfile in others' hands, and others' streams in pydumpfile's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.rearrange import rearrange
from pydumpfile.sinks import Target
from pydumpfile.sources.image import FileImage
from tests.badmemory import BadMemory

from . import witness
from .conftest import Shelf, evidence_of
from .cores import SMALL, Evidence, kept_by_pydumpfile
from .dumpreader import DumpReader
from .pfnset import each
from .rawcore import RawCore
from .test_readers import crash_output

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def program() -> str:
    return witness.program("makedumpfile")


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """The small core of Linux 6.1, which all the others understand."""
    return evidence_of("6.1 small", SMALL["6.1 small"])


@pytest.fixture(scope="module")
def stream(evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``pydumpfile -F -z -d 31`` writes."""
    path = tmp_path_factory.mktemp("stream") / "stream"
    pydumpfile.dump(evidence.core.vmcore, path, 31, "zstd", flattened=True)
    return path


def test_makedumpfile_rearranges_ours(
    evidence: Evidence, stream: Path, program: str, shelf: Shelf, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    with stream.open("rb") as file:
        subprocess.run(
            [program, "-R", str(theirs)], stdin=file, check=True, capture_output=True, timeout=300
        )
    assert theirs.read_bytes() == shelf.dump(evidence, 31, "zstd").read_bytes()


@pytest.mark.parametrize(
    "options",
    [("-d", "31"), ("-c", "-d", "1"), ("-E", "-d", "31"), ("-l", "-d", "31")],
    ids=" ".join,
)
def test_ours_rearranges_makedumpfiles(
    evidence: Evidence, program: str, tmp_path: Path, options: Sequence[str]
) -> None:
    core, direct, ours = str(evidence.core.vmcore), tmp_path / "direct", tmp_path / "ours"
    quiet = ["--message-level", "0"]
    subprocess.run([program, *quiet, *options, core, str(direct)], check=True, timeout=300)
    with subprocess.Popen(
        [program, "-F", *quiet, *options, core], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as sender:
        assert sender.stdout is not None
        size = rearrange(sender.stdout.fileno(), Target(str(ours)))
    assert sender.returncode == 0
    assert size == direct.stat().st_size
    compared = subprocess.run(["cmp", str(ours), str(direct)], check=False, capture_output=True)
    assert compared.returncode == 0, compared.stdout


@pytest.mark.parametrize("flattened", [False, True])
def test_crash_knows_lost_pages_and_shows_nothing_else_for_them(
    evidence: Evidence, tmp_path: Path, shelf: Shelf, flattened: bool
) -> None:
    """Also from a stream that was not rearranged: those around them are the right ones."""
    with DumpReader(shelf.dump(evidence, 31, "zstd")) as whole:
        kept = [pfn for pfn in each(whole.kept) if any(whole.page(pfn)[:16])][-400:-390]
        words = {pfn: whole.page(pfn)[:8][::-1].hex() for pfn in kept}
    lost = kept[3:6]
    source = BadMemory(
        FileImage(os.open(evidence.core.vmcore, os.O_RDONLY), str(evidence.core.vmcore))
    )
    source.bad_pfns = frozenset(lost)
    dump = tmp_path / "dump"
    with pydumpfile.Vmcore(source) as vmcore:
        assert pydumpfile.dump(vmcore, dump, 31, "zstd", flattened=flattened).lost == len(lost)
    commands = tmp_path / "commands"
    commands.write_text("sys\n" + "".join(f"rd -p {pfn << 12:x}\n" for pfn in kept) + "quit\n")
    said = crash_output(evidence, dump, commands)
    assert "[INCOMPLETE]" in said
    for pfn in kept:
        shown = re.search(rf"^ *{pfn << 12:x}:  ([0-9a-f]+) ", said, re.M)
        if pfn in lost:
            assert shown is None
            assert re.search(rf"^rd: .*(error|incomplete): .*{pfn << 12:x}", said, re.M)
        else:
            assert shown is not None
            assert shown[1] == words[pfn]


def test_crash_opens_a_stream_as_it_is(evidence: Evidence, stream: Path, tmp_path: Path) -> None:
    """And sees that it is complete, though its first header said otherwise."""
    check_with_crash(evidence, stream, tmp_path)


def test_crash_opens_what_was_rearranged(evidence: Evidence, stream: Path, tmp_path: Path) -> None:
    """Ours, by ours."""
    with stream.open("rb") as file:
        rearrange(file.fileno(), Target(str(tmp_path / "rearranged")))
    check_with_crash(evidence, tmp_path / "rearranged", tmp_path)


def check_with_crash(evidence: Evidence, dump: Path, directory: Path) -> None:
    """It finds a whole dump, the kernel's log, and pages from first to last."""
    with RawCore(evidence.core.vmcore) as raw:
        some = list(each(kept_by_pydumpfile(evidence.core.vmcore, 31)))
        pfns = [pfn for pfn in some[:: len(some) // 20] if any(raw.page(pfn)[:8])]
        words = {pfn: raw.page(pfn)[:8][::-1].hex() for pfn in pfns}
    commands = directory / "commands"
    reads = "".join(f"rd -p {pfn << 12:x}\n" for pfn in words)
    commands.write_text(f"sys\nlog\n{reads}quit\n", "utf-8")
    said = crash_output(evidence, dump, commands)
    assert re.search(r"^ +DUMPFILE: .*\[PARTIAL DUMP\]$", said, re.M)
    assert "incomplete" not in said.lower()
    assert re.search(r"^\[ +\d+\.\d+\] sysrq: Trigger a crash$", said, re.M)
    for pfn, word in words.items():
        shown = re.search(rf"^ *{pfn << 12:x}:  ([0-9a-f]+) ", said, re.M)
        assert shown is not None and shown[1] == word, hex(pfn)
