# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's log in its three formats: whole, wrapped, empty, cleared, damaged, missing."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pydumpfile
from pydumpfile.errors import FaultError, FormatError, MissingFactError, PydumpfileError
from pydumpfile.kernel.log import log_lines
from tests.builders import BuiltCore
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import (
    ByteRing,
    Image,
    LocklessRing,
    LogWriter,
    Message,
    RecordBuffer,
    printed,
)
from tests.conftest import SMALL, CoreMaker

CPU = 1 << 31
GAP = re.compile(rb"\[pydumpfile: (\d+) messages? could not be read\]")
RecordWriter = Union[LocklessRing, RecordBuffer]
RECORD_WRITERS: Mapping[str, Callable[[], RecordWriter]] = {
    "lockless": LocklessRing,
    "lockless before 5.13": lambda: LocklessRing(latched=False),
    "lockless since 6.18": lambda: LocklessRing(fits_exactly=True, padding=8),
    "lockless, other structures": lambda: LocklessRing(padding=4, seed=2),
    "records": RecordBuffer,
    "records before 3.11": lambda: RecordBuffer(struct_name="log"),
    "records with callers": lambda: RecordBuffer(caller=True, seed=2),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vmcore"


def read(path: Path, partial: bool = False, callers: bool = False) -> tuple[bytes, int]:
    """The log, and how many records were lost."""
    with pydumpfile.open(path) as vmcore:
        lines = log_lines(vmcore, partial, callers=callers)
        text = b"".join(lines)
        return text, lines.unreadable + lines.unfinished


def read_if_possible(path: Path, partial: bool) -> tuple[bytes, int]:
    """As `read`, and nothing if there is one of the errors that damage may lead to."""
    try:
        return read(path, partial, callers=True)
    except PydumpfileError:
        return b"", 0


def log_of(path: Path, writer: LogWriter, partial: bool = False, callers: bool = False) -> bytes:
    """The log of a core that has what `writer` wrote; nothing of it is lost."""
    build_log_core(path, writer.image(PLACE))
    text, lost = read(path, partial, callers)
    assert lost == 0
    return text


def knows_callers(writer: RecordWriter) -> bool:
    return not isinstance(writer, RecordBuffer) or writer.caller


# What all formats that have records share


@pytest.fixture(params=RECORD_WRITERS)
def writer(request: pytest.FixtureRequest) -> RecordWriter:
    return RECORD_WRITERS[request.param]()


def test_the_layout_of_a_line(path: Path) -> None:
    """Spelled out once; everything else trusts the builder's `printed`."""
    ring = LocklessRing()
    ring.store(b"Linux version 6.1", 0, 0)
    ring.store(b"two\nlines\tand \x1b[31m", 12_345_678_901_999, 4321)
    ring.store("käse".encode(), 1_000, CPU | 3)
    ring.store(b"", 99_999_999_999_999_999, 12345678)
    assert log_of(path, ring, callers=True) == (
        b"[    0.000000] [      T0] Linux version 6.1\n"
        b"[12345.678901] [   T4321] two\n"
        b"                          lines\tand \\x1b[31m\n"
        b"[    0.000001] [      C3] k\\xc3\\xa4se\n"
        b"[99999999.999999] [T12345678] \n"
    )
    assert read(path)[0].startswith(
        b"[    0.000000] Linux version 6.1\n[12345.678901] two\n               lines\tand"
    )


def test_every_byte(path: Path, writer: RecordWriter) -> None:
    writer.store(bytes(range(256)))
    shown = printed([Message(0, 0, bytes(range(256)))], False)
    assert log_of(path, writer) == shown
    assert b"\\x00\\x01" in shown and b"\\x7f\\x80" in shown and shown.count(b"\n") == 2


def test_an_empty_log(path: Path, writer: RecordWriter) -> None:
    assert log_of(path, writer) == b""
    assert read(path, partial=True) == (b"", 0)


@pytest.mark.parametrize("n", [1, 5, 40, 63, 64, 65, 200, 1000])
def test_records_around_the_end_of_the_ring(path: Path, writer: RecordWriter, n: int) -> None:
    for i in range(n):
        writer.store(b"message %d" % i + b"." * (i * 7 % 40), i * 1_234_567_890, i | i % 2 << 31)
    messages = writer.messages()
    assert 0 < len(messages) <= n
    assert messages[-1].text.startswith(b"message %d" % (n - 1))
    assert log_of(path, writer, callers=True) == printed(messages, knows_callers(writer))
    assert read(path)[0] == printed(messages, False)


def test_long_and_short_texts(path: Path, writer: RecordWriter) -> None:
    for i, length in enumerate((1, 0, 7, 8, 9, 1000, 0, 992, 16, 1, 700, 24)):
        writer.store(b"%c" % (65 + i) * length, i)
    messages = writer.messages()
    assert 0 < len(messages) < 12
    assert log_of(path, writer) == printed(messages, False)


def test_a_text_of_many_kilobytes(path: Path) -> None:
    ring = LocklessRing(count_bits=4, size_bits=18)
    ring.store(b"long\n" * 13_000)  # text_len has 16 bits
    assert log_of(path, ring) == printed(ring.messages(), False)


@pytest.mark.parametrize("after", [0, 1, 30, 64, 300])
def test_from_the_last_clearing_on(path: Path, writer: RecordWriter, after: int) -> None:
    """Also when what was cleared is gone from the ring since."""
    for i in range(50):
        writer.store(b"before %d" % i)
    writer.clear()
    for i in range(after):
        writer.store(b"after %d, and so on" % i)
    messages = writer.messages(partial=True)
    assert len(messages) <= after
    assert log_of(path, writer, partial=True) == printed(messages, False)
    assert read(path)[0] == printed(writer.messages(), False)


_TEXTS = st.one_of(st.binary(max_size=60), st.sampled_from([b"", b"\n", b"x" * 240, b"\n" * 8]))
_MESSAGES = st.lists(
    st.tuples(_TEXTS, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=80
)


@given(
    st.sampled_from(sorted(RECORD_WRITERS)), _MESSAGES, _MESSAGES, st.booleans(),
)  # fmt: skip
@settings(max_examples=150)
def test_whatever_is_printed_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    before: list[tuple[bytes, int, int]],
    after: list[tuple[bytes, int, int]],
    partial: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    writer = RECORD_WRITERS[name]()
    for message in before:
        writer.store(*message)
    writer.clear()
    for message in after:
        writer.store(*message)
    messages = writer.messages(partial)
    callers = knows_callers(writer)
    assert log_of(path, writer, partial, callers=True) == printed(messages, callers)


# The lockless ring


@pytest.mark.parametrize("state", ["reserved", "committed", "finalized", "reusable"])
def test_states_of_descriptors(path: Path, state: str) -> None:
    """Committed is as good as finalized; reserved was being written; reusable has been given up."""
    ring = LocklessRing()
    ring.store(b"first")
    ring.store(b"in question", state=state)
    ring.store(b"last")
    build_log_core(path, ring.image(PLACE))
    assert read(path) == (printed(ring.messages(), False), int(state == "reserved"))
    assert len(ring.messages()) == (3 if state in ("committed", "finalized") else 2)


@pytest.mark.parametrize("before", [0, 3, 63, 64, 200])
def test_a_descriptor_that_was_just_taken(path: Path, before: int) -> None:
    """head_id counts it already, but it still has the ID of one wrap ago, or none."""
    ring = LocklessRing()
    for i in range(before):
        ring.store(b"%d" % i)
    ring.reserve_and_die()
    build_log_core(path, ring.image(PLACE))
    assert read(path) == (printed(ring.messages(), False), 1)


def test_a_record_for_which_there_was_no_room(path: Path) -> None:
    ring = LocklessRing()
    ring.store(b"first")
    ring.store(b"does not matter", failed=True)
    ring.store(b"")
    build_log_core(path, ring.image(PLACE))
    assert read(path) == (printed(ring.messages(), False), 1)
    assert len(ring.messages()) == 2


@pytest.mark.parametrize("first_lpos", [0, -2048, -4096 * 8, (1 << 63) - 64, -64, 1920])
@pytest.mark.parametrize("fits_exactly", [False, True])
def test_a_block_that_ends_where_the_array_does(
    path: Path, first_lpos: int, fits_exactly: bool
) -> None:
    """Up to 6.17 it is moved to the start of the array; logical positions may overflow to 0."""
    for length in range(40, 72, 8):
        ring = LocklessRing(first_lpos=first_lpos, fits_exactly=fits_exactly)
        for i in range(70):
            ring.store(b"%d " % i * 40 + b"." * length if i % 9 else b"%d" % i * length)
        assert log_of(path, ring) == printed(ring.messages(), False)
    ring = LocklessRing(first_lpos=first_lpos, fits_exactly=fits_exactly)
    while ring.head_lpos % 2048 != 2048 - 64:
        ring.store(b"8 bytes.")
    ring.store(b"x" * 56)
    assert ring.head_lpos % 2048 == (0 if fits_exactly else 64)
    assert log_of(path, ring) == printed(ring.messages(), False)


@pytest.mark.parametrize(
    ("begin", "end", "lost"),
    [
        (0, 0, 1), (8, 8, 1), (16, 8, 1), (1, 3, 1), (3, 1, 1), (1, 16, 1), (4, 24, 1), (0, 20, 1),
        (0, 4096, 1), (2040, 4104, 1), (0, 2**64 - 1, 1), (8, 2**63, 1),
        # Room for the ID and no more: just about possible.
        (0, 2056, 0), (2**64 - 8, 0, 0), (2**64 - 8, 8, 0),
    ],
)  # fmt: skip
def test_blocks_that_cannot_be(path: Path, begin: int, end: int, lost: int) -> None:
    ring = LocklessRing()
    for text in (b"first", b"torn", b"last"):
        ring.store(text)
    slot = ring.alive()[1]
    slot.begin, slot.next = begin, end
    build_log_core(path, ring.image(PLACE))
    stamp = b"[    0.000000] "
    torn = b"" if lost else stamp + b"\n"
    assert read(path) == (stamp + b"first\n" + torn + stamp + b"last\n", lost)


def test_a_text_longer_than_its_block(path: Path) -> None:
    ring = LocklessRing()
    ring.store(b"8 bytes.")
    ring.alive()[0].text_len = 5000
    build_log_core(path, ring.image(PLACE))
    assert read(path) == (b"[    0.000000] 8 bytes.\n", 0)


def test_counters_that_overflow(path: Path) -> None:
    """IDs have 62 bits; the kernel starts them just below 0."""
    ring = LocklessRing()
    assert ring.head_id > 1 << 61
    for i in range(100):
        ring.store(b"%d" % i)
    assert ring.head_id < 100
    assert log_of(path, ring) == printed(ring.messages(), False)


@pytest.mark.parametrize("array", ["arrays_vaddr", "infos_vaddr", "text_vaddr"])
def test_memory_that_is_missing(path: Path, array: str) -> None:
    """One page of an array: what lies on it is lost, and counted, the rest is read."""
    ring = LocklessRing(count_bits=9, size_bits=14)
    for i in range(400):
        ring.store(b"message %d" % i, i * 10**9)
    whole = printed(ring.messages(), False).splitlines()
    image = ring.image(PLACE)
    build_log_core(path, image, unmapped=[getattr(PLACE, array) + 4096])
    with pydumpfile.open(path) as vmcore:
        log = log_lines(vmcore, callers=False)
        lines = [line.rstrip(b"\n") for line in log]
    gaps = [int(found[1]) for found in map(GAP.fullmatch, lines) if found]
    assert log.unfinished == 0 < log.unreadable == sum(gaps)
    at = 0
    for line in lines:
        if found := GAP.fullmatch(line):
            at += int(found[1])
        else:
            assert line == whole[at]
            at += 1
    assert at == len(whole) > sum(gaps)


@pytest.mark.parametrize("state", ["reserved", "reusable"])
def test_no_message_is_missed_where_there_was_none(path: Path, state: str) -> None:
    """A descriptor says that its record is none, so the rest of it does not matter."""
    ring = LocklessRing(count_bits=9, size_bits=14)
    for i in range(400):
        ring.store(b"%d" % i, i, state="finalized" if i < 20 else state)
    build_log_core(path, ring.image(PLACE), unmapped=[PLACE.infos_vaddr + 4096])
    with pydumpfile.open(path) as vmcore:
        log = log_lines(vmcore, callers=False)
        assert b"".join(log) == printed(ring.messages(), False)
        assert (log.unreadable, log.unfinished) == (0, 380 if state == "reserved" else 0)


HEADER = PLACE.image_vaddr + 64


def patched(image: Image, vaddr: int, content: bytes) -> Image:
    """The image with other bytes at an address."""
    return replace(image, pieces=[*image.pieces, (vaddr, content)])


@pytest.mark.parametrize(
    ("off", "value"),
    [
        (0, 0), (0, 27), (0, 0xFFFFFFFF), (8, 0), (8, 0x7000_0000_0000), (16, 0), (16, 1 << 62),
        (24, 1 << 40), (32, 1 << 40), (48, 0), (48, 32), (48, 64), (56, 0), (56, 0x1000),
    ],
)  # fmt: skip
def test_a_ring_that_cannot_be(path: Path, off: int, value: int) -> None:
    ring = LocklessRing()
    ring.store(b"lost")
    build_log_core(path, patched(ring.image(PLACE), HEADER + off, struct.pack("<Q", value)))
    with pytest.raises(FaultError, match="printk_ringbuffer"):
        read(path)


@pytest.mark.parametrize("value", [0, 0x1000, 1 << 63, 0xFFFFC90000000000 - 4096, 1 << 64 - 1])
def test_a_pointer_to_no_ring(path: Path, value: int) -> None:
    ring = LocklessRing()
    build_log_core(
        path, patched(ring.image(PLACE), PLACE.image_vaddr, struct.pack("<Q", value % 2**64))
    )
    with pytest.raises(FaultError, match=r"reading the kernel's log: virtual address"):
        read(path)


# The records of 3.5 to 5.9


def buffer_of(n: int, **kinds: bool) -> RecordBuffer:
    buffer = RecordBuffer(**kinds)  # type: ignore[arg-type]
    for i in range(n):
        buffer.store(b"message %d" % i, i)
    return buffer


def test_a_clearing_of_which_the_place_is_used_again(path: Path) -> None:
    """clear_idx points into the middle of something: all that is there came later."""
    buffer = buffer_of(10)
    buffer.clear()
    buffer.clear_idx += 4
    image = buffer.image(PLACE)
    build_log_core(path, image)
    assert read(path, partial=True)[0] == printed(buffer.messages(), False)


@pytest.mark.parametrize(
    ("length", "text_len"), [(8, 4), (4, 0), (0, 0), (32, 17), (0xFFF8, 4), (2048, 3)]
)
def test_a_chain_that_breaks(path: Path, length: int, text_len: int) -> None:
    """What comes before is given, then the error says where."""
    buffer = buffer_of(5)
    image = buffer.image(PLACE)
    bad_vaddr = PLACE.text_vaddr + 2 * 32
    damaged = patched(image, bad_vaddr + 8, struct.pack("<HH", length, text_len))
    build_log_core(path, damaged)
    with pydumpfile.open(path) as vmcore:
        lines = log_lines(vmcore)
        assert [next(lines), next(lines)] == printed(buffer.messages()[:2], False).splitlines(True)
        with pytest.raises(FaultError, match="damaged from here on") as caught:
            list(lines)
        assert caught.value.address == bad_vaddr
        # Whether the clearing is on the chain cannot be told, so all is given.
        lines = log_lines(vmcore, partial=True)
        assert next(lines).endswith(b"message 0\n")


@pytest.mark.parametrize(
    "key", ["log_buf", "log_buf_len", "log_first_idx", "log_next_idx"]
)  # fmt: skip
def test_a_buffer_that_cannot_be(path: Path, key: str) -> None:
    image = buffer_of(5).image(PLACE)
    vaddr = int(str(image.keys[f"SYMBOL({key})"]), 16)
    build_log_core(path, patched(image, vaddr, struct.pack("<I", 0xFFFF_FFF0)))
    with pytest.raises(FaultError, match=r"kernel's log|is not mapped"):
        read(path)


def test_a_header_behind_the_end(path: Path) -> None:
    image = buffer_of(5).image(PLACE)
    first_vaddr = int(str(image.keys["SYMBOL(log_first_idx)"]), 16)
    build_log_core(path, patched(image, first_vaddr, struct.pack("<I", 2048 - 8)))
    with pytest.raises(FaultError, match="does not fit"):
        read(path)


def test_records_of_which_the_text_is_missing(path: Path) -> None:
    buffer = RecordBuffer(size=16384)
    for i in range(10):
        buffer.store(b"%d" % i * 3000, i)
    image = buffer.image(PLACE)
    build_log_core(path, image, unmapped=[PLACE.text_vaddr + 8192])
    with pydumpfile.open(path) as vmcore:
        lines = log_lines(vmcore)
        with pytest.raises(FaultError, match=r"reading the kernel's log"):  # a header is there
            list(lines)
        assert (lines.unreadable, lines.unfinished) == (1, 0)


# The bytes until 3.4


@pytest.mark.parametrize("n", [0, 1, 3, 60, 200, 1000])
def test_bytes(path: Path, n: int) -> None:
    ring = ByteRing(size=8192)
    for i in range(n):
        ring.store(b"<6>[    0.%06d] message %d \xc3\xa4\x1b\n" % (i, i))
    assert log_of(path, ring) == ring.text()
    assert (len(ring.text()) == 8192) == (n > 230)


def test_bytes_without_a_newline_at_the_end(path: Path) -> None:
    ring = ByteRing()
    ring.store(b"one\n\ntwo")
    build_log_core(path, ring.image(PLACE))
    with pydumpfile.open(path) as vmcore:
        assert list(log_lines(vmcore)) == [b"one\n", b"\n", b"two\n"]


@pytest.mark.parametrize("after", [0, 1, 10, 500])
def test_bytes_since_the_last_clearing(path: Path, after: int) -> None:
    ring = ByteRing()
    ring.store(b"before\n" * 20)
    ring.clear()
    ring.store(b"after\n" * after)
    text = ring.text(partial=True)
    assert log_of(path, ring, partial=True) == text + b"\n" * (text[-1:] not in (b"", b"\n"))


def test_a_counter_of_bytes_that_overflowed(path: Path) -> None:
    ring = ByteRing(log_end=0xFFFF_FFFF - 2000)
    ring.store(b"0123456\n" * 300)
    assert log_of(path, ring) == ring.text()
    assert len(ring.text()) == 1024


def test_bytes_without_any_newline(path: Path) -> None:
    ring = ByteRing(size=65536)
    ring.store(b"\0" * 70_000)
    build_log_core(path, ring.image(PLACE))
    with pydumpfile.open(path) as vmcore:
        pieces = list(log_lines(vmcore))
        assert max(map(len, pieces)) <= 8193
        assert b"".join(pieces) == bytes(65536) + b"\n" * (pieces[-1] != b"\0" * len(pieces[-1]))


def test_bytes_on_a_page_that_is_missing(path: Path) -> None:
    ring = ByteRing(size=16384)
    ring.store(b"0123456\n" * 2048)
    build_log_core(path, ring.image(PLACE), unmapped=[PLACE.text_vaddr + 8192])
    text, lost = read(path)
    assert lost == 1
    before, after = text.split(b"[pydumpfile: 1 page could not be read]\n")
    assert before[-1:] == b"\n" and len(before + after) in (12288, 12289)  # a line was cut


def test_a_byte_ring_of_a_size_that_cannot_be(path: Path) -> None:
    ring = ByteRing(size=1000)
    build_log_core(path, ring.image(PLACE))
    with pytest.raises(FaultError, match="power of two"):
        read(path)


# What the description lacks or has wrong


def test_no_log_at_all(small: BuiltCore) -> None:
    with pydumpfile.open(small.path) as vmcore:
        with pytest.raises(MissingFactError, match="log cannot be found") as caught:
            log_lines(vmcore)
        assert caught.value.name == "SYMBOL(prb) or SYMBOL(log_first_idx) or SYMBOL(log_end)"


def test_no_description(core_of: CoreMaker) -> None:
    without = core_of(replace(SMALL, note=False)).path
    lacking = pytest.raises(MissingFactError, match=r"VMCOREINFO.*log cannot be found")
    with pydumpfile.open(without) as vmcore, lacking:
        log_lines(vmcore)


WRITTEN: Mapping[str, LogWriter] = {
    "lockless": LocklessRing(seed=3),
    "records": RecordBuffer(caller=True, seed=3),
    "bytes": ByteRing(),
}
for _writer in WRITTEN.values():
    for _i in range(100):
        _writer.store(b"message %d\n" % _i, _i)
    _writer.clear()
    _writer.store(b"one more\n")
NEEDED = [
    (name, key)
    for name, _writer in WRITTEN.items()
    for key in _writer.image(PLACE).keys
    if not any(word in key for word in (
        "caller_id", "dev_info", "facility", "fail", "lpos)", "last_finalized", "latched_seq",
        "dict_len", "SIZE(atomic_long_t)", "SYMBOL(prb)", "SYMBOL(log_first_idx)",
        "SYMBOL(log_end)",
    )) or key == "SIZE(prb_data_blk_lpos)"
]  # fmt: skip


@pytest.mark.parametrize(("name", "key"), NEEDED)
def test_each_fact_is_needed(path: Path, name: str, key: str) -> None:
    build_log_core(path, WRITTEN[name].image(PLACE), changes={key: None})
    with pytest.raises(MissingFactError, match="log cannot be found") as caught:
        read(path, partial=True)
    assert caught.value.name == key.replace("printk_log", "log" if "SIZE(" in key else "printk_log")


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("value", ["", "none", -1, 0, 1, 4, 4095, 1 << 20, 1 << 64, "f" * 20])
def test_facts_that_are_wrong(path: Path, name: str, value: object) -> None:
    """A clear error or another text, but nothing else, and not for ever."""
    image = WRITTEN[name].image(PLACE)
    for key in image.keys:
        build_log_core(path, image, changes={key: value})  # type: ignore[dict-item]
        text, lost = read_if_possible(path, partial=True)
        assert lost <= 200
        assert not text or text.endswith(b"\n")


@pytest.mark.parametrize(
    "changes",
    [
        {"SIZE(printk_info)": 8192},
        {"OFFSET(printk_info.caller_id)": 87},
        {"OFFSET(prb_desc.text_blk_lpos)": 16},
        {"OFFSET(printk_ringbuffer.text_data_ring)": 60},
        {"OFFSET(latched_seq.val)": 16},
        {"SYMBOL(prb)": "prb"},
    ],
)
def test_members_outside_of_their_structure(path: Path, changes: dict[str, object]) -> None:
    build_log_core(path, WRITTEN["lockless"].image(PLACE), changes=changes)  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        read(path, partial=True)


@given(
    st.sampled_from(sorted(WRITTEN)),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=9)), max_size=12),
    st.booleans(),
)
@settings(max_examples=200)
def test_damage_of_any_kind(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    damage: list[tuple[int, bytes]],
    partial: bool,
) -> None:
    """Anywhere in the log's memory: what is given has the layout of a log, or there is an error."""
    path = tmp_path_factory.getbasetemp() / "damaged"
    image = WRITTEN[name].image(PLACE)
    pieces = [(start, bytearray(content)) for start, content in image.pieces]
    for where, content in damage:
        _, piece = pieces[where % len(pieces)]
        at = where // len(pieces) % len(piece)
        piece[at : at + len(content)] = content[: len(piece) - at]
    build_log_core(path, replace(image, pieces=[(at, bytes(piece)) for at, piece in pieces]))
    text, lost = read_if_possible(path, partial)
    assert lost <= 64
    assert not text or text.endswith(b"\n")
