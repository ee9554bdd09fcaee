# SPDX-License-Identifier: GPL-2.0-or-later
"""The flattened container's records, byte by byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.errors import FormatError, TruncatedError, UnsupportedError
from pydumpfile.formats import flattened
from pydumpfile.formats.flattened import (
    MAX_FILE_SIZE,
    Covered,
    Record,
    check_header,
    copies_until_found,
    unpack_record,
)
from tests.sinks.flattened_reader import END_MARK, HEADER, CrashView


def test_header_and_end_mark() -> None:
    assert flattened.pack_header() == HEADER
    assert flattened.END_MARK == END_MARK
    check_header(HEADER, "stream")


@pytest.mark.parametrize("record", [Record(0, 1), Record(1 << 40, 7), Record(MAX_FILE_SIZE - 1, 1)])
def test_records(record: Record) -> None:
    assert record.pack() == struct.pack(">qq", *record)
    assert unpack_record(record.pack(), 0, "stream") == record


def test_the_end_mark_is_no_record() -> None:
    assert unpack_record(END_MARK, 0, "stream") is None


@pytest.mark.parametrize(
    ("off", "size"),
    [(-1, 5), (-2, -2), (5, -1), (-5, 5), (MAX_FILE_SIZE, 1), (0, 1 << 62), (1 << 62, 1 << 62)],
)
def test_absurd_records_are_refused(off: int, size: int) -> None:
    with pytest.raises(FormatError, match="0x1234") as caught:
        unpack_record(struct.pack(">qq", off, size), 0x1234, "stream")
    assert caught.value.off == 0x1234


@pytest.mark.parametrize("header", [b"", b"KDUMP   " + bytes(4088), bytes(4096), HEADER[:15]])
def test_other_files_are_refused(header: bytes) -> None:
    with pytest.raises(FormatError, match="signature"):
        check_header(header, "stream")


def test_half_a_header_is_refused() -> None:
    with pytest.raises(TruncatedError):
        check_header(HEADER[:4095], "stream")


@pytest.mark.parametrize(("kind", "version"), [(0, 1), (2, 1), (1, 0), (1, 2), (1 << 56, 1 << 56)])
def test_other_types_and_versions_are_refused(kind: int, version: int) -> None:
    header = HEADER[:16] + struct.pack(">qq", kind, version) + HEADER[32:]
    with pytest.raises(UnsupportedError, match=f"type {kind}, version {version}"):
        check_header(header, "stream")


def test_crash_sees_the_last_of_the_copies() -> None:
    """By a model of its bisection, for any number of records."""
    for n_records in range(1, 700):
        records = [(0, b"old")] + [(10 * i, b"data") for i in range(1, n_records)]
        copies = copies_until_found(n_records)
        assert copies in (2, 3, 4)
        records += [(0, b"new")] * copies
        assert CrashView(records).read(0, 3) == b"new"


def test_one_copy_crash_would_never_see() -> None:
    """Why there are more."""
    for n_records in range(1, 100):
        records = [(0, b"old")] + [(10 * i, b"data") for i in range(1, n_records)] + [(0, b"new")]
        assert CrashView(records).read(0, 3) == b"old"


@given(spans=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=30))
def test_what_has_come_by_counting_bytes(spans: list[tuple[int, int]]) -> None:
    covered, there = Covered(), set()
    for start, size in spans:
        covered.add(start, start + size)
        there.update(range(start, start + size))
    missing = [off for off in range(max(there, default=0)) if off not in there]
    gaps = covered.gaps()
    assert [off for start, end in gaps for off in range(start, end)] == missing
    assert all(before[1] < after[0] for before, after in zip(gaps, gaps[1:]))


def test_what_has_come_in_no_order_is_not_told() -> None:
    """Nor remembered."""
    covered = Covered()
    for i in range(5000):
        covered.add(10 * i, 10 * i + 1)
        assert len(covered._starts) == len(covered._ends) <= 1024
    assert covered.gaps() == ()
