# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop over stored pages in C and its reference: the same answer, whatever they are handed."""

from __future__ import annotations

from array import array
from random import Random

import pytest

from pydumpfile.decoders import FLAGS
from pydumpfile.errors import NativeError
from pydumpfile.sources.unpack import Stored, UnpackedTo, Unpacker, make_unpacker
from tests.decompress import ZLIB
from tests.sources.stored_pages import content, packed

PAGE = 4096
NOWHERE = (1 << 64) - 1

Descriptors = list[tuple[int, int, int]]


@pytest.fixture
def unpackers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Unpacker]:
    made = {}
    for loops in ("c", "python"):
        monkeypatch.setenv("PYDUMPFILE_KERNEL", loops)
        made[loops] = make_unpacker(PAGE)
    return made


def unpack(
    unpacker: Unpacker, descriptors: Descriptors, data: bytes, data_off: int = 0,
    zero_off: int = NOWHERE,
) -> tuple[bool, bytes]:  # fmt: skip
    """The answer, and the pages, the last of them first."""
    offs, sizes, flags = zip(*descriptors)
    stored = Stored(array("Q", offs), array("I", sizes), array("I", flags))
    buffer = bytearray(b"?" * (PAGE * len(offs)))
    places = array("Q", range(PAGE * (len(offs) - 1), -1, -PAGE))
    to = UnpackedTo(memoryview(buffer), places)
    done = unpacker.unpack(stored, memoryview(data), data_off, zero_off, to)
    return done, bytes(buffer)


def both(unpackers: dict[str, Unpacker], *what: object) -> tuple[bool, bytes]:
    """The one answer; of pages behind one that cannot be had nothing is promised."""
    (done, pages), (also_done, also_pages) = (
        unpack(unpackers[loops], *what)  # type: ignore[arg-type]
        for loops in ("c", "python")
    )
    assert done == also_done
    if done:
        assert pages == also_pages
    return done, pages


def test_all_encodings_in_one_batch(unpackers: dict[str, Unpacker]) -> None:
    descriptors: Descriptors = [(1000, PAGE, 0)]
    data = bytearray(bytes(PAGE))
    pages = [bytes(PAGE)]
    for pfn in range(40):
        flag = (0, *FLAGS)[pfn % 5]
        page = content(5 * pfn + 2)
        stored = packed(flag, page) if flag else page
        descriptors.append((1000 + len(data), len(stored), flag))
        data += stored
        pages.append(page)
    expected = b"".join(reversed(pages))
    assert both(unpackers, descriptors, bytes(data), 1000) == (True, expected)
    assert both(unpackers, descriptors, bytes(data), 1000, 1000) == (True, expected)
    assert both(unpackers, descriptors[1:], bytes(data[PAGE:]), 1000 + PAGE)[0]


@pytest.mark.parametrize("flag", FLAGS)
def test_damaged_streams(unpackers: dict[str, Unpacker], flag: int) -> None:
    """Bytes changed, cut off, added: a page of the right size or none, and never a crash."""
    rng = Random(flag)
    refused = 0
    for _ in range(400):
        stored = bytearray(packed(flag, content(rng.randrange(100) * 5 + 2)))
        for _ in range(rng.randrange(1, 4)):
            stored[rng.randrange(len(stored))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            del stored[rng.randrange(len(stored)) :]
        done, pages = both(unpackers, [(0, len(stored), flag)], bytes(stored))
        assert len(pages) == PAGE
        refused += not done
    assert refused > 50


@pytest.mark.parametrize(
    "descriptor",
    [(0, PAGE, 0), (99, 10, ZLIB), (NOWHERE, 1, ZLIB), (100, PAGE + 1, 0), (100, 3 * PAGE, 0),
     (100 + 2 * PAGE, 1, ZLIB), (100 + PAGE + 1, PAGE, 0), (100, PAGE - 1, 0), (100, 10, 0x80),
     (100, 0xFFFFFFFF, ZLIB), (100, 0, 0), (1 << 63, PAGE, 0)],
)  # fmt: skip
def test_descriptors_that_lead_out(
    unpackers: dict[str, Unpacker], descriptor: tuple[int, int, int]
) -> None:
    good = (100, PAGE, 0)
    assert both(unpackers, [good], bytes(2 * PAGE), 100)[0]
    assert not both(unpackers, [good, descriptor], bytes(2 * PAGE), 100)[0]


def test_the_c_never_writes_past_the_end(unpackers: dict[str, Unpacker]) -> None:
    stored = Stored(array("Q", (0,)), array("I", (PAGE,)), array("I", (0,)))
    for size, place in ((PAGE, 1), (PAGE - 1, 0), (PAGE, 1 << 63), (0, 0)):
        to = UnpackedTo(memoryview(bytearray(size)), array("Q", (place,)))
        with pytest.raises(NativeError):
            unpackers["c"].unpack(stored, memoryview(bytes(PAGE)), 0, NOWHERE, to)
