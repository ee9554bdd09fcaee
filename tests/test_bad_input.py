# SPDX-License-Identifier: GPL-2.0-or-later
"""Wrong input: always an error of ours, in one line, and no dump that claims to be whole."""

from __future__ import annotations

import gzip
import os
import re
import signal
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Callable

import pytest

import pydumpfile
from pydumpfile.errors import (
    FaultError,
    FormatError,
    InputError,
    MissingFactError,
    PydumpfileError,
    TruncatedError,
    UnsupportedError,
)
from tests.builders import BuiltCore, CoreSpec
from tests.builders.elfcore import note
from tests.conftest import MIB, SMALL, Command, CoreMaker, Describer
from tests.sources.rawelf import PT_NOTE, Segment, describe, poke, raw_elf

TINY = CoreSpec(memory_size=24 * MIB, filled=0.0)
PAGE = 4096


def check_refused(
    command: Command, core: Path, target: Path, exit_code: int, *options: object
) -> str:
    """One line that names the program, the right status, nothing on the disk; the line."""
    done = command(*options, core, target)
    assert "Traceback" not in done.stderr
    assert done.returncode == exit_code, done.stderr
    assert done.stderr.startswith("pydumpfile: ") and done.stderr.count("\n") == 1
    assert done.stdout == "" or exit_code not in (3, 4, 5, 12)
    assert not target.exists()
    return done.stderr


class TestWhatIsNoCore:
    """Files of other kinds."""

    @pytest.mark.parametrize(
        ("content", "exit_code", "says"),
        [
            (b"", 3, "empty file"),
            (b"just text, no core\n", 3, "an ELF vmcore"),
            (b"\x7fEL", 3, "an ELF vmcore"),
            (b"\x7fELF", 4, "ELF identification"),
            (b"\x7fELF\x02\x01\x01" + bytes(20), 4, "ELF header"),
            (b"KDUMP   " + bytes(5000), 3, "kdump header"),
            (b"KDUMP   ", 4, "header"),
            (b"DISKDUMP" + bytes(5000), 5, "diskdump"),
            (b"makedumpfile\0\0\0\0" + bytes(5000), 5, "flattened"),
            (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 1, 1), 4, "flattened header"),
            (b"sadump\0\0" + bytes(5000), 5, "sadump"),
            (bytes(4096) + b"sadump\0\0" + bytes(5000), 5, "sadump"),
            (bytes.fromhex("ed238f61730119a8") + bytes(5000), 5, "LKCD"),
            (b"QEVM" + bytes(5000), 5, "dump-guest-memory"),
            (gzip.compress(bytes(5000)), 5, "gzip"),
            (b"\x7fELF\x01\x01\x01" + bytes(60), 5, "32-bit"),
            (b"\x7fELF\x02\x02\x01" + bytes(60), 5, "big-endian"),
            (b"\x7fELF\x07\x01\x01" + bytes(60), 5, "32-bit"),
        ],
    )
    def test_content(
        self, command: Command, tmp_path: Path, content: bytes, exit_code: int, says: str
    ) -> None:
        (tmp_path / "core").write_bytes(content)
        line = check_refused(command, tmp_path / "core", tmp_path / "dump", exit_code)
        assert says in line and str(tmp_path / "core") in line

    @pytest.mark.parametrize(
        ("path", "exit_code"),
        [("none", 12), (".", 12), ("/dev/null", 3), ("none/none", 12), ("", 12), ("/", 12)],
    )
    def test_place(self, command: Command, tmp_path: Path, path: str, exit_code: int) -> None:
        place = tmp_path / path if path and not path.startswith("/") else path
        check_refused(command, place, tmp_path / "dump", exit_code)  # type: ignore[arg-type]

    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        (tmp_path / "core").write_bytes(b"\x7fELF")
        (tmp_path / "core").chmod(0)
        with pytest.raises(InputError, match="Permission denied"):
            pydumpfile.open(tmp_path / "core")

    @pytest.mark.parametrize("machine", [3, 8, 21, 22, 40, 183, 243, 258, 9999])
    def test_other_machines(self, tmp_path: Path, machine: int) -> None:
        path = tmp_path / "core"
        path.write_bytes(raw_elf([Segment(bytes(PAGE))], machine=machine))
        with pytest.raises(UnsupportedError, match="x86_64") as caught:
            pydumpfile.open(path)
        names = {183: "aarch64", 22: "s390x", 9999: "machine 9999"}
        assert names.get(machine, "") in str(caught.value)

    @pytest.mark.parametrize(
        "wrong",
        [{"e_type": 2}, {"e_type": 0}, {"phentsize": 32}, {"phentsize": 0}, {"phnum": 0}],
    )
    def test_elf_that_is_no_core(self, tmp_path: Path, wrong: Mapping[str, int]) -> None:
        path = tmp_path / "core"
        path.write_bytes(raw_elf([Segment(bytes(PAGE))], **wrong))  # type: ignore[arg-type]
        with pytest.raises(FormatError):
            pydumpfile.open(path)

    def test_the_interpreter_itself(self, command: Command, tmp_path: Path) -> None:
        check_refused(command, Path(sys.executable), tmp_path / "dump", 3)


class TestCutShort:
    """A core that ends in its headers or notes; of what ends later, see test_cut_core.py."""

    def test_at_every_byte_of_the_headers(self, core_of: CoreMaker, tmp_path: Path) -> None:
        built = core_of(TINY)
        with built.path.open("rb") as core:
            head = core.read(64 + 56 * (1 + len(built.loads)) + 4)
        for size in range(len(head)):
            (tmp_path / "core").write_bytes(head[:size])
            kind = FormatError if size < 4 else TruncatedError
            with pytest.raises(kind) as caught:
                pydumpfile.open(tmp_path / "core")
            assert caught.value.path == str(tmp_path / "core")
            if size >= 4:
                assert caught.value.off <= size + 4 or "PT_LOAD" in str(caught.value)

    @pytest.mark.parametrize("left", [30, 100, 300])
    def test_by_command(
        self, command: Command, scratch_core: Path, tmp_path: Path, left: int
    ) -> None:
        os.truncate(scratch_core, left)
        line = check_refused(command, scratch_core, tmp_path / "dump", 4, "-d", 31)
        assert "expected" in line and "found" in line


class TestNoDescription:
    """A core without VMCOREINFO: QEMU's, when the guest gave none."""

    def test_levels(self, command: Command, core_of: CoreMaker, tmp_path: Path) -> None:
        built = core_of(replace(SMALL, note=False))
        for level in (0, 1):
            done = command("-d", level, built.path, tmp_path / f"dump{level}")
            assert done.returncode == 0
        for level in (2, 4, 8, 16, 31):
            target = tmp_path / f"dump{level}"
            line = check_refused(command, built.path, target, 6, "-d", level)
            assert "VMCOREINFO" in line

    @pytest.mark.parametrize(
        "key",
        ["SIZE(page)", "OFFSET(page.flags)", "OFFSET(page.mapping)", "OFFSET(page._refcount)",
         "SYMBOL(mem_section)", "SIZE(mem_section)", "OFFSET(mem_section.section_mem_map)",
         "SYMBOL(init_top_pgt)"],
    )  # fmt: skip
    def test_a_line_is_missing(self, described: Describer, tmp_path: Path, key: str) -> None:
        path = described({key: None})
        with pytest.raises(MissingFactError) as caught:
            pydumpfile.dump(path, tmp_path / "dump", 31)
        assert key in str(caught.value) or "page._count" in str(caught.value)
        assert caught.value.exit_code == 6
        assert not (tmp_path / "dump").exists()
        statistics = pydumpfile.dump(path, tmp_path / "dump", 1)
        assert any("no page was judged" in warning for warning in statistics.warnings)


class TestAbsurdSizes:
    """Numbers that would take all memory or time, if they were believed."""

    @pytest.mark.parametrize(
        "segment",
        [
            Segment(bytes(PAGE), 0, 1 << 60),
            Segment(bytes(PAGE), 0, (1 << 64) - 1),
            Segment(bytes(PAGE), 1 << 63, PAGE),
            Segment(bytes(PAGE), filesz=1 << 62, memsz=1 << 62),
            Segment(bytes(PAGE), offset=1 << 63),
            Segment(bytes(PAGE), memsz=100),
            Segment(struct.pack("<III", 0xFFFFFFF0, 4, 0), kind=PT_NOTE),
            Segment(struct.pack("<III", 4, 0xFFFFFFF0, 0), kind=PT_NOTE),
            Segment(struct.pack("<III", 4, 4, 0), kind=PT_NOTE),
            Segment(b"", kind=PT_NOTE, filesz=1 << 40, memsz=1 << 40),
            Segment(b"", kind=PT_NOTE, filesz=(1 << 64) - 1),
            Segment(b"", kind=PT_NOTE, filesz=100, offset=(1 << 64) - 50),
        ],
    )
    def test_segments(self, command: Command, tmp_path: Path, segment: Segment) -> None:
        path = tmp_path / "core"
        path.write_bytes(raw_elf([segment, Segment(bytes(PAGE), 1 << 20)]))
        with pytest.raises(FormatError) as caught:
            pydumpfile.open(path)
        check_refused(command, path, tmp_path / "dump", caught.value.exit_code)

    @pytest.mark.parametrize(
        "wrong",
        [{"phnum": 60000}, {"phoff": 1 << 60}, {"phoff": (1 << 64) - 1},
         {"extended": True, "sh_info": 0xFFFFFFFF}, {"extended": True, "sh_info": 1 << 20}],
    )  # fmt: skip
    def test_headers(self, tmp_path: Path, wrong: Mapping[str, int]) -> None:
        path = tmp_path / "core"
        path.write_bytes(raw_elf([Segment(bytes(PAGE))], **wrong))  # type: ignore[arg-type]
        with pytest.raises(FormatError):
            pydumpfile.open(path)

    def test_notes_of_nothing_but_headers(self, tmp_path: Path) -> None:
        """A megabyte of the smallest notes there are."""
        path = tmp_path / "core"
        notes = note("", 0, b"") * (MIB // 16)
        path.write_bytes(raw_elf([Segment(notes, kind=PT_NOTE), Segment(bytes(PAGE))]))
        with pydumpfile.open(path) as vmcore:
            assert vmcore.facts is None

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("LENGTH(zone.free_area)", 1000),
            ("SIZE(page)", 7),
            ("SIZE(page)", 0),
            ("SIZE(page)", 1 << 50),
            ("SIZE(mem_section)", 0),
            ("NUMBER(SECTION_SIZE_BITS)", 1),
            ("NUMBER(SECTION_SIZE_BITS)", 1000),
            ("NUMBER(MAX_PHYSMEM_BITS)", 1 << 30),
            ("PAGESIZE", 8192),
            ("OFFSET(page.flags)", 1 << 31),
            ("NUMBER(PG_lru)", 64),
            ("CRASHTIME", 1 << 64),
        ],
    )
    def test_descriptions(
        self, command: Command, described: Describer, tmp_path: Path, key: str, value: int
    ) -> None:
        path = described({key: value})
        done = command("-d", 31, path, tmp_path / "dump")
        assert done.returncode == 3, done.stderr
        assert done.stderr.count("\n") == 1 and key.partition("(")[0] in done.stderr
        assert not (tmp_path / "dump").exists()


NASTY = (
    "-1", "0", "1", "2", "3", "7", "-8", "62", "63", "64", "1000", "4095", "4096", "1000000",
    "2147483647", "4294967295", "4294967296", "9223372036854775807", "-9223372036854775808",
    "18446744073709551615", "36893488147419103232", "", "x", "0x10", "f" * 16, "f" * 20, "9" * 40,
    "9" * 5000, " 64", "6_4",
)  # fmt: skip


def _cases(built: BuiltCore, rng: Random, each: int) -> Iterator[tuple[str, str]]:
    for key in built.keys:
        for value in rng.sample(NASTY, each):
            yield key, value


@pytest.mark.parametrize(
    "spec",
    [
        replace(TINY, layout="6.16"),
        replace(TINY, layout="6.4", freelists=True),
        replace(TINY, layout="6.6", model="flatmem", vmemmap=False),
        replace(TINY, layout="5.15", model="classic", memory_size=32 * MIB, freelists=True),
    ],
    ids=lambda spec: f"{spec.layout} {spec.model}",
)
def test_any_value_of_any_key(core_of: CoreMaker, tmp_path: Path, spec: CoreSpec) -> None:
    """In a process of its own: a crash there would be one of the interpreter."""
    built = core_of(spec)
    path = tmp_path / "core"
    cases = list(_cases(built, Random(spec.layout), 6))
    path.write_bytes(built.path.read_bytes())

    def prepare(key: str, value: str) -> None:
        describe(path, {**built.keys, key: value})

    ends = survive(path, cases, prepare)
    assert ends["complete"] > 50 and ends["FormatError"] > 50, ends


def test_bits_flip(core_of: CoreMaker, tmp_path: Path) -> None:
    """In headers, notes, page tables, section tables, zones, the names, and struct pages."""
    built = core_of(replace(TINY, freelists=True, layout="6.1"))
    path = tmp_path / "core"
    whole = built.path.read_bytes()
    path.write_bytes(whole)
    rng = Random(11)
    image = next(load for load in built.loads if load.vaddr >= 0xFFFFFFFF80000000)
    in_headers = [(at, bit) for at in range(64 + 56 * 3) for bit in range(8)]
    notes_off = int.from_bytes(whole[72:80], "little")
    notes_end = notes_off + int.from_bytes(whole[96:104], "little")
    kernel_data = [
        paddr for paddr in range(image.paddr, image.paddr + 6 * MIB, 8)
        if paddr < built.spec.memory_size and any(whole[_off(whole, paddr)][:8])
    ]  # fmt: skip
    cases: list[tuple[int, int]] = rng.sample(in_headers, 100)
    cases += [(rng.randrange(notes_off, notes_end), rng.randrange(8)) for _ in range(100)]
    cases += [
        (_off(whole, rng.choice(kernel_data)).start + rng.randrange(8), rng.randrange(8))
        for _ in range(200)
    ]

    flipped: list[tuple[int, bytes]] = []

    def prepare(at: int, bit: int) -> None:
        with path.open("r+b") as core:
            for where, data in flipped:
                core.seek(where)
                core.write(data)
            flipped[:] = [(at, whole[at : at + 1])]
            core.seek(at)
            core.write(bytes([whole[at] ^ 1 << bit]))

    ends = survive(path, cases, prepare)
    assert ends["complete"] > 50 and len(ends) > 4, ends


def _off(whole: bytes, paddr: int) -> slice:
    """Where eight bytes of physical memory are in the file; the first PT_LOAD counts."""
    for at in range(64, 64 + 56 * int.from_bytes(whole[56:58], "little"), 56):
        kind, _, offset, _, start, filesz, _, _ = struct.unpack_from("<IIQQQQQQ", whole, at)
        if kind == 1 and start <= paddr < start + filesz:
            return slice(offset + paddr - start, offset + paddr - start + 8)
    raise ValueError(hex(paddr))


_CHILD = textwrap.dedent(
    """
    import faulthandler, os, signal, sys
    import pydumpfile
    core, target = sys.argv[1:]
    faulthandler.enable()
    os.fsync = lambda fd: None  # the disk has no part in this
    for line in sys.stdin:
        signal.alarm(120)
        answers = []
        for level in (31, 1):
            if os.path.exists(target):
                os.unlink(target)
            try:
                statistics = pydumpfile.dump(core, target, level, "none")
                answer = "lacks pages" if statistics.incomplete else "complete"
            except pydumpfile.PydumpfileError as error:
                answer = f"{type(error).__name__}: {error}"
                if isinstance(error, pydumpfile.errors.NativeError):
                    answer = "WRONG: " + answer
                if "\\n" in str(error):
                    answer = "WRONG, two lines: " + answer
            if os.path.exists(target):
                with open(target, "rb") as dump:
                    incomplete = bool(dump.read(428)[424] & 8)
                if incomplete == (answer == "complete"):
                    answer = f"WRONG, the dump says incomplete={incomplete}: {answer}"
            answers.append(answer)
        print(ascii(answers), flush=True)
    """
)


def survive(
    path: Path, cases: Sequence[tuple[object, ...]], prepare: Callable[..., None]
) -> dict[str, int]:
    """Prepare and dump each case, in a child that must live and raise nothing but our errors.

    :return: how many ended in what.
    """
    ends: dict[str, int] = {}
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(path), str(path.with_name("dump"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    try:
        for case in cases:
            prepare(*case)
            child.stdin.write("go\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            if not answer:
                said = child.stderr.read()[-2000:]
                status = child.wait()
                hung = status == -signal.SIGALRM
                pytest.fail(f"{case}: {'hung' if hung else f'died with {status}'}\n{said}")
            assert "WRONG" not in answer, (case, answer)
            end = answer.partition(":")[0].strip("[' ").partition("'")[0]
            ends[end] = ends.get(end, 0) + 1
    finally:
        child.stdin.close()
        child.wait(60)
        child.stdout.close()
        child.stderr.close()
    return ends


class TestMemoryThatMakesNoSense:
    """The description is fine, what it leads to is not."""

    def test_a_top_table_of_zeros(
        self, command: Command, small: BuiltCore, scratch_core: Path, tmp_path: Path
    ) -> None:
        root = int(str(small.keys["SYMBOL(init_top_pgt)"]), 16) - 0xFFFFFFFF80000000
        poke(scratch_core, root + small.phys_base, bytes(PAGE))
        done = command("-d", 31, scratch_core, tmp_path / "dump")
        assert done.returncode == 9
        assert "level-4" in done.stderr and done.stderr.count("\n") == 1
        assert not (tmp_path / "dump").exists()
        assert command("-d", 0, scratch_core, tmp_path / "dump").returncode == 0

    def test_tables_that_point_at_themselves(
        self, small: BuiltCore, scratch_core: Path, tmp_path: Path
    ) -> None:
        root = int(str(small.keys["SYMBOL(init_top_pgt)"]), 16) - 0xFFFFFFFF80000000
        paddr = root + small.phys_base
        poke(scratch_core, paddr, struct.pack("<Q", paddr | 0x63) * 512)
        with pytest.raises(PydumpfileError):
            pydumpfile.dump(scratch_core, tmp_path / "dump", 31)
        assert not (tmp_path / "dump").exists()

    @pytest.mark.parametrize("content", [b"\0", b"\xff"])
    def test_a_mem_map_of_one_byte(
        self, small: BuiltCore, scratch_core: Path, tmp_path: Path, content: bytes
    ) -> None:
        """All zero, or all ones: every page is kept, or a tail, and that is that."""
        size = int(small.keys["SIZE(page)"])
        with pydumpfile.open(small.path) as vmcore:
            pieces = [
                vmcore.memory._page_tables.lookup(small.page_vaddr(pfn)).paddr
                for pfn in range(0, small.max_mapnr, 512)
            ]
        for paddr in sorted({paddr & -(2 * MIB) for paddr in pieces}):
            poke(scratch_core, paddr, content * min(2 * MIB, small.max_mapnr * size))
        statistics = pydumpfile.dump(scratch_core, tmp_path / "dump", 31)
        assert statistics.kept == statistics.existing

    def test_symbols_that_lead_nowhere(self, described: Describer, tmp_path: Path) -> None:
        for symbol in ("init_top_pgt", "mem_section"):
            for vaddr in ("0", "1000", "ffffffffffffffff", "ffff888000000001", "f" * 17):
                path = described({f"SYMBOL({symbol})": vaddr})
                with pytest.raises((FaultError, FormatError)):
                    pydumpfile.dump(path, tmp_path / "dump", 31)
                assert not (tmp_path / "dump").exists()


def test_every_error_of_the_command_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(b"\x7fELF" + b"\n" * 100)
    done = command(tmp_path / "core", tmp_path / "dump")
    assert done.returncode != 0
    assert re.fullmatch(r"pydumpfile: [^\n]+\n", done.stderr)
