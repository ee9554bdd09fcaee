# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of every kind, to make kdump-compressed files of, and what a source has to say of them."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Mapping
from random import Random
from typing import Optional

import pytest
import zstandard
from hypothesis import strategies as st

from pydumpfile.errors import NotInDumpError
from pydumpfile.sources import Source
from pydumpfile.sources.pagestore import LostPageError
from tests.builders.elfcore import note
from tests.decompress import SNAPPY, ZLIB, ZSTD

PAGE = 4096
TEXT = b"OSRELEASE=6.1.0\nPAGESIZE=4096\n"
NOTES = note("CORE", 1, bytes(336)) + note("VMCOREINFO", 0, TEXT) + note("LINUX", 0x700, bytes(9))

Pages = Mapping[int, Optional[bytes]]

both_ways = pytest.mark.parametrize("use_mmap", [True, False], ids=["mmap", "pread"])

LOST = (10, 11, 64, 100_000)
"""Some of :func:`some_pages`, to be lost."""

Kinds = Mapping[int, Optional[bytes]]
"""Pages by what fills them, and None if they were left out."""
KINDS = st.dictionaries(
    st.integers(0, 70000), st.sampled_from([None, b"\0", b"a", b"bc"]), min_size=1, max_size=40
)


def content(pfn: int, size: int = PAGE) -> bytes:
    """Pages that compress, pages that do not, and zero pages."""
    rng = Random(pfn)
    if pfn % 5 == 0:
        return bytes(size)
    if pfn % 5 == 1:
        return rng.randbytes(size)
    return (f"page {pfn} " * size).encode()[:size]


def some_pages(size: int = PAGE) -> Pages:
    """Runs kept and left out, a hole, and one page far away."""
    kept = [*range(3, 40), *range(50, 52), 60, 62, *range(64, 90), 100_000]
    pages: dict[int, Optional[bytes]] = dict.fromkeys(range(3, 95))
    pages.update({pfn: content(pfn, size) for pfn in kept})
    return pages


def check(source: Source, pages: Pages, size: int = PAGE) -> None:
    """Everything a source says, of the pages it should have."""
    shift = size.bit_length() - 1
    kept = {pfn for pfn, page in pages.items() if page is not None}
    assert {p for start, end in source.exists.pages(shift) for p in range(start, end)} == set(pages)
    assert {p for start, end in source.data.pages(shift) for p in range(start, end)} == kept
    assert source.exists.total == len(pages) * size
    assert source.data.total == len(kept) * size
    assert source.data.end == (max(kept) + 1) * size
    for pfn in [*pages, max(pages) + 1, 0]:
        page = pages.get(pfn)
        if page is None:
            assert source.stretch_end(pfn << shift) == pfn << shift
            assert (pfn << shift) not in source.data
            with pytest.raises(NotInDumpError) as caught:
                source.read_page(pfn, shift)
            assert caught.value.address == pfn << shift
            with pytest.raises(NotInDumpError) as caught:
                source.read(pfn << shift, 1)
            assert caught.value.address == pfn << shift
        else:
            assert source.stretch_end(pfn << shift) > pfn << shift
            assert (pfn << shift) in source.data
            assert source.read_page(pfn, shift) == page
            assert source.read((pfn << shift) + 5, size - 9) == page[5:-4]


def packed(flag: int, page: bytes) -> bytes:
    """The page as the encoding's own library makes it."""
    if flag == ZLIB:
        return zlib.compress(page)
    if flag == ZSTD:
        return zstandard.ZstdCompressor(level=1).compress(page)
    out, size = ctypes.create_string_buffer(2 * PAGE), ctypes.c_size_t(2 * PAGE)
    if flag == SNAPPY:
        function, extra = ctypes.CDLL("libsnappy.so.1").snappy_compress, ()
    else:
        function = ctypes.CDLL("liblzo2.so.2").lzo1x_1_compress
        extra = (ctypes.create_string_buffer(1 << 17),)
    assert function(page, ctypes.c_size_t(PAGE), out, ctypes.byref(size), *extra) == 0
    return out.raw[: size.value]


def packed_pages(flag: int, pages: Pages) -> dict[int, tuple[bytes, int]]:
    """Those that it makes smaller, and the flag; none for 0."""
    return {
        pfn: (packed(flag, page), flag)
        for pfn, page in pages.items()
        if page is not None and pfn % 5 != 1 and flag
    }


def pages_of(kinds: Kinds) -> Pages:
    """Each page full of its kind."""
    return {
        pfn: None if kind is None else kind * (PAGE // len(kind)) for pfn, kind in kinds.items()
    }


def check_lost(source: Source) -> None:
    """It has all of :func:`some_pages` but LOST, and says so."""
    assert source.incomplete
    for pfn in LOST:
        assert pfn << 12 in source.data
        with pytest.raises(LostPageError) as caught:
            source.read_page(pfn, 12)
        assert caught.value.address == pfn << 12
    with pytest.raises(LostPageError) as caught:
        source.view(3 * PAGE, 30 * PAGE)
    assert caught.value.address == 10 * PAGE
    assert source.view(12 * PAGE, 20 * PAGE) == b"".join(map(content, range(12, 32)))


def check_twins(source: Source) -> None:
    """It has :func:`some_pages`, and what another thread is given is its own."""
    twin = source.another()
    one = source.view(3 * PAGE, 20 * PAGE)
    other = twin.view(64 * PAGE, 20 * PAGE)
    assert one == b"".join(content(pfn) for pfn in range(3, 23))
    assert other == b"".join(content(pfn) for pfn in range(64, 84))
