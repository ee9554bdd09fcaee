# SPDX-License-Identifier: GPL-2.0-or-later
"""The judges themselves: that they see what is wrong, before their verdicts are believed."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.filter import classify
from pydumpfile.filter.plan import NEVER, Plan, make_plan

from . import groundtruth, makedumpfile, pfnset, witness
from .cores import Evidence, kept_by_pydumpfile
from .dumpreader import DumpError, DumpReader
from .groundtruth import CHANGED, NOT_SCANNED, ON_CPU_LIST, judge
from .kpageflags import KpageFlags, Kpf, is_needed

PFNS = st.sets(st.integers(0, 300))


@given(PFNS)
def test_pfn_sets_hold_what_was_put_in(pfns: set[int]) -> None:
    as_number = pfnset.from_pfns(pfns)
    assert list(pfnset.each(as_number)) == sorted(pfns)
    assert pfnset.count(as_number) == len(pfns)
    assert pfnset.from_runs(pfnset.runs_of(as_number)) == as_number
    codes = bytes(7 if pfn in pfns else 3 for pfn in range(301))
    assert pfnset.where(codes, {7}) == as_number


def flags_of(*words: int) -> KpageFlags:
    return KpageFlags(struct.pack(f"<{len(words)}Q", *words))


def test_tails_are_what_their_head_is() -> None:
    head = Kpf.COMPOUND_HEAD | Kpf.LRU | Kpf.ANON
    flags = flags_of(0, head, Kpf.COMPOUND_TAIL, Kpf.COMPOUND_TAIL | Kpf.HWPOISON, 0)
    assert flags.having(Kpf.ANON) == 0b01110
    assert flags.having(Kpf.HWPOISON) == 0b01000
    assert flags.word(2) == Kpf.COMPOUND_TAIL | Kpf.LRU | Kpf.ANON


def test_a_tail_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="0x2 is a tail"):
        flags_of(Kpf.COMPOUND_HEAD, 0, Kpf.COMPOUND_TAIL)


# Word -> the single-bit levels at which the page is not needed; level 0 stands for all.
NOT_NEEDED_AT = {
    Kpf(0): set(),
    Kpf.SLAB: set(),
    Kpf.SLAB | Kpf.ANON: set(),
    Kpf.PGTABLE: set(),
    Kpf.RESERVED | Kpf.PRIVATE: set(),
    Kpf.PRIVATE: set(),
    Kpf.BUDDY: {16},
    Kpf.LRU: {2, 4},
    Kpf.LRU | Kpf.PRIVATE: {4},
    Kpf.SWAPCACHE: {2, 4},
    Kpf.LRU | Kpf.ANON: {8},
    Kpf.LRU | Kpf.ANON | Kpf.SWAPCACHE: {8},
    Kpf.LRU | Kpf.ANON | Kpf.PRIVATE: {8},
    Kpf.ANON: {8},
    Kpf.HUGE: {8},
    Kpf.OFFLINE: {0, 1, 2, 4, 8, 16},
    Kpf.NOPAGE: {0, 1, 2, 4, 8, 16},
    Kpf.HWPOISON | Kpf.LRU: {0, 1, 2, 4, 8, 16},
}


@pytest.mark.parametrize("word", NOT_NEEDED_AT)
def test_levels_mean_what_they_are_documented_to(word: Kpf) -> None:
    levels = {level for level in (0, 1, 2, 4, 8, 16) if not is_needed(word, level)}
    assert levels == NOT_NEEDED_AT[word]


def evidence_of(*words: int, cpu_free: int = 0, can_poison: bool = True) -> Evidence:
    """Pages from pfn 0, all in the core."""
    stub = SimpleNamespace(
        in_core=(1 << len(words)) - 1,
        flags=flags_of(*words),
        cpu_free=cpu_free,
        offlined_block=0,
        can_poison=can_poison,
        program=None,
    )
    return cast(Evidence, stub)


def drgn_says(monkeypatch: pytest.MonkeyPatch, word: Kpf) -> None:
    monkeypatch.setattr(groundtruth, "page_word", lambda *_: word)


def test_a_needed_page_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    drgn_says(monkeypatch, Kpf.SLAB)
    verdict = judge(evidence_of(Kpf.SLAB, Kpf.BUDDY, 0), 16, kept=0b100)
    assert (verdict.lost, verdict.unexplained, verdict.agreed) == (0b001, 0b001, 0b110)


def test_a_free_page_that_is_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    drgn_says(monkeypatch, Kpf.BUDDY)
    verdict = judge(evidence_of(Kpf.SLAB, Kpf.BUDDY, 0), 16, kept=0b111)
    assert (verdict.kept_needlessly, verdict.unexplained) == (0b010, 0b010)


def test_a_page_the_core_does_not_have_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    drgn_says(monkeypatch, Kpf(0))
    verdict = judge(evidence_of(0, 0), 0, kept=0b111)
    assert verdict.unexplained == 0b100


def test_a_page_on_a_cpu_list_may_stay_but_no_other() -> None:
    many = (0,) * (groundtruth.MAX_CHANGED + 2)
    everything = (1 << len(many)) - 1
    verdict = judge(evidence_of(*many, cpu_free=everything), 16, kept=everything)
    assert verdict.explained == {ON_CPU_LIST: everything}
    assert judge(evidence_of(*many, cpu_free=everything), 16, kept=0).unexplained == 0
    assert judge(evidence_of(*many), 16, kept=0).unexplained == everything


def test_balloon_pages_may_stay_only_where_nothing_is_scanned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drgn_says(monkeypatch, Kpf.OFFLINE)
    no_poison = evidence_of(0, Kpf.OFFLINE, can_poison=False)
    assert judge(no_poison, 1, kept=0b11).explained == {NOT_SCANNED: 0b10}
    assert judge(no_poison, 2, kept=0b11).unexplained == 0b10
    assert judge(evidence_of(0, Kpf.OFFLINE), 1, kept=0b11).unexplained == 0b10


def test_a_changed_page_needs_the_struct_page_as_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    drgn_says(monkeypatch, Kpf.BUDDY)  # freed after the guest's last look
    assert judge(evidence_of(0, 0), 16, kept=0b10).explained == {CHANGED: 0b01}
    crowd = (0,) * (groundtruth.MAX_CHANGED + 1)
    assert judge(evidence_of(*crowd), 16, kept=0).explained == {}


def test_a_missing_witness_fails_unless_the_lab_was_waived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(witness.NO_LAB, raising=False)
    with pytest.raises(pytest.fail.Exception, match="apt-get install makedumpfile"):
        witness.program("no-such-program", "makedumpfile")
    monkeypatch.setenv(witness.NO_LAB, "1")
    with pytest.raises(pytest.skip.Exception, match="PYDUMPFILE_NO_LAB=1: no-such-program"):
        witness.program("no-such-program")


@pytest.mark.full
@pytest.mark.parametrize(
    ("mistake", "level"),
    [
        ("slab_type", 8),
        ("hugetlb", 8),
        ("buddy", 16),
        ("offline", 2),
        ("hwpoison", 0),
        ("head", 8),
        ("private_mask", 2),
        ("swapcache_mask", 2),
        ("lru_mask", 4),
    ],
)
def test_a_wrong_filter_is_found(
    evidence_6_12: Evidence, mistake: str, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that pydumpfile could forget, on a real core.

    Not that of compound tails: their fields happen to look needed on this kernel. The synthetic
    cores of tests/builders have tails that do not.
    """
    forgotten: dict[str, Any] = {mistake: 0 if mistake.endswith("_mask") else NEVER}

    def forgetful(*arguments: Any) -> Plan:
        return make_plan(*arguments)._replace(**forgotten)

    monkeypatch.setattr(classify, "make_plan", forgetful)
    kept = kept_by_pydumpfile(evidence_6_12.core.vmcore, level)
    assert pfnset.count(judge(evidence_6_12, level, kept).unexplained) > 0


BLOCK = 4096
SUB_HEADER = struct.Struct("<qiiQQQQQQQQQQQ")


def small_dump() -> bytearray:
    """Eleven pages exist, numbers 1, 2 and 9 are kept: the zero page, a raw one, a zlib one."""
    import zlib

    dump = bytearray(4 * BLOCK)
    dump[:8] = b"KDUMP   "
    struct.pack_into("<i", dump, 8, 6)
    struct.pack_into("<IiiII", dump, 424, 1, BLOCK, 1, 2, 11)
    dump[BLOCK : BLOCK + SUB_HEADER.size] = SUB_HEADER.pack(0, 31, *(0,) * 11, 11)
    dump[2 * BLOCK : 2 * BLOCK + 2] = b"\xff\x07"
    dump[3 * BLOCK : 3 * BLOCK + 2] = b"\x06\x02"
    packed = zlib.compress(b"text" * 1024)
    data_off = 4 * BLOCK + 3 * 24
    for off, size, flags in (
        (data_off, BLOCK, 0),
        (data_off + BLOCK, BLOCK, 0),
        (data_off + 2 * BLOCK, len(packed), 1),
    ):
        dump += struct.pack("<qIIQ", off, size, flags, 0)
    return dump + bytes(BLOCK) + b"raw!" * 1024 + packed


def test_plain_parser_reads_a_dump_made_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "dump"
    path.write_bytes(small_dump())
    with DumpReader(path) as dump:
        assert (dump.exists, dump.kept, dump.level, dump.status) == (0x7FF, 0x206, 31, 1)
        assert dict(dump.pages()) == {1: bytes(BLOCK), 2: b"raw!" * 1024, 9: b"text" * 1024}


def put(off: int, data: bytes) -> Callable[[bytearray], None]:
    def change(dump: bytearray) -> None:
        dump[off : off + len(data)] = data

    return change


@pytest.mark.parametrize(
    "change",
    [
        put(0, b"DISKDUMP"),
        put(8, b"\x05"),
        put(436, b"\x04"),  # bitmap blocks
        put(2 * BLOCK, b"\xf9"),  # page 1 is kept and does not exist
        put(3 * BLOCK + 1, b"\x82"),  # a page past max_mapnr
        put(4 * BLOCK + 8, b"\x01\x10"),  # more than a page stored
        put(4 * BLOCK + 12, b"\x01"),  # a whole page that says it is compressed
        put(4 * BLOCK + 16, b"\x01"),  # page_flags
        put(4 * BLOCK + 7, b"\x7f"),  # far outside the file
        put(4 * BLOCK, b"\0\0\0\0\0\0\0\0"),  # lost
        lambda dump: dump.pop() and None,  # cut short
    ],
)
def test_plain_parser_refuses_a_damaged_dump(
    tmp_path: Path, change: Callable[[bytearray], None]
) -> None:
    dump = small_dump()
    change(dump)
    path = tmp_path / "dump"
    path.write_bytes(dump)
    with pytest.raises(DumpError), DumpReader(path):
        pass


def flattened(*records: tuple[int, bytes]) -> io.BytesIO:
    head = b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)
    body = (struct.pack(">qq", off, len(data)) + data for off, data in records)
    return io.BytesIO(head.ljust(4096, b"\0") + b"".join(body) + struct.pack(">qq", -1, -1))


def test_bitmaps_are_read_from_a_flattened_stream() -> None:
    dump = bytes(small_dump())
    pieces = ((0, 464), (BLOCK + 104, 0), (BLOCK, 104), (2 * BLOCK, BLOCK), (3 * BLOCK, BLOCK))
    stream = flattened(*((off, dump[off : off + size]) for off, size in pieces), (4 * BLOCK, b"x"))
    assert makedumpfile.read_bitmaps(stream) == (0x7FF, 0x206)
    stream = flattened(*((off, dump[off : off + size]) for off, size in pieces[:-1]))
    with pytest.raises(DumpError):
        makedumpfile.read_bitmaps(stream)
