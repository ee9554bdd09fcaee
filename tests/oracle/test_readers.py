# SPDX-License-Identifier: GPL-2.0-or-later
"""Other readers open the dumps and find in them what the cores had: pages, tasks, stacks, log."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.decompress import CODEC_FLAGS

from . import deadkernel, dumpreader, kdumpfile, pfnset, witness
from .conftest import Shelf, evidence_of
from .cores import SMALL, Evidence, kept_by_pydumpfile
from .dumpreader import DumpReader
from .kdumpfile import KdumpFile, KdumpfileError
from .rawcore import RawCore

ZERO_PAGE = bytes(4096)


def open_kdumpfile(path: Path) -> KdumpFile:
    try:
        return KdumpFile(path)
    except OSError as error:
        witness.missing(f"apt-get install {kdumpfile.PACKAGE}: {error}")


def check_with_plain_parser(evidence: Evidence, path: Path, level: int, compression: str) -> None:
    """Headers, bitmaps, zero sharing and every byte of every kept page."""
    with RawCore(evidence.core.vmcore) as raw, DumpReader(path) as dump:
        assert (dump.status, dump.level) == (CODEC_FLAGS[compression], level)
        assert dump.release == evidence.core.kernel.release
        assert dump.layout.max_mapnr == raw.pfns.bit_length()
        pfnset.require_none(dump.exists ^ raw.pfns, "in the 1st bitmap or in the core only")
        computed = kept_by_pydumpfile(evidence.core.vmcore, level)
        pfnset.require_none(dump.kept ^ computed, "in the 2nd bitmap or computed only")
        zero = dumpreader.Descriptor(dump.data_off, 4096, 0)
        next_off = dump.data_off + (4096 if level & 1 else 0)
        for pfn, page in dump.pages():
            assert page == raw.page(pfn), f"page {pfn:#x}"
            descriptor = dump.descriptors[pfn]
            if level & 1 and page == ZERO_PAGE:
                assert descriptor == zero, f"page {pfn:#x}"
            else:
                assert descriptor.off == next_off, f"page {pfn:#x}"
                next_off += descriptor.size
        assert path.stat().st_size == next_off


@pytest.mark.parametrize(
    ("level", "compression"),
    [(0, "zstd"), (1, "none"), (1, "lzo"), *((31, name) for name in CODEC_FLAGS)],
)
def test_plain_parser_finds_the_cores_bytes_in_every_page(
    small: Evidence, shelf: Shelf, level: int, compression: str
) -> None:
    path = shelf.dump(small, level, compression)
    check_with_plain_parser(small, path, level, compression)
    if level != 31:
        path.unlink()  # large, and nobody else's


def test_plain_parser_finds_the_bytes_of_full_cores(full: Evidence, shelf: Shelf) -> None:
    check_with_plain_parser(full, shelf.dump(full), 31, "zstd")


@pytest.mark.parametrize("level", [2, 4, 8, 16, 30])
def test_other_levels_write_the_bitmap_they_compute(
    small: Evidence, shelf: Shelf, level: int
) -> None:
    path = shelf.dump(small, level)
    check_with_plain_parser(small, path, level, "zstd")
    path.unlink()


def check_with_libkdumpfile(evidence: Evidence, path: Path, refusals: int) -> None:
    """Every kept page by its bytes; pages left out by their refusal, about `refusals` of them."""
    vmcore = evidence.core.vmcore
    with RawCore(vmcore) as raw, DumpReader(path) as plain, open_kdumpfile(path) as dump:
        assert dump.text("linux.uts.release") == evidence.core.kernel.release
        for pfn in plain.descriptors:
            assert dump.page(pfn) == raw.page(pfn), f"page {pfn:#x}"
        left_out = list(pfnset.each(plain.exists & ~plain.kept))
        assert left_out
        for pfn in left_out[:: max(len(left_out) // refusals, 1)]:
            with pytest.raises(KdumpfileError) as refusal:
                dump.page(pfn)
            assert refusal.value.status == kdumpfile.NO_DATA, f"page {pfn:#x}"
        hole = next(pfnset.each(~plain.exists & (1 << plain.layout.max_mapnr) - 1))
        with pytest.raises(KdumpfileError):
            dump.page(hole)


@pytest.mark.parametrize("compression", CODEC_FLAGS)
def test_libkdumpfile_reads_every_kept_page_and_refuses_the_rest(
    small: Evidence, shelf: Shelf, compression: str
) -> None:
    check_with_libkdumpfile(small, shelf.dump(small, 31, compression), refusals=1 << 20)


def test_libkdumpfile_reads_full_dumps(full: Evidence, shelf: Shelf) -> None:
    check_with_libkdumpfile(full, shelf.dump(full), refusals=10_000)


def lasting(tasks: list[list[object]]) -> list[list[object]]:
    """Without the kernel threads that may end or begin between the guest's list and the panic."""
    return [task for task in tasks if not str(task[1]).startswith(("kworker/", "ext4lazyinit"))]


def test_drgn_finds_all_tasks_and_the_stack_of_the_panic(evidence: Evidence, shelf: Shelf) -> None:
    program = deadkernel.open_program(shelf.dump(evidence), evidence.core.vmlinux())
    truth = evidence.core.truth

    tasks = deadkernel.tasks(program)
    assert tasks == deadkernel.tasks(evidence.program)
    processes = [[task.pid, task.comm] for task in tasks if task.pid == task.tgid]
    assert lasting(processes) == lasting(truth["tasks"])
    assert any(task.comm == "lab-thread-b" for task in tasks)

    crashed = program.crashed_thread()
    assert crashed.tid == truth["panic_pid"]
    stack = deadkernel.crash_stack(program)
    assert stack == deadkernel.crash_stack(evidence.program)
    innermost = stack[: stack.index("vfs_write")]
    assert innermost[innermost.index("panic") :][:4] == [
        "panic",
        "sysrq_handle_crash",
        "__handle_sysrq",
        "write_sysrq_trigger",
    ]


@pytest.mark.parametrize("compression", CODEC_FLAGS)
def test_drgn_reads_every_encoding(small: Evidence, shelf: Shelf, compression: str) -> None:
    program = deadkernel.open_program(shelf.dump(small, 31, compression), small.core.vmlinux())
    assert deadkernel.tasks(program) == deadkernel.tasks(small.program)


def crash_output(evidence: Evidence, dump: Path, commands: Path, *more_parts: Path) -> str:
    """What the crash utility prints for the ``commands`` in a file."""
    crash, dumps = witness.program("crash"), (dump, *more_parts)
    run = subprocess.run(
        [crash, "-s", "-i", str(commands), str(evidence.core.vmlinux()), *map(str, dumps)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout


@pytest.fixture
def crash_says(crashable: Evidence, shelf: Shelf, tmp_path: Path) -> str:
    """What crash says of a level 31 dump."""
    commands = tmp_path / "commands"
    commands.write_text("sys\nlog\nbt\nkmem -i\nquit\n", "utf-8")
    return crash_output(crashable, shelf.dump(crashable, 31, "zlib"), commands)


@pytest.mark.lab
@pytest.mark.parametrize("compression", CODEC_FLAGS)
def test_crash_reads_every_encoding(shelf: Shelf, tmp_path: Path, compression: str) -> None:
    """crash 8.0.2 of Debian 12 has them all built in."""
    evidence = evidence_of("6.1 small", SMALL["6.1 small"])
    commands = tmp_path / "commands"
    commands.write_text("sys\nlog\nquit\n", "utf-8")
    said = crash_output(evidence, shelf.dump(evidence, 31, compression), commands)
    assert re.search(rf"^ +RELEASE: {re.escape(evidence.core.kernel.release)}$", said, re.M)
    assert re.search(r"^\[ +\d+\.\d+\] sysrq: Trigger a crash$", said, re.M)


def test_crash_shows_system_log_stack_and_memory(crashable: Evidence, crash_says: str) -> None:
    truth, release = crashable.core.truth, crashable.core.kernel.release
    assert re.search(rf"^ +RELEASE: {re.escape(release)}$", crash_says, re.M)
    assert re.search(r"^ +PANIC: \"Kernel panic - not syncing: sysrq", crash_says, re.M)
    assert re.search(r"^ +DUMPFILE: .*\[PARTIAL DUMP\]$", crash_says, re.M)
    # log: from the first line the kernel printed to the last
    assert f"[    0.000000] Linux version {release} " in crash_says
    assert re.search(r"^\[ +\d+\.\d+\] sysrq: Trigger a crash$", crash_says, re.M)
    # bt
    pid, comm = truth["panic_pid"], truth["panic_comm"]
    assert re.search(rf'^PID: {pid} .* COMMAND: "{comm}"$', crash_says, re.M)
    assert re.search(
        r"^ #\d+ \[\w+\] panic at .*\n #\d+ \[\w+\] sysrq_handle_crash", crash_says, re.M
    )
    # kmem -i counts the free and the slab pages although the dump has neither the free nor all
    memory = dict(re.findall(r"^ +([A-Z ]+?) +(\d+) +[\d.]+ [KMG]B", crash_says, re.M))
    assert {"TOTAL MEM", "FREE", "CACHED", "SLAB"} <= set(memory)
    assert int(memory["SLAB"]) > 0
