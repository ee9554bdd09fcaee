# SPDX-License-Identifier: GPL-2.0-or-later
"""Headers of kdump-compressed files, of every version, byte order and word size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pydumpfile.errors import FormatError, TruncatedError
from pydumpfile.formats.diskdump import START_SIZE, Headers, SubHeader, parse_headers
from tests.builders import diskdump
from tests.builders.diskdump import AARCH64, MACHINES, SINCE, SUB_FIELDS, X86_64, Machine, Spec
from tests.builders.elfcore import note

TEXT = b"OSRELEASE=6.1.0\nPAGESIZE=4096\n"
NOTES = note("CORE", 1, bytes(336)) + note("VMCOREINFO", 0, TEXT)


def headers_of(spec: Spec) -> Headers:
    return parse_headers(diskdump.build(spec)[:START_SIZE], "dump")


@pytest.mark.parametrize("version", range(1, 8))
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name.decode())
def test_every_field(machine: Machine, version: int) -> None:
    numbers = {name: 1000 + i for i, name in enumerate(SUB_FIELDS) if "_vmcore" not in name}
    numbers.update(offset_note=machine.page_size + 200, size_note=100)  # as they are told apart by
    numbers.update(offset_eraseinfo=9000, size_eraseinfo=30, max_mapnr_64=70000)
    spec = Spec(
        {5: None, 60000: bytes(machine.page_size)}, machine, version, level=31, max_mapnr=70000,
        status=0x20, vmcoreinfo=TEXT, notes=NOTES, nr_cpus=7, tv_sec=123456789,
        utsname={2: b"6.1.0"}, sub=numbers,
    )  # fmt: skip
    headers = headers_of(spec)
    assert headers.machine == machine.name.decode()
    assert (headers.byte_order, headers.version) == (machine.order, version)
    assert str(machine.words) in headers.encoding
    assert (headers.tv_sec, headers.status, headers.nr_cpus) == (123456789, 0x20, 7)
    assert headers.block_size == machine.page_size
    assert headers.max_mapnr == 70000
    assert headers.utsname[130:136] == b"6.1.0\0"
    for name, since in zip(SUB_FIELDS, SINCE):
        value = getattr(headers.sub, name)
        if since > version:
            assert value == 0, name
        elif name in numbers:
            assert value == numbers[name], name
    half = -(-70000 // (8 * machine.page_size)) * machine.page_size
    assert headers.bitmap1_off == 2 * machine.page_size
    assert headers.bitmap2_off == headers.bitmap1_off + half
    assert headers.descriptors_off == headers.bitmap2_off + half


def test_phys_base_may_be_negative() -> None:
    assert headers_of(Spec({0: None}, sub={"phys_base": -0x1000000})).sub.phys_base == -0x1000000


def test_where_vmcoreinfo_is_tells_two_paddings_apart() -> None:
    for machine in (diskdump.I386, diskdump.ARM):
        sub = headers_of(Spec({9: None}, machine, 3, vmcoreinfo=TEXT)).sub
        assert (sub.offset_vmcoreinfo, sub.size_vmcoreinfo) == (4200, len(TEXT))


def test_pages_beyond_32_bits() -> None:
    """The numbers of 64 bits count, but only where the version has them."""
    wide = {"max_mapnr_64": 1 << 33, "start_pfn_64": 1 << 32, "end_pfn_64": 1 << 33, "split": 1,
            "start_pfn": 0xFFFFFFFF, "end_pfn": 0xFFFFFFFF}  # fmt: skip
    headers = headers_of(Spec({0: None}, sub=wide))
    assert (headers.max_mapnr, headers.start_pfn, headers.end_pfn) == (1 << 33, 1 << 32, 1 << 33)
    headers = headers_of(Spec({0: None}, version=5, sub={"start_pfn": 7, "end_pfn": 9}))
    assert (headers.max_mapnr, headers.start_pfn, headers.end_pfn) == (1, 7, 9)


def test_one_bitmap() -> None:
    """As files before there were two of them: it says both things."""
    raw = bytearray(diskdump.build(Spec({5: None})))
    raw[436:440] = (1).to_bytes(4, "little")
    headers = parse_headers(bytes(raw[:START_SIZE]), "dump")
    assert headers.bitmap1_off == headers.bitmap2_off == 8192
    assert headers.descriptors_off == 12288


@pytest.mark.parametrize(
    ("off", "value"),
    [(8, -1), (8, 1000), (428, 0), (428, 4095), (428, 8192 + 512), (428, 1 << 20), (432, 0),
     (432, -1), (432, 1 << 30), (436, 0), (440, 0x7FFFFFFF)],
)  # fmt: skip
def test_numbers_that_cannot_be(off: int, value: int) -> None:
    raw = bytearray(diskdump.build(Spec({5: None})))
    raw[off : off + 4] = value.to_bytes(4, "little", signed=value < 0)
    with pytest.raises(FormatError, match="damaged"):
        parse_headers(bytes(raw[:START_SIZE]), "dump")


def test_something_else() -> None:
    with pytest.raises(FormatError, match="signature"):
        parse_headers(b"DISKDUMP" + bytes(5000), "dump")


@pytest.mark.parametrize("size", [8, 463, 464, 4096, 4199])
def test_cut_short(size: int) -> None:
    raw = diskdump.build(Spec({5: None}, X86_64))
    with pytest.raises(TruncatedError):
        parse_headers(raw[:size], "dump")


def test_the_largest_block_is_within_the_start() -> None:
    spec = Spec({5: None}, AARCH64, level=31)
    assert headers_of(replace(spec)).sub == SubHeader(0, 31, *[0] * 11, 6)
