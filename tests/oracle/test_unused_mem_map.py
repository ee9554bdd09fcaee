# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps without the struct pages of pages left out (-e): what is missing, and who reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from drgn.helpers.linux.mm import follow_phys, pfn_to_page

import pydumpfile
from pydumpfile.filter.level import Kind

from . import deadkernel, kdumpfile, makedumpfile, pfnset, witness
from .conftest import Shelf, evidence_of
from .cores import Evidence
from .dumpreader import DumpReader
from .kdumpfile import KdumpfileError
from .test_other_machines import GUEST
from .test_readers import crash_output, lasting, open_kdumpfile

EXCLUDED_VMEMMAP = 0x10
PAGES_DESCRIBED = 64  # by one page of struct pages


@pytest.fixture(scope="session")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Dumps without unused struct pages, by core."""
    return {"": tmp_path_factory.mktemp("unused")}


def without(evidence: Evidence, dumps: dict[str, Path]) -> Path:
    """The dump of a core, written when first asked for."""
    name = evidence.core.directory.name
    if name not in dumps:
        path = dumps[""] / name
        statistics = pydumpfile.dump(
            evidence.core.vmcore, path, 31, "zlib", without_unused_mem_map=True
        )
        assert statistics.warnings == []
        assert statistics.left_out[Kind.UNUSED_MEM_MAP] > 0
        dumps[name] = path
    return dumps[name]


def unused_by_drgn(evidence: Evidence, exists: int, kept: int) -> Iterator[int]:
    """Pfns of the pages that describe nothing but pages left out, as the kernel maps them."""
    program = evidence.program
    group = (1 << PAGES_DESCRIBED) - 1
    for first_pfn in range(0, exists.bit_length(), PAGES_DESCRIBED):
        if exists >> first_pfn & group == group and not kept >> first_pfn & group:
            page = pfn_to_page(program, first_pfn)
            yield follow_phys(program["init_mm"].address_of_(), page).value_() >> 12


def test_exactly_what_drgn_finds_is_missing(
    small: Evidence, shelf: Shelf, dumps: dict[str, Path]
) -> None:
    with DumpReader(shelf.dump(small, 31, "zlib")) as whole:
        exists, kept = whole.exists, whole.kept
        pages = {pfn: descriptor.size for pfn, descriptor in whole.descriptors.items()}
    with DumpReader(without(small, dumps)) as dump:
        assert dump.exists == exists
        assert dump.status & EXCLUDED_VMEMMAP
        assert dump.kept & ~kept == 0
        missing = set(pfnset.each(kept & ~dump.kept))
        assert {pfn: descriptor.size for pfn, descriptor in dump.descriptors.items()} == {
            pfn: size for pfn, size in pages.items() if pfn not in missing
        }
    assert missing == set(unused_by_drgn(small, exists, kept))


def test_drgn_finds_all_tasks_and_the_stack_of_the_panic(
    small: Evidence, dumps: dict[str, Path]
) -> None:
    program = deadkernel.open_program(without(small, dumps), small.core.vmlinux())
    assert deadkernel.tasks(program) == deadkernel.tasks(small.program)
    assert deadkernel.crash_stack(program) == deadkernel.crash_stack(small.program)
    processes = [[t.pid, t.comm] for t in deadkernel.tasks(program) if t.pid == t.tgid]
    assert lasting(processes) == lasting(small.core.truth["tasks"])


def test_drgn_reads_the_struct_page_of_every_kept_page(
    small: Evidence, dumps: dict[str, Path]
) -> None:
    path = without(small, dumps)
    program = deadkernel.open_program(path, small.core.vmlinux())
    struct_size = small.program.type("struct page").size
    start = pfn_to_page(program, 0).value_()
    online: dict[int, bool] = {}
    with DumpReader(path) as dump:
        for pfn in pfnset.each(dump.kept):
            section = pfn >> 15
            if section not in online:
                online[section] = deadkernel.is_online(small.program, pfn)
            if online[section]:
                vaddr = start + pfn * struct_size
                assert program.read(vaddr, struct_size) == small.program.read(vaddr, struct_size)
    assert sum(online.values()) >= 2


def test_libkdumpfile_reads_what_is_there_and_refuses_the_rest(
    small: Evidence, shelf: Shelf, dumps: dict[str, Path]
) -> None:
    with DumpReader(shelf.dump(small, 31, "zlib")) as whole:
        kept = whole.kept
    path = without(small, dumps)
    with DumpReader(path) as plain, open_kdumpfile(path) as dump:
        for pfn, page in plain.pages():
            assert dump.page(pfn) == page
        for pfn in pfnset.each(kept & ~plain.kept):
            with pytest.raises(KdumpfileError) as refusal:
                dump.page(pfn)
            assert refusal.value.status == kdumpfile.NO_DATA


def test_crash_opens_it_and_knows(crashable: Evidence, dumps: dict[str, Path]) -> None:
    commands = dumps[""] / "commands"
    commands.write_text("sys\nlog\nbt\nkmem -i\nkmem -s\nquit\n", "utf-8")
    said = crash_output(crashable, without(crashable, dumps), commands)
    assert re.search(r"^ +DUMPFILE: .*\[PARTIAL DUMP\] +\[EXCLUDED VMEMMAP\]$", said, re.M)
    assert re.search(r"^\[ +\d+\.\d+\] sysrq: Trigger a crash$", said, re.M)
    assert re.search(r"^ *#\d+ \[[0-9a-f]+\] panic at", said, re.M)
    memory = dict(re.findall(r"^ +([A-Z ]+?) +(\d+) +[\d.]+ [KMG]B", said, re.M))
    assert int(memory["FREE"]) > 0 and int(memory["SLAB"]) > 0
    assert re.search(r"^[0-9a-f]{16} +\d+ .* kmalloc-64$", said, re.M)


@pytest.mark.lab
def test_a_witness_leaves_out_the_same(tmp_path: Path) -> None:
    """makedumpfile 1.7.2 knows vmemmap of 4-level page tables alone."""
    program = witness.program("makedumpfile")
    evidence = evidence_of("4 levels, 2 nodes", GUEST)
    theirs = []
    for options in ([], ["-e", "--work-dir", str(tmp_path)]):
        makedumpfile.dump(program, evidence.core.vmcore, 31, tmp_path / "dump", *options)
        with DumpReader(tmp_path / "dump") as dump:
            theirs.append(dump.kept)
            exists = dump.exists
    without_them = theirs[0] & ~theirs[1]
    ours = pfnset.from_pfns(unused_by_drgn(evidence, exists, theirs[0])) & theirs[0]
    pfnset.require_none(without_them & ~ours, "left out by makedumpfile, and needed")
    assert pfnset.count(ours & ~without_them) <= pfnset.count(ours) // 100
