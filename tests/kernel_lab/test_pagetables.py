# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge itself: it must see holes, writable pages, unequal hashes, and missed gates."""

from __future__ import annotations

import pytest

from tests.lab.errors import LabError

from .guest import Boot, Console
from .matrix import Case, judge
from .measure import BLOCKS_KIB, Table, read_table
from .pagetables import (
    Mapping,
    Range,
    direct_ranges,
    faults,
    module_addresses,
    oldmem_ranges,
    parse_direct_map,
)
from .verdicts import low_memory_errors, paged_errors, tables_within_budget

OFFSET, END = 0xFFFF888000000000, 0xFFFFC88000000000
DUMP = """---[ Low Kernel Mapping ]---
0xffff888000000000-0xffff888000100000           1M     RW                 GLB NX pte
0xffff888000100000-0xffff888000200000           1M     ro                 GLB NX pte
0xffff888000200000-0xffff888025000000         590M     ro         PSE     GLB NX pmd
0xffff888025000000-0xffff888025001000           4K                               pte
0xffff888025001000-0xffff888025002000           4K     ro                 GLB x  pte
---[ vmalloc() Area ]---
0xffffc88000000000-0xffffc88000001000           4K     RW                 GLB NX pte
"""
DMESG = """[    0.0] BIOS-e820: [mem 0x0000000025000000-0x0000000025000fff] usable
[    0.4] vmcore: [oldmem 0x0000000000100000-0x0000000024ffffff]
[    0.4] vmcore:  [oldmem 0x0000000000100000-0x00000000001fffff] page 4k
[    0.4] vmcore:  [oldmem 0x0000000000200000-0x0000000024ffffff] page 2M
[    0.4] vmcore:  4 KiB of page tables, 960 us
[    0.4] vmcore: [oldmem 0x0000000000100000-0x0000000020ffffff] in the direct mapping
[    0.5] vmcore: [oldmem 0x0000000000100000-0x0000000024ffffff] in the direct mapping
[    0.6] oldmem_lab: PAGE_OFFSET=0xffff888000000000 VMALLOC_START=0xffffc88000000000
"""
MIB = 1 << 20


def test_the_dump_is_read() -> None:
    assert module_addresses(DMESG) == (OFFSET, END)
    assert parse_direct_map(DUMP, OFFSET, END) == [
        Mapping(0, MIB, writable=True, executable=False, page="4k"),
        Mapping(MIB, 2 * MIB, writable=False, executable=False, page="4k"),
        Mapping(2 * MIB, 0x25000000, writable=False, executable=False, page="2M"),
        Mapping(0x25001000, 0x25002000, writable=False, executable=True, page="4k"),
    ]


def test_messages_are_read() -> None:
    whole = Range(MIB, 0x25000000)
    assert oldmem_ranges(DMESG) == [whole]
    assert direct_ranges(DMESG) == [whole]  # the last word


@pytest.mark.parametrize(
    ("wanted", "own", "fault"),
    [
        (Range(MIB, 0x25000000), [], None),
        (Range(0x1000, 0x25000000), [], None),  # writable only below 1 MiB
        (Range(MIB, 0x25001000), [], "hole at 0x25000000"),
        (Range(0x30000000, 0x30001000), [], "hole at 0x30000000"),
        (Range(0x25001000, 0x25002000), [], "is executable"),
    ],
)
def test_faults_are_seen(wanted: Range, own: list[Range], fault: str | None) -> None:
    found = faults([wanted], parse_direct_map(DUMP, OFFSET, END), own)
    assert (not found) if fault is None else (len(found) == 1 and fault in found[0])


def test_writable_is_for_own_memory_only() -> None:
    writable = [Mapping(8 * MIB, 10 * MIB, writable=True, executable=False, page="2M")]
    wanted = [Range(8 * MIB, 9 * MIB)]
    assert faults(wanted, writable, []) == ["[0x800000-0x900000) is writable"]
    assert faults(wanted, writable, [Range(8 * MIB, 12 * MIB)]) == []


def console(*digests: str) -> Console:
    sections = [f"LAB-BEGIN dmesg-end\n{DMESG}LAB-END dmesg-end\n"]
    sections.append("LAB-BEGIN headers\nLAB-LOAD 0x1000 0x9ec00\nLAB-END headers\n")
    for i, digest in enumerate(digests):
        text = f"LAB-HASH {digest} read 4096 1000\n"
        sections.append(f"LAB-BEGIN hash-{i}\n{text}LAB-END hash-{i}\n")
    return Console("".join(sections))


def test_unequal_hashes_are_errors() -> None:
    case = Case("any", Boot("", cpu="qemu64", crash_parameters="nokaslr"), lambda _: [])
    assert judge(case, console("aa", "aa", "aa")).errors == []
    assert judge(case, console("aa", "aa", "bb")).errors == [
        "hash-2 is bb of 1000 bytes, but hash-0 is aa of 1000 bytes"
    ]
    assert judge(case, console("aa", "aa")).errors == ["only 2 hashes were made"]
    with pytest.raises(LabError, match="printed no nothing"):
        console().section("nothing")


@pytest.mark.parametrize(
    ("boot", "error"),
    [
        (Boot("", cpu="max", crash_parameters="nokaslr"), "is not that of 5 levels"),
        (Boot("", cpu="max,-la57"), "KASLR is off"),
    ],
)
def test_a_machine_that_is_another_is_an_error(boot: Boot, error: str) -> None:
    errors = judge(Case("any", boot, lambda _: []), console("aa", "aa", "aa")).errors
    assert len(errors) == 1 and error in errors[0]


@pytest.mark.parametrize(
    ("kexec_file", "loads", "right"),
    [
        (False, "LAB-LOAD 0x100000 0x1000\nLAB-LOAD 0x1000 0x9ec00\n", True),
        (False, "LAB-LOAD 0x1000 0x9e000\n", False),
        (False, "LAB-LOAD 0x100000 0x1c00\n", False),
        (True, "LAB-LOAD 0x100000 0x1000\n", True),
        (True, "LAB-LOAD 0x1000 0x9ec00\n", False),
    ],
)
def test_low_memory(kexec_file: bool, loads: str, right: bool) -> None:
    text = f"LAB-BEGIN headers\n{loads}LAB-END headers\n"
    assert (low_memory_errors(Boot("", kexec_file=kexec_file), Console(text)) == []) == right


@pytest.mark.parametrize(
    ("ioremap", "direct", "right"), [(16, 0, True), (16, 16, False), (0, 0, False), (16, 1, False)]
)
def test_a_mapping_that_is_not_used_is_an_error(ioremap: int, direct: int, right: bool) -> None:
    text = "".join(
        f"LAB-BEGIN paged-{way}\n{n_pages}\nLAB-END paged-{way}\n"
        for way, n_pages in (("ioremap", ioremap), ("direct", direct))
    )
    assert (paged_errors(Console(text)) == []) == right


def table(direct: float) -> Table:
    return Table(
        "6.1",
        True,
        dict.fromkeys(BLOCKS_KIB, 800.0),
        dict.fromkeys(BLOCKS_KIB, direct),
        kernel_copy=4000.0,
        user_copy=8000.0,
        spread=0.0,
    )


def test_gates() -> None:
    assert table(7700.0).gate_errors() == []
    assert table(7300.0).gate_errors() == [
        f"{kib} KiB: 0.912 of the ceiling, wanted 0.93" for kib in (1024, 2048, 4096)
    ]
    assert "4 KiB: 3.00x, wanted 3.5x" in table(2400.0).gate_errors()


def test_medians_of_what_dd_says() -> None:
    lines = [
        f"LAB-DD {name} {kib} 1000000 bytes (1.0 MB, 977 KiB) copied, {seconds} s, 1 GB/s"
        for name, times in (("ioremap", (0.01, 0.02, 0.5)), ("direct", (0.001, 0.002, 0.05)))
        for kib in BLOCKS_KIB
        for seconds in times
    ]
    lines += ["LAB-BEGIN ceilings", "oldmem_lab: memcpy 64 MiB 67108864 ns", "LAB-END ceilings"]
    lines += ["LAB-USER-COPY 64 MiB 67108864 ns", ""]
    found = read_table(Console("\n".join(lines)), "6.1", icount=False)
    assert found.ioremap == dict.fromkeys(BLOCKS_KIB, 50.0)
    assert found.ratio(4) == pytest.approx(10.0)
    assert found.kernel_copy == pytest.approx(1000.0)


_REFUSED = "[    0.4] vmcore:  [oldmem 0x0-0x0] may take 1028 KiB of page tables, 12 KiB are left\n"


@pytest.mark.parametrize(
    ("free_kib", "said", "again", "error"),
    [
        (8 * 500, _REFUSED, "", None),
        (8 * 400, _REFUSED, "", "limit 400"),
        (8 * 500, "", "", "not said once"),
        (8 * 500, _REFUSED, _REFUSED, "not said once"),
        (8 * 500, _REFUSED, "[    0.9] vmcore:  0 KiB of page tables, 9 us\n", "repeats itself"),
    ],
)
def test_budget_verdict(free_kib: int, said: str, again: str, error: str | None) -> None:
    """224 MiB by pages of 4 KiB take 112 tables, 448 KiB."""
    start = (
        f"[    0.1] Memory: {free_kib}K/65536K available (1K kernel code)\n"
        "[    0.4] vmcore: [oldmem 0x0000000000100000-0x0000000024ffffff]\n" + said + "[    0.4] "
        "vmcore:  [oldmem 0x0000000000100000-0x000000000e0fffff] page 4k\n"
        "[    0.4] vmcore:  456 KiB of page tables, 960 us\n"
        "[    0.4] vmcore: [oldmem 0x0000000000100000-0x000000000e0fffff] in the direct mapping\n"
        f"[    0.6] oldmem_lab: PAGE_OFFSET={OFFSET:#x} VMALLOC_START={END:#x}\n"
    )
    dump = "0xffff888000100000-0xffff88800e100000  224M  ro  GLB NX pte\n"
    sections = {"dmesg-start": start, "dmesg-end": start + again, "tables-end": dump}
    text = "".join(f"LAB-BEGIN {name}\n{of}LAB-END {name}\n" for name, of in sections.items())
    errors = tables_within_budget(Console(text))
    assert errors == [] if error is None else any(error in one for one in errors)
