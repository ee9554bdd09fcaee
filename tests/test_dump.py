# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole dumps of synthetic cores, read back by the tests' own reader."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile import Kind, Statistics
from pydumpfile.errors import MissingFactError, OutputError, UsageError
from pydumpfile.sources.image import FileImage
from tests.badmemory import BadMemory
from tests.builders import BuiltCore, bits
from tests.builders.vmcoreinfo import CRASHTIME
from tests.conftest import MIB, SMALL, Command, CoreMaker
from tests.decompress import CODEC_FLAGS
from tests.sinks.kdump_reader import Dump
from tests.sources.rawelf import Segment, raw_elf

PAGE = 4096
ZERO = bytes(PAGE)

MACHINES = {
    "small": SMALL,
    "6.1, KASLR": replace(SMALL, layout="6.1", kaslr_offset=0x1C000000, randomize_memory=True),
    "5 levels": replace(SMALL, levels=5, layout="7.1"),
    "odd ends": replace(SMALL, memory=((0x1800, 0x9E000), (MIB + 0x400, 39 * MIB + 0x300))),
    "segments": replace(SMALL, split_loads=300, shuffle_loads=True, split_inside_pages=True),
    "QEMU": replace(SMALL, zero_vaddr=True, overlap_image=False, unaligned=True, n_cpus=5),
    "filtered before": replace(SMALL, no_data=((30 * MIB, MIB), (36 * MIB, 4 * MIB))),
    "many CPUs": replace(SMALL, n_cpus=100),
    "free lists": replace(SMALL, freelists=True, broken_list=True),
    "high": replace(SMALL, memory=((MIB, 39 * MIB), (33 << 30, 2 * MIB), (100 << 30, 3 * MIB))),
    "no note": replace(SMALL, note=False),
}


def dumped(
    built: BuiltCore, target: Path, level: int = 31, compression: str = "zstd"
) -> tuple[Dump, Statistics]:
    statistics = pydumpfile.dump(built.path, target, level, compression)
    return Dump(target), statistics


def check_pages(dump: Dump, built: BuiltCore, level: int) -> None:
    """Both bitmaps, and the content of every page by way of its descriptor."""
    size = len(built.exists)
    assert dump.bitmap1[:size] == built.exists and not any(dump.bitmap1[size:])
    assert dump.bitmap2[:size] == built.verdict(level) and not any(dump.bitmap2[size:])
    for pfn in dump.pfns:
        assert dump.page(pfn) == built.page(pfn), hex(pfn)


def check_zero_sharing(dump: Dump, level: int) -> int:
    """One zero page in front if level bit 0 is set, else none; how many pages share it."""
    data_off = dump.descriptors_off + 24 * len(dump.pfns)
    at_front = [pfn for pfn, d in dump.descriptors.items() if d.offset == data_off]
    zero = {pfn for pfn in dump.pfns if dump.page(pfn) == ZERO}
    if level & 1:
        assert dump.raw[data_off : data_off + PAGE] == ZERO
        assert set(at_front) == zero
        assert all(dump.descriptors[pfn] == (data_off, PAGE, 0, 0) for pfn in zero)
        return len(zero)
    assert len(at_front) <= 1
    offsets = [descriptor.offset for descriptor in dump.descriptors.values()]
    assert len(set(offsets)) == len(offsets)
    return 0


def check_order(dump: Dump, level: int) -> None:
    """Data in pfn order, without gaps, to the end of the file."""
    at = dump.descriptors_off + 24 * len(dump.pfns) + (PAGE if level & 1 else 0)
    for pfn in dump.pfns:
        descriptor = dump.descriptors[pfn]
        if level & 1 and descriptor.offset < at:
            continue  # shares the zero page
        assert descriptor.offset == at
        at += descriptor.size
    assert at == len(dump.raw)


def check_headers(dump: Dump, built: BuiltCore, level: int, compression: str) -> None:
    assert dump.signature == b"KDUMP   "
    assert dump.header_version == 6
    assert dump.status == CODEC_FLAGS[compression]
    assert dump.block_size == PAGE
    notes = _notes_of(built.path)
    assert dump.sub_hdr_size == -(-(104 + len(notes)) // PAGE)
    assert dump.bitmap_blocks == 2 * -(-built.max_mapnr // (8 * PAGE))
    assert dump.max_mapnr == dump.max_mapnr_64 == built.max_mapnr
    assert dump.nr_cpus == built.spec.n_cpus
    assert (dump.total_ram_blocks, dump.device_blocks, dump.written_blocks) == (0, 0, 0)
    assert dump.dump_level == level
    assert (dump.split, dump.start_pfn, dump.end_pfn) == (0, 0, 0)
    assert (dump.start_pfn_64, dump.end_pfn_64) == (0, 0)
    assert (dump.offset_eraseinfo, dump.size_eraseinfo) == (0, 0)
    assert dump.offset_note == PAGE + 104
    assert dump.notes == notes
    assert dump.tv_usec == 0
    if built.spec.note:
        assert dump.vmcoreinfo == built.vmcoreinfo.encode()
        assert dump.offset_note < dump.offset_vmcoreinfo
        assert dump.tv_sec == CRASHTIME
        assert dump.phys_base == built.phys_base
        release = str(built.keys["OSRELEASE"])
        assert dump.utsname == ["Linux", "builder", release, "#1 SMP synthetic", "x86_64", "(none)"]
    else:
        assert (dump.offset_vmcoreinfo, dump.size_vmcoreinfo, dump.tv_sec) == (0, 0, 0)
        assert dump.utsname == [""] * 6


def _notes_of(path: Path) -> bytes:
    """The bytes of the core's PT_NOTE, which the builders put first."""
    with path.open("rb") as core:
        header = core.read(64 + 56)
        assert int.from_bytes(header[64:68], "little") == 4
        core.seek(int.from_bytes(header[72:80], "little"))
        return core.read(int.from_bytes(header[96:104], "little"))


@pytest.mark.parametrize("compression", CODEC_FLAGS)
@pytest.mark.parametrize("level", [0, 1, 30, 31])
def test_every_page_of_a_dump(
    small: BuiltCore, tmp_path: Path, level: int, compression: str
) -> None:
    dump, statistics = dumped(small, tmp_path / "dump", level, compression)
    check_headers(dump, small, level, compression)
    check_pages(dump, small, level)
    check_order(dump, level)
    n_zero = check_zero_sharing(dump, level)
    counts = small.counts(level)
    expected = {**counts, "unused_mem_map": 0}
    assert {kind.name.lower(): n for kind, n in statistics.left_out.items()} == expected
    assert statistics.zero == n_zero
    assert statistics.kept == len(dump.pfns)
    assert statistics.stored == len(dump.pfns) - n_zero
    assert (statistics.lost, statistics.filtered_before) == (0, 0)
    assert statistics.existing == sum(bin(byte).count("1") for byte in small.exists)
    assert statistics.existing == statistics.kept + sum(counts.values())
    assert statistics.bytes_written == len(dump.raw) == (tmp_path / "dump").stat().st_size
    assert (statistics.level, statistics.compression) == (level, compression)
    assert (statistics.release, statistics.page_size) == ("6.12.0", PAGE)
    stored = {d.flags for d in dump.descriptors.values()}
    assert CODEC_FLAGS[compression] in stored


@pytest.mark.parametrize("name", MACHINES)
def test_other_machines(core_of: CoreMaker, tmp_path: Path, name: str) -> None:
    built = core_of(MACHINES[name])
    level = 31 if built.spec.note else 1
    dump, statistics = dumped(built, tmp_path / "dump", level)
    check_headers(dump, built, level, "zstd")
    check_pages(dump, built, level)
    check_order(dump, level)
    check_zero_sharing(dump, level)
    before = sum(size for _, size in built.spec.no_data) // PAGE
    assert statistics.filtered_before == before
    left_out = sum(statistics.left_out.values())
    assert statistics.existing == statistics.kept + left_out + before


@pytest.mark.parametrize("compression", CODEC_FLAGS)
def test_python_writes_the_same_bytes(
    core_of: CoreMaker, tmp_path: Path, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path on the reference loops: PYDUMPFILE_KERNEL=python."""
    built = core_of(MACHINES["odd ends"])
    for kernel in ("c", "python"):
        monkeypatch.setenv("PYDUMPFILE_KERNEL", kernel)
        for level in (0, 31):
            pydumpfile.dump(built.path, tmp_path / f"{kernel}{level}", level, compression)
    for level in (0, 31):
        assert (tmp_path / f"c{level}").read_bytes() == (tmp_path / f"python{level}").read_bytes()
    check_pages(Dump(tmp_path / "python31"), built, 31)


def test_a_wrong_kernel_writes_nothing(
    small: BuiltCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYDUMPFILE_KERNEL", "perl")
    with pytest.raises(UsageError, match="perl"):
        pydumpfile.dump(small.path, tmp_path / "dump")
    assert not (tmp_path / "dump").exists()


def test_twice_gives_the_same(small: BuiltCore, tmp_path: Path) -> None:
    one, _ = dumped(small, tmp_path / "one")
    other, _ = dumped(small, tmp_path / "other")
    assert one.raw == other.raw


class TestTheFile:
    """Where the dump goes."""

    def test_is_private(self, small: BuiltCore, tmp_path: Path) -> None:
        pydumpfile.dump(small.path, tmp_path / "dump")
        assert stat.S_IMODE((tmp_path / "dump").stat().st_mode) == 0o600

    def test_an_existing_file_is_kept(self, small: BuiltCore, tmp_path: Path) -> None:
        (tmp_path / "dump").write_bytes(b"precious")
        with pytest.raises(OutputError) as caught:
            pydumpfile.dump(small.path, tmp_path / "dump")
        assert caught.value.errno == errno.EEXIST
        assert (tmp_path / "dump").read_bytes() == b"precious"

    def test_unless_told_to_overwrite(self, small: BuiltCore, tmp_path: Path) -> None:
        fresh, _ = dumped(small, tmp_path / "fresh")
        (tmp_path / "dump").write_bytes(b"\xff" * (len(fresh.raw) + 100))
        pydumpfile.dump(small.path, tmp_path / "dump", overwrite=True)
        assert (tmp_path / "dump").read_bytes() == fresh.raw

    @pytest.mark.parametrize("n_calls", [1, 2])
    def test_a_disk_that_fails_at_the_end(
        self, small: BuiltCore, tmp_path: Path, n_calls: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even if it is the header that says "complete" of which nobody knows where it is."""
        fsync, calls = os.fsync, [0]

        def failing(fd: int) -> None:
            calls[0] += 1
            if calls[0] == n_calls:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(fd)

        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(OutputError, match="kept and marked incomplete"):
            pydumpfile.dump(small.path, tmp_path / "dump")
        assert Dump(tmp_path / "dump").incomplete

    def test_never_the_input(self, scratch_core: Path, tmp_path: Path) -> None:
        before = scratch_core.read_bytes()
        os.link(scratch_core, tmp_path / "link")
        for target in (scratch_core, tmp_path / "link"):
            with pytest.raises(UsageError, match="input itself"):
                pydumpfile.dump(scratch_core, target, overwrite=True)
        assert scratch_core.read_bytes() == before

    def test_what_is_wrong_with_the_input_is_found_before(
        self, core_of: CoreMaker, tmp_path: Path
    ) -> None:
        target = tmp_path / "dump"
        target.write_bytes(b"precious")
        with pytest.raises(MissingFactError):
            pydumpfile.dump(core_of(MACHINES["no note"]).path, target, 31, overwrite=True)
        with pytest.raises(UsageError):
            pydumpfile.dump(core_of(SMALL).path, target, 31, "lzma", overwrite=True)
        with pytest.raises(UsageError):
            pydumpfile.dump(core_of(SMALL).path, target, 32, overwrite=True)
        assert target.read_bytes() == b"precious"


class TestWarnings:
    """What the operator has to know although the dump is written."""

    def test_none(self, core_of: CoreMaker, tmp_path: Path) -> None:
        quiet = core_of(replace(SMALL, filled=0.0, seed=3))
        _, statistics = dumped(quiet, tmp_path / "dump", 15)
        assert statistics.warnings == []

    def test_no_description(self, core_of: CoreMaker, tmp_path: Path) -> None:
        _, statistics = dumped(core_of(MACHINES["no note"]), tmp_path / "dump", 1)
        assert any("no page was judged" in w and "VMCOREINFO" in w for w in statistics.warnings)
        assert any("name and version" in w for w in statistics.warnings)

    def test_broken_free_list(self, core_of: CoreMaker, tmp_path: Path) -> None:
        _, statistics = dumped(core_of(MACHINES["free lists"]), tmp_path / "dump", 31)
        assert "1 free lists are broken: the rest of them is kept" in statistics.warnings

    def test_unreadable_struct_pages(self, core_of: CoreMaker, tmp_path: Path) -> None:
        spec = replace(SMALL, vmemmap_page_size=4096, unreadable=((0x2000, 512, "unmapped"),))
        built = core_of(spec)
        dump, statistics = dumped(built, tmp_path / "dump", 31)
        check_pages(dump, built, 31)
        assert any(w.startswith("512 pages kept") for w in statistics.warnings)


def test_scattered_memory_costs_little_disk(tmp_path: Path) -> None:
    """A page here and there in a large address space: only their bits are written."""
    pages = [Segment(data=bytes((i, *bytes(4095))), paddr=i << 36) for i in range(1, 200)]
    (tmp_path / "core").write_bytes(raw_elf(pages))
    statistics = pydumpfile.dump(tmp_path / "core", tmp_path / "dump", 1)
    assert statistics.stored == len(pages)
    assert (tmp_path / "dump").stat().st_blocks * 512 < 8 * MIB


class TestLostPages:
    """Pages that cannot be read have descriptors that say so, are counted, and told."""

    @pytest.mark.parametrize("level", [0, 31])
    @pytest.mark.parametrize("kernel", ["c", "python"])
    def test_bad_memory(
        self, small: BuiltCore, tmp_path: Path, level: int, kernel: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("PYDUMPFILE_KERNEL", kernel)
        whole, _ = dumped(small, tmp_path / "whole", level)
        stored = [pfn for pfn in whole.pfns if pfn > 0x2000]
        bad = frozenset(stored[10:13] + stored[40:41] + stored[-1:])
        source = BadMemory(FileImage(os.open(small.path, os.O_RDONLY), str(small.path)))
        source.bad_pfns = bad
        with pydumpfile.Vmcore(source) as vmcore:
            statistics = pydumpfile.dump(vmcore, tmp_path / "dump", level)
        dump = Dump(tmp_path / "dump")
        assert dump.lost == bad
        assert (dump.bitmap1, dump.bitmap2) == (whole.bitmap1, whole.bitmap2)
        for pfn in dump.pfns:
            assert dump.page(pfn) == (None if pfn in bad else small.page(pfn)), hex(pfn)
        assert statistics.lost == len(bad)
        assert statistics.kept == len(whole.pfns)
        assert statistics.stored == statistics.kept - statistics.zero - len(bad)
        reason = f"{len(bad)} pages could not be read and are not in the dump"
        assert any(warning.startswith(reason) for warning in statistics.warnings)
        assert dump.incomplete

    def test_a_file_cut_while_it_is_copied(
        self, scratch_core: Path, small: BuiltCore, tmp_path: Path
    ) -> None:
        cut = 5 * MIB

        def progress(step: str, done: int, total: int) -> None:
            if step == "judging pages" and done == total:
                os.truncate(scratch_core, scratch_core.stat().st_size - cut)

        statistics = pydumpfile.dump(scratch_core, tmp_path / "dump", 0, "none", progress)
        dump = Dump(tmp_path / "dump")
        end = (small.spec.memory_size - cut) >> 12
        kept = list(bits.ones(small.verdict(0)))
        assert dump.pfns == kept
        assert dump.lost == {pfn for pfn in kept if pfn >= end}
        assert statistics.lost == len(dump.lost) > 1000
        for pfn in set(kept[-5000:]) - dump.lost:
            assert dump.page(pfn) == small.page(pfn)


def check_prefix(dump: Dump, built: BuiltCore) -> int:
    """Of an interrupted dump: marked, and every page it has is right; how many it has."""
    assert dump.incomplete
    assert dump.status & ~8 == CODEC_FLAGS["none"]
    seen = [dump.page(pfn) for pfn in dump.pfns]  # asserts that no descriptor is wild
    n = sum(page is not None for page in seen)
    assert all(page is not None for page in seen[:n]), "pages in pfn order, then nothing"
    for pfn, page in zip(dump.pfns[:n], seen):
        assert page == built.page(pfn)
    return n


class TestInterrupted:
    """Dumps that could not be finished."""

    @pytest.mark.parametrize("step", ["judging pages", "copying pages"])
    def test_by_an_exception(self, small: BuiltCore, tmp_path: Path, step: str) -> None:
        class StopError(Exception):
            pass

        def progress(now: str, done: int, total: int) -> None:
            del done, total
            if now == step:
                raise StopError

        with pytest.raises(StopError):
            pydumpfile.dump(small.path, tmp_path / "dump", 0, "none", progress)
        check_prefix(Dump(tmp_path / "dump"), small)

    @pytest.mark.parametrize("room", [0.0, 0.0001, 0.01, 0.2, 0.5, 0.99])
    def test_by_a_limit_of_file_size(self, small: BuiltCore, tmp_path: Path, room: float) -> None:
        """EFBIG, a little further into the file each time: headers, bitmaps, data."""
        whole, _ = dumped(small, tmp_path / "whole", 0, "none")
        limit = int(len(whole.raw) * room)

        def limited() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = _command(small.path, tmp_path / "dump", preexec=limited)
        assert done.returncode == 10, done.stderr
        assert done.stderr.count("\n") == 1
        assert "File too large" in done.stderr
        path = tmp_path / "dump"
        if limit < whole.descriptors_off:
            assert len(path.read_bytes()) <= limit
            if limit >= 464:
                assert path.read_bytes()[424] & 8
            return
        n = check_prefix(Dump(path), small)
        if room > 0.4:
            assert n > 1000

    def test_by_a_full_disk(self, small: BuiltCore, tmpfs: Path) -> None:
        done = _command(small.path, tmpfs / "dump")
        assert done.returncode == 10
        assert "No space left on device; make room, or give another target" in done.stderr
        assert "marked incomplete; a smaller dump may fit (-d 31, -z)" in done.stderr
        n = check_prefix(Dump(tmpfs / "dump"), small)
        assert n > 1000

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_by_a_signal(self, small: BuiltCore, tmp_path: Path, number: int) -> None:
        """Sent by the process to itself in the middle of the copy: no race."""
        code = (
            "import os, signal, sys\n"
            "from pydumpfile import cli\n"
            "from pydumpfile.sinks.kdump import KdumpSink\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it\n"
            "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this\n"
            "write, calls = KdumpSink.write_batch, []\n"
            "def write_batch(self, *batch):\n"
            "    write(self, *batch)\n"
            "    calls.append(0)\n"
            "    if len(calls) == 12:\n"
            f"        os.kill(os.getpid(), {int(number)})\n"
            "KdumpSink.write_batch = write_batch\n"
            "sys.exit(cli.main(sys.argv[1:]))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "-d", "0", str(small.path), str(tmp_path / "dump")],
            check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 1
        assert "marked incomplete" in done.stderr
        assert "Traceback" not in done.stderr
        check_prefix(Dump(tmp_path / "dump"), small)

    def test_by_sigkill(self, small: BuiltCore, tmp_path: Path) -> None:
        """Nobody can clean up: what is in the file has to be right as it is."""
        code = (
            "import os, signal, sys\n"
            "import pydumpfile\n"
            "def progress(step, done, total):\n"
            "    if step == 'copying pages' and done >= total:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "pydumpfile.dump(sys.argv[1], sys.argv[2], 0, 'none', progress)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(small.path), str(tmp_path / "dump")],
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL
        assert check_prefix(Dump(tmp_path / "dump"), small) > 1000


def _command(core: Path, target: Path, preexec: object = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pydumpfile", "-d", "0", str(core), str(target)],
        check=False, capture_output=True, text=True, timeout=300,
        preexec_fn=preexec,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of 20 MiB, where this may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)],
        check=False, capture_output=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("may not mount a tmpfs here; RLIMIT_FSIZE stands in for it")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_level_of_its_own_keeps_what_it_should(small: BuiltCore, tmp_path: Path) -> None:
    """Each level bit alone, on the way through the whole program."""
    for level in (2, 4, 8, 16):
        dump, statistics = dumped(small, tmp_path / f"dump{level}", level, "none")
        assert dump.bitmap2[: len(small.exists)] == small.verdict(level)
        assert statistics.left_out[Kind.FREE] == small.counts(level)["free"]


def test_what_judged_pages_holds_no_window_while_they_are_copied(
    small: BuiltCore, tmp_path: Path
) -> None:
    """Each is 8 MiB of memory."""
    seen = []

    def count_windows(step: str, done: int, total: int) -> None:
        del done, total
        if step == "copying pages":
            seen.append(Path("/proc/self/maps").read_text("utf-8").count(str(small.path)))

    pydumpfile.dump(small.path, tmp_path / "dump", progress=count_windows, n_threads=1)
    assert seen and max(seen) == 1


def test_closing_is_left_to_who_opened(small: BuiltCore, tmp_path: Path) -> None:
    with closing(pydumpfile.open(small.path)) as vmcore:
        for name in ("one", "other"):
            pydumpfile.dump(vmcore, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_holes_between_windows(command: Command, core_of: CoreMaker, tmp_path: Path) -> None:
    """Memory at 100 GiB: the bitmaps have windows in which there is nothing."""
    built = core_of(MACHINES["high"])
    assert command("-d", 31, built.path, tmp_path / "dump").returncode == 0
    check_pages(Dump(tmp_path / "dump"), built, 31)
