# SPDX-License-Identifier: GPL-2.0-or-later
"""Real kernels described by their vmlinux: the same dump without VMCOREINFO as with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.kernel.exports import describe
from tests.conftest import Command

from . import makedumpfile, pfnset, witness
from .conftest import Shelf
from .cores import Evidence, without_vmcoreinfo
from .dumpreader import DumpReader

pytestmark = pytest.mark.lab

_OF_ONE_BOOT = {
    "CRASHTIME", "KERNELOFFSET", "LENGTH(mem_section)", "NUMBER(KERNEL_IMAGE_SIZE)",
    "NUMBER(MAX_PHYSMEM_BITS)", "NUMBER(VMALLOC_START)", "NUMBER(phys_base)",
    "NUMBER(pgtable_l5_enabled)", "NUMBER(sme_mask)", "SYMBOL(mem_section)", "SYMBOL(vmemmap)",
}  # fmt: skip
# Names and numbers of the preprocessor, which neither DWARF nor the symbol table has.
_MACROS = {"NUMBER(SECTION_SIZE_BITS)", "SYMBOL(node_online_map)", "SYMBOL(swapper_pg_dir)"}


@pytest.fixture
def silent(small: Evidence, tmp_path: Path) -> Iterator[Path]:
    """The core without its VMCOREINFO."""
    path = tmp_path / "silent"
    without_vmcoreinfo(small.core.vmcore, path)
    yield path
    path.unlink()


def test_all_that_the_note_says_is_in_vmlinux(small: Evidence) -> None:
    with pydumpfile.open(small.core.vmcore, vmlinux=small.core.vmlinux()) as vmcore:
        assert vmcore.contradictions == []
        assert vmcore.facts is not None
        own = vmcore.facts
    said = describe(str(small.core.vmlinux())).moved(own.need("KERNELOFFSET"))
    exported = {key for key in own.lines if own.place(key).startswith("VMCOREINFO")}
    assert exported - set(said) <= _OF_ONE_BOOT | _MACROS
    both = (exported & set(said)) - _OF_ONE_BOOT
    assert {key: own.lines[key] for key in both} == {key: said[key] for key in both}
    assert len(both) > 80


@pytest.mark.parametrize("level", [1, 31])
def test_the_same_dump_without_vmcoreinfo(
    small: Evidence, silent: Path, shelf: Shelf, command: Command, tmp_path: Path, level: int
) -> None:
    vmlinux, file = small.core.vmlinux(), tmp_path / "vmcoreinfo"
    assert command("-g", file, "-x", vmlinux).returncode == 0
    expected = shelf.dump(small, level, "none")
    for option, given in (("-x", vmlinux), ("-i", file)):
        output = tmp_path / f"dump{option}"
        run = command("-d", level, option, given, silent, output)
        assert run.returncode == 0, run.stderr
        assert "warning" not in run.stderr
        check_same_pages(expected, output)
        output.unlink()


def check_same_pages(expected: Path, output: Path) -> None:
    with DumpReader(expected) as ours, DumpReader(output) as theirs:
        pfnset.require_none(ours.exists ^ theirs.exists, "in one 1st bitmap only")
        pfnset.require_none(ours.kept ^ theirs.kept, "in one 2nd bitmap only")
        assert theirs.release == ours.release
        for pfn in pfnset.each(ours.kept):
            assert ours.page(pfn) == theirs.page(pfn), f"page {pfn:#x}"


def test_the_log_without_vmcoreinfo(
    small: Evidence, silent: Path, command: Command, tmp_path: Path
) -> None:
    with_note, without = tmp_path / "with", tmp_path / "without"
    assert command("--dump-dmesg", small.core.vmcore, with_note).returncode == 0
    run = command("--dump-dmesg", "-x", small.core.vmlinux(), silent, without)
    assert run.returncode == 0, run.stderr
    assert with_note.read_bytes() == without.read_bytes() != b""


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_debugging_information(
    small: Evidence, tmp_path: Path, compression: str
) -> None:
    compressed = tmp_path / "vmlinux"
    subprocess.run(
        ["objcopy", f"--compress-debug-sections={compression}", small.core.vmlinux(), compressed],
        check=True,
    )
    assert describe(str(compressed)).lines == describe(str(small.core.vmlinux())).lines
    compressed.unlink()


def test_nothing_is_lost_by_what_makedumpfile_writes(
    small: Evidence, silent: Path, shelf: Shelf, command: Command, tmp_path: Path
) -> None:
    """Of Linux 6.12 it does not say what slab is, which then cannot be told from user data."""
    program, file, output = witness.program("makedumpfile"), tmp_path / "vmcoreinfo", tmp_path / "o"
    subprocess.run(
        [program, "-g", file, "-x", small.core.vmlinux()], check=True, capture_output=True,
        timeout=600,
    )  # fmt: skip
    run = command("-d", 31, "-i", file, silent, output)
    assert run.returncode == 0, run.stderr
    says_what_slab_is = "_slab)" in file.read_text("ascii")
    assert ("nothing tells slab from it" in run.stderr) == (not says_what_slab_is)
    with DumpReader(shelf.dump(small, 31, "none")) as ours, DumpReader(output) as theirs:
        pfnset.require_none(ours.kept & ~theirs.kept, "lost")
    output.unlink()


def test_makedumpfile_reads_what_g_writes(
    evidence_6_1: Evidence, command: Command, tmp_path: Path
) -> None:
    program = witness.program("makedumpfile")
    core, file = evidence_6_1.core, tmp_path / "vmcoreinfo"
    assert command("-g", file, "-x", core.vmlinux()).returncode == 0
    alone, described = tmp_path / "alone", tmp_path / "described"
    makedumpfile.dump(program, core.vmcore, 31, alone)
    run = subprocess.run(
        [program, "-d", "31", "-i", file, core.vmcore, described],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert alone.read_bytes() == described.read_bytes()
    alone.unlink()
    described.unlink()
