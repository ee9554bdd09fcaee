# SPDX-License-Identifier: GPL-2.0-or-later
"""What QEMU's dump-guest-memory writes: one guest's memory, in all of its formats."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.rearrange import rearrange
from pydumpfile.sinks import Target
from pydumpfile.sources.flattened import FlattenedImage
from pydumpfile.sources.kdump import KdumpSource
from tests.lab import Guest, LabError
from tests.lab.kernels import fetch, resolve
from tests.lab.qemu_formats import PAGING, dump_in_all_formats

from . import deadkernel, pfnset, witness
from .dumpreader import DumpReader
from .kdumpfile import KdumpFile
from .rawcore import RawCore

pytestmark = pytest.mark.lab

GUEST = Guest(kernel="6.12-cloud", dump_guest_memory=True)
ZLIB = "kdump-zlib"


@dataclass(frozen=True)
class Dumps:
    """All dumps of one moment.

    :ivar kdump: those in kdump formats: zlib always, lzo and snappy where QEMU was built with them,
        and all of these once more without the flattened container, where it is new enough (8.2).
    :ivar direct: what pydumpfile makes of the ELF core at level 31.
    """

    elf: Path
    paging: Path
    kdump: Mapping[str, Path]
    direct: Path


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dumps]:
    if witness.no_lab():
        witness.missing("no guests")
    directory = tmp_path_factory.mktemp("qemu")
    try:
        by_format = dump_in_all_formats(GUEST, directory / "guest")
    except LabError as error:
        witness.missing(str(error))
    elf, paging = by_format.pop("elf"), by_format.pop(PAGING)
    assert ZLIB in by_format
    assert all(name.startswith("kdump-") for name in by_format)
    statistics = pydumpfile.dump(elf, directory / "direct", 31)
    assert (statistics.lost, statistics.warnings) == (0, [])
    yield Dumps(elf, paging, by_format, directory / "direct")
    shutil.rmtree(directory)


def test_every_page_is_that_of_the_elf_core(dumps: Dumps) -> None:
    for name, path in dumps.kdump.items():
        with RawCore(dumps.elf) as raw, pydumpfile.open(path) as vmcore:
            source = vmcore.source
            assert isinstance(source, KdumpSource)
            assert isinstance(source._image, FlattenedImage) == ("raw" not in name)
            assert (source.dump_level, source.incomplete) == (1, False)
            assert not source.only_system_ram
            pfns = pfnset.from_runs(source.data.pages(12))
            pfnset.require_none(pfns ^ raw.pfns, "in QEMU's ELF core or in its kdump file only")
            assert pfnset.from_runs(source.exists.pages(12)) == pfns
            for pfn in pfnset.each(pfns):
                assert source.read_page(pfn, 12) == raw.page(pfn), f"page {pfn:#x}"
            for first, end in source.data.pages(12):
                for at in range(first, end, 1999):
                    stop = min(at + 1999, end)
                    expected = b"".join(raw.page(pfn) for pfn in range(at, stop))
                    view = source.view(at << 12, (stop - at) << 12)
                    assert view == expected, f"from page {at:#x}"


def test_libkdumpfile_reads_the_same(dumps: Dumps, tmp_path: Path) -> None:
    """Rearranged first: libkdumpfile before 0.5.3 cannot open flattened files."""
    with dumps.kdump[ZLIB].open("rb") as stream:
        rearrange(stream.fileno(), Target(str(tmp_path / "file")))
    with pydumpfile.open(dumps.kdump[ZLIB]) as vmcore, KdumpFile(tmp_path / "file") as other:
        for first, end in vmcore.source.data.pages(12):
            for pfn in range(first, end, 7):
                assert vmcore.source.read_page(pfn, 12) == other.page(pfn), f"page {pfn:#x}"


def test_the_dump_of_it_is_that_of_the_elf_core(dumps: Dumps, tmp_path: Path) -> None:
    """Bitmaps, headers, pages."""
    for name, path in dumps.kdump.items():
        statistics = pydumpfile.dump(path, tmp_path / name, 31)
        assert (statistics.lost, statistics.warnings, statistics.level) == (0, [], 31)
        with DumpReader(dumps.direct) as direct, DumpReader(tmp_path / name) as dump:
            pfnset.require_none(dump.exists ^ direct.exists, "in one 1st bitmap only")
            pfnset.require_none(dump.kept ^ direct.kept, "in one 2nd bitmap only")
            assert (dump.layout, dump.release) == (direct.layout, direct.release)
            assert all(page == direct.page(pfn) for pfn, page in dump.pages())


def test_by_the_guests_page_tables(dumps: Dumps, tmp_path: Path) -> None:
    """With -p there is only what they map; of that the same is kept."""
    statistics = pydumpfile.dump(dumps.paging, tmp_path / "dump", 31)
    assert (statistics.lost, statistics.level) == (0, 31)
    with DumpReader(dumps.direct) as direct, DumpReader(tmp_path / "dump") as dump:
        pfnset.require_none(dump.exists & ~direct.exists, "mapped, but no memory")
        assert pfnset.count(dump.exists) > 0.9 * pfnset.count(direct.exists)
        pfnset.require_none(dump.kept ^ direct.kept & dump.exists, "kept one time only")
        assert all(page == direct.page(pfn) for pfn, page in dump.pages())


@pytest.mark.parametrize("paging", [False, True])
def test_elf_core_of_it(dumps: Dumps, tmp_path: Path, paging: bool) -> None:
    """Cut and filtered (-E), and then a dump: the pages that the dump of it has, less zero ones."""
    source = dumps.paging if paging else dumps.elf
    statistics = pydumpfile.dump_elf(source, tmp_path / "elf", 31)
    assert (statistics.lost, statistics.level) == (0, 31)
    pydumpfile.dump(tmp_path / "elf", tmp_path / "dump", 31)
    pydumpfile.dump(source, tmp_path / "direct", 31)
    with DumpReader(tmp_path / "direct") as direct, DumpReader(tmp_path / "dump") as dump:
        pfnset.require_none(dump.exists ^ direct.exists, "in one 1st bitmap only")
        pfnset.require_none(dump.kept & ~direct.kept, "kept of the ELF core only")
        assert all(page == direct.page(pfn) for pfn, page in dump.pages())
        for pfn in pfnset.each(direct.kept & ~dump.kept):
            assert direct.page(pfn) == bytes(4096), f"page {pfn:#x}"


def test_drgn_finds_all_tasks(dumps: Dumps, tmp_path: Path) -> None:
    vmlinux = fetch(resolve(GUEST.kernel)).vmlinux()
    pydumpfile.dump(dumps.kdump[ZLIB], tmp_path / "dump", 31)
    found = deadkernel.tasks(deadkernel.open_program(tmp_path / "dump", vmlinux))
    assert found == deadkernel.tasks(deadkernel.open_program(dumps.elf, vmlinux))
    assert any(task.comm == "lab-thread-b" for task in found)
