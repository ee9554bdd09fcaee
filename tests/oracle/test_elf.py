# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF cores: makedumpfile's bytes on demand, its layout always, and what others read of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile import Level, Statistics
from pydumpfile.elfdump import dump_elf
from pydumpfile.rearrange import rearrange
from pydumpfile.sinks import Target
from tests.builders import CoreSpec, build_core
from tests.builders.test_witness import KNOBS
from tests.conftest import MIB
from tests.sinks.elf_reader import ElfCore

from . import deadkernel, pfnset, witness
from .conftest import Shelf, evidence_of
from .cores import SMALL, Evidence, kept_by_pydumpfile
from .groundtruth import MAX_CHANGED
from .kdumpfile import NO_DATA, KdumpFile, KdumpfileError
from .kpageflags import Kpf
from .rawcore import RawCore
from .test_other_machines import GUEST as QEMU_GUEST
from .test_readers import crash_output

_PLAIN = CoreSpec(layout="6.1", memory_size=64 * MIB)
SYNTHETIC = {
    "plain": _PLAIN,
    **{name: KNOBS[name] for name in ("holes", "high", "split", "QEMU", "no data", "free lists")},
    "odd ends": replace(_PLAIN, memory=((0x1800, 0x9E000), (MIB + 0x400, 63 * MIB + 0x300))),
    "PN_XNUM": replace(_PLAIN, memory_size=300 * MIB, split_loads=0x10000, filled=0.01),
    "garbage": replace(_PLAIN, garbage=True),
}
ZERO_PAGE = bytes(4096)


@pytest.fixture(scope="module")
def program() -> str:
    return witness.program("makedumpfile")


def ours(core: Path, output: Path, level: int, as_makedumpfile: bool = False) -> Statistics:
    with pydumpfile.open(core) as vmcore:
        return dump_elf(vmcore, Target(str(output)), Level(level), as_makedumpfile=as_makedumpfile)


def theirs(program: str, core: Path, output: Path, level: int) -> None:
    run = subprocess.run(
        [program, "-E", "-d", str(level), "--message-level", "4", str(core), str(output)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-1000:]


def check_bytes(program: str, core: Path, level: int, directory: Path) -> None:
    """With its leaks and its idea of what memory is: the same file."""
    their_path, our_path = directory / "theirs", directory / "ours"
    theirs(program, core, their_path, level)
    ours(core, our_path, level, as_makedumpfile=True)
    run = subprocess.run(["cmp", their_path, our_path], capture_output=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    their_path.unlink()
    our_path.unlink()


@pytest.mark.parametrize("name", SYNTHETIC)
def test_makedumpfiles_bytes_of_synthetic_cores(program: str, tmp_path: Path, name: str) -> None:
    built = build_core(tmp_path / "core", SYNTHETIC[name])
    for level in (0, 9, 16, 31):
        check_bytes(program, built.path, level, tmp_path)


@pytest.mark.lab
@pytest.mark.parametrize("level", [0, 1, 2, 8, 14, 16, 30, 31])
def test_makedumpfiles_bytes_at_many_levels(program: str, tmp_path: Path, level: int) -> None:
    core = evidence_of("6.1 small", SMALL["6.1 small"]).core.vmcore
    check_bytes(program, core, level, tmp_path)


def test_makedumpfiles_bytes(evidence_6_1: Evidence, program: str, tmp_path: Path) -> None:
    check_bytes(program, evidence_6_1.core.vmcore, 31, tmp_path)


@pytest.fixture(scope="module")
def cores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """ELF cores of level 31 of the small cores, by their names."""
    directory = tmp_path_factory.mktemp("elf")
    made = {}
    for name, guest in SMALL.items():
        made[name] = directory / name.replace(" ", "-")
        statistics = ours(evidence_of(name, guest).core.vmcore, made[name], 31)
        assert (statistics.lost, statistics.warnings) == (0, [])
    yield made
    for path in made.values():
        path.unlink()


def expected_page(raw: RawCore, kept: int, pfn: int) -> bytes:
    """A reader shows zeros for what is not there, zero page or not."""
    return raw.page(pfn) if kept >> pfn & 1 else ZERO_PAGE


@pytest.mark.lab
@pytest.mark.parametrize("name", SMALL)
def test_plain_parser_finds_every_page_and_nothing_else(cores: dict[str, Path], name: str) -> None:
    evidence = evidence_of(name, SMALL[name])
    kept = kept_by_pydumpfile(evidence.core.vmcore, 31)
    with RawCore(evidence.core.vmcore) as raw:
        pages = ElfCore.open(cores[name]).pages()
        pfnset.require_none(pfnset.from_pfns(pages) ^ evidence.in_core, "in one core only")
        for pfn, page in pages.items():
            assert page == expected_page(raw, kept, pfn), f"page {pfn:#x}"


def page_or_nothing(dump: KdumpFile, pfn: int) -> bytes:
    """Zeros too where it says that there is no data."""
    try:
        return dump.page(pfn)
    except KdumpfileError as refusal:
        if refusal.status != NO_DATA:
            raise
        return ZERO_PAGE


@pytest.mark.lab
@pytest.mark.parametrize("name", SMALL)
def test_libkdumpfile_reads_every_page(cores: dict[str, Path], name: str) -> None:
    """Of holes it shows zeros, as others do, or says that there is nothing."""
    evidence = evidence_of(name, SMALL[name])
    kept = kept_by_pydumpfile(evidence.core.vmcore, 31)
    stored = pfnset.from_runs(
        (load.paddr // 4096, -(-(load.paddr + load.filesz) // 4096))
        for load in ElfCore.open(cores[name]).loads
    )
    with RawCore(evidence.core.vmcore) as raw, KdumpFile(cores[name]) as dump:
        for pfn in pfnset.each(stored):
            assert dump.page(pfn) == expected_page(raw, kept, pfn), f"page {pfn:#x}"
        for pfn in pfnset.each(evidence.in_core & ~stored):
            assert expected_page(raw, kept, pfn) == ZERO_PAGE, f"page {pfn:#x}"
            assert page_or_nothing(dump, pfn) == ZERO_PAGE, f"page {pfn:#x}"


@pytest.mark.lab
@pytest.mark.parametrize("name", SMALL)
def test_drgn_finds_tasks_and_stack(cores: dict[str, Path], name: str) -> None:
    evidence = evidence_of(name, SMALL[name])
    program = deadkernel.open_program(cores[name], evidence.core.vmlinux())
    assert deadkernel.tasks(program) == deadkernel.tasks(evidence.program)
    assert deadkernel.crash_stack(program) == deadkernel.crash_stack(evidence.program)


@pytest.mark.lab
def test_crash_reads_it(cores: dict[str, Path], tmp_path: Path) -> None:
    evidence = evidence_of("6.1 small", SMALL["6.1 small"])
    commands = tmp_path / "commands"
    commands.write_text("sys\nlog\nbt\nkmem -i\nquit\n", "utf-8")
    said = crash_output(evidence, cores["6.1 small"], commands)
    assert re.search(rf"^ +RELEASE: {re.escape(evidence.core.kernel.release)}$", said, re.M)
    assert re.search(r"^\[ +\d+\.\d+\] sysrq: Trigger a crash$", said, re.M)
    assert re.search(r"^ #\d+ \[\w+\] panic at .*\n #\d+ \[\w+\] sysrq_handle_crash", said, re.M)
    assert "incomplete" not in said.lower()


def check_with_readelf(core: Path) -> None:
    """Nothing of it is odd enough to be warned of."""
    readelf = witness.program("readelf", "binutils")
    run = subprocess.run([readelf, "-hlnW", core], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert "VMCOREINFO" in run.stdout
    assert len(re.findall(r"^  LOAD ", run.stdout, re.M)) > 10


@pytest.mark.lab
def test_readelf_finds_nothing_wrong(cores: dict[str, Path]) -> None:
    check_with_readelf(cores["6.1 small"])


@pytest.mark.lab
def test_makedumpfile_rearranges_our_stream(
    cores: dict[str, Path], program: str, tmp_path: Path
) -> None:
    core = evidence_of("6.1 small", SMALL["6.1 small"]).core.vmcore
    stream, output = tmp_path / "stream", tmp_path / "output"
    with pydumpfile.open(core) as vmcore:
        dump_elf(vmcore, Target(str(stream), flattened=True), Level(31))
    with stream.open("rb") as file:
        subprocess.run(
            [program, "-R", str(output)], stdin=file, check=True, capture_output=True, timeout=300
        )
    assert output.read_bytes() == cores["6.1 small"].read_bytes()


@pytest.mark.lab
@pytest.mark.parametrize("name", SMALL)
def test_chain_to_a_stream_of_kdump(name: str, shelf: Shelf, tmp_path: Path) -> None:
    """ELF, then kdump-compressed, flattened, rearranged: what the direct way writes."""
    evidence = evidence_of(name, SMALL[name])
    elf, stream, output = tmp_path / "elf", tmp_path / "stream", tmp_path / "output"
    ours(evidence.core.vmcore, elf, 30)
    pydumpfile.dump(elf, stream, 31, "zstd", flattened=True)
    with stream.open("rb") as file:
        rearrange(file.fileno(), Target(str(output)))
    assert output.read_bytes() == shelf.dump(evidence, 31, "zstd").read_bytes()


@pytest.mark.lab
@pytest.mark.parametrize("name", SMALL)
def test_a_core_with_holes_is_judged_alike(
    cores: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """Zero pages are holes like others; of all the rest the same pages are kept."""
    evidence = evidence_of(name, SMALL[name])
    direct = kept_by_pydumpfile(evidence.core.vmcore, 31)
    again = kept_by_pydumpfile(cores[name], 31)
    pfnset.require_none(again & ~direct, "kept only of the core with holes")
    with RawCore(evidence.core.vmcore) as raw:
        for pfn in pfnset.each(direct & ~again):
            assert raw.page(pfn) == ZERO_PAGE, f"page {pfn:#x}"
    statistics = pydumpfile.dump(cores[name], tmp_path / "dump", 31)
    assert (statistics.lost, statistics.warnings) == (0, [])


@pytest.fixture(scope="module")
def of_qemus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An ELF core of level 31 of the one that QEMU wrote of `QEMU_GUEST` just before its panic."""
    path = tmp_path_factory.mktemp("qemu") / "elf"
    qemu_core = evidence_of("4 levels, 2 nodes", QEMU_GUEST).core.qemu_core
    assert qemu_core is not None
    statistics = ours(qemu_core, path, 31)
    assert (statistics.lost, statistics.warnings) == (0, [])
    yield path
    path.unlink()


@pytest.mark.lab
def test_of_qemus_core_every_page(of_qemus: Path) -> None:
    """All of the guest's memory, with the BIOS and the crash kernel's."""
    evidence = evidence_of("4 levels, 2 nodes", QEMU_GUEST)
    qemu_core = evidence.core.qemu_core
    assert qemu_core is not None
    kept = kept_by_pydumpfile(qemu_core, 31)
    with RawCore(qemu_core) as raw:
        pages = ElfCore.open(of_qemus).pages()
        in_core = raw.pfns
        pfnset.require_none(pfnset.from_pfns(pages) ^ in_core, "in one core only")
        for pfn, page in pages.items():
            assert page == expected_page(raw, kept, pfn), f"page {pfn:#x}"
    # What the guest itself said of its pages a moment before. Whether memory of a machine that
    # may have devices' is offline cannot be told if it was added later.
    kept &= ~evidence.offlined_block
    for flags in (Kpf.BUDDY, Kpf.LRU, Kpf.HUGE, Kpf.OFFLINE, Kpf.HWPOISON):
        wrong = kept & evidence.flags.having(flags)
        assert pfnset.count(wrong) <= MAX_CHANGED, f"{flags!r} kept: {pfnset.show(wrong)}"
    for flags in (Kpf.SLAB, Kpf.PGTABLE):
        wrong = in_core & evidence.flags.having(flags) & ~kept
        assert pfnset.count(wrong) <= MAX_CHANGED, f"{flags!r} not kept: {pfnset.show(wrong)}"


@pytest.mark.lab
def test_of_qemus_core_what_others_read(of_qemus: Path) -> None:
    evidence = evidence_of("4 levels, 2 nodes", QEMU_GUEST)
    qemu_core = evidence.core.qemu_core
    assert qemu_core is not None
    tasks, expected = (
        deadkernel.tasks(deadkernel.open_program(core, evidence.core.vmlinux()))
        for core in (of_qemus, qemu_core)
    )
    assert tasks == expected
    check_with_readelf(of_qemus)
