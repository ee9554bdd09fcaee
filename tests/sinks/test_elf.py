# SPDX-License-Identifier: GPL-2.0-or-later
"""The order in which an ELF core is written, so that at no time it says more than it holds."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from pydumpfile.errors import OutputError, SizeLimitError, TruncatedError
from pydumpfile.formats.elf import PT_LOAD, PT_NOTE, Ehdr, Phdr
from pydumpfile.formats.elf_loads import Load
from pydumpfile.sinks.elf import ElfSink
from pydumpfile.sources import open_source
from tests.sinks.elf_reader import PT_NULL, ElfCore
from tests.sinks.test_kdump import Recorder

HEADER = Ehdr(
    e_ident=b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), e_type=4, e_machine=62, e_version=1,
    e_entry=0x77, e_phoff=4096, e_shoff=0, e_flags=0, e_ehsize=64, e_phentsize=56, e_phnum=3,
    e_shentsize=0, e_shnum=0, e_shstrndx=0,
)  # fmt: skip
NOTES = Phdr(PT_NOTE, 4, 0x1000, 0, 0, 5000, 6000, 4)


def load(data: bytes, hole: int, paddr: int, is_last: bool = True) -> Load:
    vaddr = paddr + 0xFFFF888000000000
    phdr = Phdr(PT_LOAD, 7, 0, vaddr, paddr, len(data), len(data) + hole, 0)
    return Load(phdr, is_last)


def write_a_core(
    output: Recorder, loads: Sequence[tuple[bytes, Load]], complete: bool = True,
    header: Ehdr = HEADER,
) -> None:  # fmt: skip
    sink = ElfSink(output, header, NOTES, len(loads))
    sink.write_headers()
    sink.write_notes([b"n" * 3000, b"m" * 2000])
    for data, what in loads:
        sink.write(data[:1000])
        sink.write(data[1000:])
        sink.end_load(what)
    sink.finish(complete)
    output.close()


def some_loads(n: int, size: int) -> list[tuple[bytes, Load]]:
    rng = Random(5)
    contents = [rng.randbytes(rng.randrange(size)) for _ in range(n)]
    return [(data, load(data, 4096, i << 20)) for i, data in enumerate(contents)]


def test_a_core_by_hand(tmp_path: Path) -> None:
    loads = [
        (b"a" * 5000, load(b"a" * 5000, 0, 0x1000)),
        (b"", load(b"", 1 << 30, 0x100000, is_last=False)),
        (b"b" * 3_000_000, load(b"b" * 3_000_000, 7, 0x40100000)),
        (b"", load(b"", 4096, 0x80000000)),
    ]
    output = Recorder(tmp_path / "core")
    write_a_core(output, loads)
    core = ElfCore.open(tmp_path / "core")
    assert (core.phoff, core.phnum, core.shoff, core.shnum, core.flags) == (64, 5, 0, 0, 0)
    assert (core.ident, core.entry, core.shentsize) == (HEADER.e_ident, 0x77, 0)
    notes_off = 64 + 5 * 56
    assert core.phdrs[0] == (PT_NOTE, 4, notes_off, 0, 0, 5000, 6000, 4)
    assert core.notes == b"n" * 3000 + b"m" * 2000
    data_off = notes_off + 5000
    # A PT_LOAD without bytes points nowhere, but for the last one of a segment.
    offsets = [data_off, 0, data_off + 5000, data_off + 3_005_000]
    assert [phdr.offset for phdr in core.loads] == offsets
    for (data, what), phdr in zip(loads, core.loads):
        assert phdr._replace(offset=0) == tuple(what.phdr)
        assert core.bytes_of(phdr)[: len(data)] == data
    assert len(core.raw) == output.size == data_off + 3_005_000


def test_filling_is_writing_zeros(tmp_path: Path) -> None:
    output = Recorder(tmp_path / "core")
    sink = ElfSink(output, HEADER, NOTES._replace(p_filesz=0), 1)
    sink.write_headers()
    sink.write_notes([])
    sink.write(b"x")
    sink.fill(3_000_001)
    sink.write(b"y")
    sink.end_load(load(bytes(3_000_003), 0, 0))
    sink.finish(complete=True)
    output.close()
    core = ElfCore.open(tmp_path / "core")
    assert core.bytes_of(core.loads[0]) == b"x" + bytes(3_000_001) + b"y"


def test_after_any_write_the_file_holds_what_it_says(tmp_path: Path) -> None:
    loads = some_loads(3000, 5000)  # more than one buffer of program headers
    output = Recorder(tmp_path / "core")
    write_a_core(output, loads)
    image = bytearray()
    n_described = 0
    for number, (off, data) in enumerate(output.writes):
        image.extend(bytes(max(0, off + len(data) - len(image))))
        image[off : off + len(data)] = data
        core = ElfCore(bytes(image))
        last = number == len(output.writes) - 1
        assert core.incomplete == (not last), "complete before the last write, or not even then"
        described = [phdr for phdr in core.phdrs if phdr.kind != PT_NULL]
        if not data or (off >= 64 + 56 * 3001 and not last):
            continue  # says nothing new
        assert core.phdrs[: len(described)] == described, "in order, then nothing"
        for (content, _), phdr in zip(loads, described[1:]):
            assert core.bytes_of(phdr)[: len(content)] == content
        n_described = len(described)
    assert n_described == 3001
    # Everything is on the disk before the header says so, and then the header.
    assert output.syncs == [len(output.writes) - 1, len(output.writes)]


@pytest.mark.parametrize("n_loads", [3, 70000])
def test_there_is_room_for_all_headers_from_the_start(tmp_path: Path, n_loads: int) -> None:
    """A table that is a hole would be found to have no place when it is written, last of all."""
    output = Recorder(tmp_path / "core")
    ElfSink(output, HEADER, NOTES, n_loads).write_headers()
    size = 64 + 56 * (1 + n_loads) + 64 * (n_loads > 0xFFFE) + 5000
    status = (tmp_path / "core").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 >= size
    output.close()


def test_no_room_for_the_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is known before anything else is done, and what is left is no core."""

    def full(fd: int, off: int, size: int) -> None:
        raise OSError(errno.ENOSPC, f"{size} bytes at {off} of {fd}")

    monkeypatch.setattr(os, "posix_fallocate", full)
    output = Recorder(tmp_path / "core")
    sink = ElfSink(output, HEADER, NOTES, 1000)
    with pytest.raises(OutputError) as caught:
        sink.write_headers()
    assert caught.value.errno == errno.ENOSPC
    sink.salvage(page_size=4096)
    output.close()
    assert [off for off, data in output.writes if data] == [0]
    assert ElfCore.open(tmp_path / "core").incomplete
    with pytest.raises(TruncatedError, match="program headers"):
        open_source(str(tmp_path / "core"))


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, off: int, size: int) -> None:
        raise OSError(number, f"{size} bytes at {off} of {fd}")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    loads = some_loads(20, 5000)
    write_a_core(Recorder(tmp_path / "core"), loads)
    core = ElfCore.open(tmp_path / "core")
    assert not core.incomplete and len(core.loads) == 20


def salvaged(path: Path, loads: Sequence[tuple[bytes, Load]], size_limit: int) -> ElfCore:
    """The core of ``loads``, one segment each, that may not become larger than ``size_limit``."""
    output = Recorder(path)
    output.size_limit = size_limit
    sink = ElfSink(output, HEADER, NOTES, len(loads))
    sink.write_headers()
    sink.write_notes([b"n" * 5000])

    def write() -> None:
        for data, what in loads:
            sink.start_segment(what.phdr)
            sink.write(data)
            sink.end_load(what)
        sink.finish(complete=True)

    with pytest.raises(SizeLimitError):
        write()
    sink.salvage(page_size=4096)
    output.close()
    return ElfCore.open(path)


@pytest.mark.parametrize("pages_that_fit", [0, 1, 300, 999])
def test_a_file_that_may_not_grow_tells_of_all_pages_in_it(
    tmp_path: Path, pages_that_fit: int
) -> None:
    """PT_LOADs that were gathered, too, and those whose bytes were: here of three pages each."""
    rng = Random(4)
    contents = [rng.randbytes(3 * 4096) for _ in range(400)]
    loads = [(data, load(data, 4096, i << 20)) for i, data in enumerate(contents)]
    data_off = 64 + 56 * 401 + 5000
    core = salvaged(tmp_path / "core", loads, data_off + pages_that_fit * 4096 + 77)
    assert core.incomplete
    whole, rest = divmod(pages_that_fit, 3)
    assert len(core.loads) == whole + bool(rest)
    for (data, what), phdr in zip(loads[:whole], core.loads):
        assert phdr._replace(offset=0) == tuple(what.phdr)
        assert core.bytes_of(phdr)[: len(data)] == data
    if rest:
        last = core.loads[-1]
        assert (last.paddr, last.filesz, last.memsz) == (whole << 20, rest * 4096, rest * 4096)
        assert core.bytes_of(last) == contents[whole][: rest * 4096]


def test_program_headers_do_not_wait_for_a_full_buffer(tmp_path: Path) -> None:
    """A reset leaves no time to salvage anything."""
    output = Recorder(tmp_path / "core")
    data = bytes(1 << 20)
    sink = ElfSink(output, HEADER, NOTES, 3)
    sink.write_headers()
    for i in range(2):
        sink.write(data)
        sink.end_load(load(data, 0, i << 30))
    assert len(ElfCore.open(tmp_path / "core").loads) == 2
    output.close()


def test_not_complete(tmp_path: Path) -> None:
    write_a_core(Recorder(tmp_path / "core"), some_loads(3, 100), complete=False)
    core = ElfCore.open(tmp_path / "core")
    assert core.incomplete
    assert len(core.loads) == 3


@pytest.mark.parametrize("flags", [0, 1])
def test_a_core_of_an_incomplete_one_is_no_better(tmp_path: Path, flags: int) -> None:
    header = HEADER._replace(e_flags=flags)
    write_a_core(Recorder(tmp_path / "core"), some_loads(3, 100), header=header)
    assert ElfCore.open(tmp_path / "core").flags == flags


def test_what_qemu_says_of_its_own_header_is_not_taken_over(tmp_path: Path) -> None:
    """Sections in front of the program headers, and an e_ehsize of 8."""
    header = HEADER._replace(e_phoff=192, e_shoff=64, e_shnum=2, e_shstrndx=1, e_ehsize=8)
    write_a_core(Recorder(tmp_path / "core"), some_loads(3, 100), header=header)
    core = ElfCore.open(tmp_path / "core")
    assert (core.phoff, core.ehsize, core.phnum) == (64, 64, 4)
    assert (core.shoff, core.shnum, core.shstrndx) == (0, 0, 0)
    assert len(core.loads) == 3


@pytest.mark.parametrize("n_loads", [0xFFFD, 0xFFFE])
def test_more_program_headers_than_the_header_can_count(tmp_path: Path, n_loads: int) -> None:
    """PN_XNUM: with the notes' it is one more."""
    empty = load(b"", 4096, 0)
    header = HEADER._replace(e_shoff=123, e_shnum=1, e_shstrndx=9)  # not true any longer
    write_a_core(Recorder(tmp_path / "core"), [(b"", empty)] * n_loads, header=header)
    core = ElfCore.open(tmp_path / "core")
    assert core.n_phdrs == n_loads + 1
    assert len(core.loads) == n_loads
    extended = n_loads + 1 >= 0xFFFF
    table_end = 64 + 56 * core.n_phdrs
    assert (core.shoff, core.shnum) == ((table_end, 1) if extended else (0, 0))
    if extended:
        assert (core.shentsize, core.shstrndx) == (64, 0)
        section = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, core.n_phdrs, 0, 0, 0, 0]
        assert core.raw[table_end : table_end + 64] == b"".join(
            word.to_bytes(4, "little") for word in section
        )
    assert core.notes == b"n" * 3000 + b"m" * 2000
    assert core.phdrs[0].offset == table_end + 64 * extended
