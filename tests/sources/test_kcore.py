# SPDX-License-Identifier: GPL-2.0-or-later
"""/proc/kcore of machines that never were: which segments are memory, and what else it takes."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.errors import FormatError, UnsupportedError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.pfn import Ranges
from pydumpfile.sources import Source, is_kcore, open_source
from pydumpfile.sources.elf import ElfSource
from pydumpfile.sources.filebytes import ReadFile
from pydumpfile.sources.image import FileImage
from pydumpfile.sources.kcore import PATH, KcoreSource, advice
from tests.builders import BuiltCore, CoreSpec, bits
from tests.builders.elfcore import note
from tests.conftest import MIB, CoreMaker
from tests.sinks.kdump_reader import Dump
from tests.sources.rawkcore import (
    NO_PADDR,
    PAGE,
    START_KERNEL_MAP,
    VMALLOC,
    Segment,
    headers,
    usual_segments,
    whole_pages,
    write_kcore,
)

TRAMPOLINE = 0xFFFFFE0000006000


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    source = open_source(str(path))
    try:
        yield source
    finally:
        source.close()


@pytest.fixture
def kcore(small: BuiltCore, tmp_path: Path) -> Path:
    return write_kcore(tmp_path / "kcore", small)


def test_memory_is_the_direct_map(small: BuiltCore, kcore: Path) -> None:
    with opened(kcore) as source:
        assert isinstance(source, KcoreSource)
        assert source.is_live
        assert list(source.exists) == list(source.data) == whole_pages(small)
        for start, end in whole_pages(small):
            for pfn in range(start // PAGE, end // PAGE):
                assert source.read_page(pfn, 12) == small.page(pfn)


def test_it_is_only_ever_read(kcore: Path) -> None:
    """Of /proc/kcore there are no mappings; and were there one, a page might vanish from it."""
    with opened(kcore) as source:
        assert isinstance(source, ElfSource)
        assert isinstance(source._file, ReadFile)


@pytest.mark.parametrize("level", [2, 16, 31])
def test_pages_are_judged_as_in_a_vmcore(small: BuiltCore, kcore: Path, level: int) -> None:
    with Vmcore.open(str(kcore)) as vmcore:
        assert vmcore.phys_base == small.phys_base
        assert vmcore.utsname is not None
        windows = list(PageFilter(vmcore, Level.of(level)).windows())
    kept = {pfn for window in windows for pfn in bits.ones(bytes(window.bits))}
    whole = {p for start, end in whole_pages(small) for p in range(start // PAGE, end // PAGE)}
    assert kept == set(bits.ones(small.verdict(level))) & whole
    assert [window.first_pfn for window in windows] == [0]


@pytest.mark.parametrize("elf", [False, True])
def test_a_dump_of_it_says_what_to_think_of_it(
    kcore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elf: bool
) -> None:
    """As well as what would be said of any other image."""
    monkeypatch.setattr(Vmcore, "utsname_bytes", b"")
    write = pydumpfile.dump_elf if elf else pydumpfile.dump
    with Vmcore.open(str(kcore)) as vmcore:
        statistics = write(vmcore, tmp_path / "dump", 31)
    running, nameless = statistics.warnings[-2:]
    assert "running kernel, which changed meanwhile" in running
    assert "name and version" in nameless


def test_what_a_crash_kernel_would_have_is_no_memory(small: BuiltCore, kcore: Path) -> None:
    (kcore.parent / "iomem").write_text(
        "00001000-0009ebff : System RAM\n00100000-027fffff : System RAM\n"
        "  01000000-015fffff : Kernel code\n  01800000-01ffffff : Crash kernel\n"
        "  02700000-027fffff : Crash kernel\n"
    )
    reserved = [(0x1800000, 0x2000000), (0x2700000, 0x2800000)]
    with opened(kcore) as source:
        assert [source.stretch_end(paddr) for paddr, _ in reserved] == [0x1800000, 0x2700000]
        left = [(0x1000, 0x9F000), (MIB, 0x1800000), (0x2000000, 0x2700000)]
        assert list(source.exists) == left
        behind = range(0x2000, 0x2700)
        assert not small.zero_pfns.issuperset(behind)
        assert all(source.read_page(pfn, 12) == small.page(pfn) for pfn in behind)


def test_an_iomem_that_hides_its_addresses_is_not_believed(kcore: Path) -> None:
    with opened(kcore) as source:
        everything = source.exists
    (kcore.parent / "iomem").write_text("00000000-00000000 : Crash kernel\n")
    with opened(kcore) as source:
        assert source.exists == everything


def test_trampolines_of_linux_4_19(small: BuiltCore, tmp_path: Path) -> None:
    """They have the physical address of kernel text, and lie in front of everything."""
    segments = [
        *(Segment(TRAMPOLINE + i * PAGE, small.phys_base + 0x1000000, PAGE) for i in range(4)),
        *usual_segments(small),
    ]
    with opened(write_kcore(tmp_path / "kcore", small, segments)) as source:
        assert list(source.exists) == whole_pages(small)
        pfn = small.phys_base + 0x1000000 >> 12
        assert source.read_page(pfn, 12) == small.page(pfn)


def test_kernels_that_tell_no_physical_addresses(small: BuiltCore, tmp_path: Path) -> None:
    segments = [Segment(s.vaddr, 0, s.size) for s in usual_segments(small)]
    segments.append(Segment(VMALLOC, NO_PADDR, PAGE))
    with pytest.raises(UnsupportedError, match=r"before Linux 4\.11"):
        open_source(str(write_kcore(tmp_path / "kcore", small, segments)))


class TestVmcoreinfoBeforeLinux419:
    """The note is in memory alone, where /sys/kernel/vmcoreinfo says."""

    PADDR = 0x2400000

    @pytest.fixture
    def kcore(self, small: BuiltCore, tmp_path: Path) -> Path:
        root = tmp_path / "root"
        for name in ("proc", "sys/kernel"):
            (root / name).mkdir(parents=True)
        path = write_kcore(root / "proc" / "kcore", small, text=" ")
        blob = note("VMCOREINFO", 0, small.vmcoreinfo.encode())
        with path.open("r+b") as file, opened(path) as source:
            assert isinstance(source, ElfSource)
            run = source._run_at(self.PADDR)
            assert run is not None
            file.seek(run.off + self.PADDR - run.start)
            file.write(blob)
        (root / "sys/kernel/vmcoreinfo").write_text(f"{self.PADDR:x} {len(blob) + 8:x}\n")
        return path

    def test_it_is_found(self, small: BuiltCore, kcore: Path) -> None:
        with opened(kcore) as source:
            assert source.vmcoreinfo == small.vmcoreinfo.encode()
            notes = b"".join(source.iter_notes())
            assert len(notes) == source.notes_size
            assert notes[source.vmcoreinfo_off :].startswith(source.vmcoreinfo)

    @pytest.mark.parametrize("said", ["", "nonsense\n", "2400000\n", "ffffffffff000 1000\n"])
    def test_it_is_not_there(self, kcore: Path, said: str) -> None:
        (kcore.parent.parent / "sys/kernel/vmcoreinfo").write_text(said)
        with opened(kcore) as source:
            assert source.vmcoreinfo is None
            assert len(b"".join(source.iter_notes())) == source.notes_size


def test_a_dump_of_it(small: BuiltCore, kcore: Path, tmp_path: Path) -> None:
    """Nothing stands still in life; here it does, and every page is the machine's."""
    statistics = pydumpfile.dump(kcore, tmp_path / "dump", 31)
    dump = Dump(tmp_path / "dump")
    assert statistics.kept == len(dump.pfns) > 0
    assert all(dump.page(pfn) == small.page(pfn) for pfn in dump.pfns)
    assert any("running" in warning for warning in statistics.warnings)


class TestRecognition:
    """By what it is, wherever it lies."""

    def is_kcore(self, content: bytes, path: Path) -> bool:
        path.write_bytes(content)
        with path.open("rb") as file:
            return is_kcore(FileImage(file.fileno(), str(path)))

    def test_of_both_numbers_of_levels(self, small: BuiltCore, tmp_path: Path) -> None:
        path = tmp_path / "kcore"
        assert self.is_kcore(headers(usual_segments(small), b""), path)
        five = [
            Segment(0xFFA0000000000000, NO_PADDR, 1 << 40), Segment(0xFF11000000001000, 4096, MIB)
        ]  # fmt: skip
        assert self.is_kcore(headers(five, b""), path)

    def test_what_is_none(self, small: BuiltCore, tmp_path: Path) -> None:
        path = tmp_path / "core"
        whole = headers(usual_segments(small), b"")
        moved = whole.replace(VMALLOC.to_bytes(8, "little"), (VMALLOC + PAGE).to_bytes(8, "little"))
        no_vmalloc = [s for s in usual_segments(small) if s.paddr != NO_PADDR]
        nowhere = whole[:32] + b"\xff" * 8 + whole[40:]
        others = [
            whole[:40],
            b"",
            b"\x7fELF",
            moved,
            nowhere,
            headers(no_vmalloc, b""),
            headers([], b""),
        ]
        assert [self.is_kcore(other, path) for other in others] == [False] * len(others)
        with small.path.open("rb") as file:
            assert not is_kcore(FileImage(file.fileno(), str(small.path)))


def test_what_to_do_when_it_cannot_be_opened() -> None:
    assert "root" in advice(PATH, errno.EACCES)
    assert "locked down" in advice(PATH, errno.EPERM)
    assert "CONFIG_PROC_KCORE" in advice(PATH, errno.ENOENT)
    assert advice(PATH, errno.EIO) == advice("vmcore", errno.EACCES) == ""


def test_the_image_alone_is_no_memory(small: BuiltCore, tmp_path: Path, core_of: CoreMaker) -> None:
    """Its virtual addresses are another distance away, and the direct map has all of it."""
    built = core_of(CoreSpec(memory_size=80 * MIB, image_paddr=48 * MIB))
    with opened(write_kcore(tmp_path / "kcore", built)) as source:
        assert source.exists == Ranges(whole_pages(built))
        assert source.phys_base_hint == built.phys_base
    segments = [Segment(START_KERNEL_MAP, 0, MIB), Segment(VMALLOC, NO_PADDR, PAGE)]
    with pytest.raises(FormatError, match="at least one PT_LOAD"):
        open_source(str(write_kcore(tmp_path / "none", small, segments)))
