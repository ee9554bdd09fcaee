# SPDX-License-Identifier: GPL-2.0-or-later
"""Codecs by name and level, the library each finds, and what is said if it finds none."""

from __future__ import annotations

import ctypes
import gc
import weakref
from random import Random

import pytest

from pydumpfile import codecs
from pydumpfile.codecs import NAMES, available, make_codec
from pydumpfile.errors import UnsupportedError, UsageError
from pydumpfile.packing.reference import compress
from tests.decompress import CODEC_FLAGS, decompress

PAGE = 4096
PACKAGES = {
    "zlib": ("zlib1g", "zlib"),
    "lzo": ("liblzo2-2", "lzo"),
    "snappy": ("libsnappy1v5", "snappy"),
    "zstd": ("libzstd1", "libzstd"),
}
"""On Debian and on Fedora."""


def text_page(seed: int = 1) -> bytes:
    rng = Random(seed)
    return b" ".join(rng.choice([b"page", b"of", b"words", b"%d"]) for _ in range(PAGE))[:PAGE]


class Present:
    """ctypes.CDLL on a machine that has only some libraries."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *sonames: str) -> None:
        self._sonames = sonames
        self._load = ctypes.CDLL
        monkeypatch.setattr(ctypes, "CDLL", self)

    def __call__(self, soname: str) -> ctypes.CDLL:
        if soname not in self._sonames:
            raise OSError(f"{soname}: cannot open shared object file")
        return self._load(soname)


def test_all_are_here_and_flagged_as_the_format_says() -> None:
    assert available() == dict.fromkeys(NAMES, "")
    assert {name: make_codec(name).flag for name in NAMES} == CODEC_FLAGS


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="'lzma' is not one of none, zlib, lzo, snappy, zstd"):
        make_codec("lzma")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_library_names_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Present(monkeypatch)
    debian, fedora = PACKAGES[name]
    with pytest.raises(UnsupportedError, match=rf"install {debian} \(Fedora: {fedora}\)"):
        make_codec(name)
    reasons = available()
    assert reasons.pop("none") == ""
    assert set(reasons) == set(PACKAGES)
    assert debian in reasons[name]


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    old = codecs._ZSTD._replace(function="ZSTD_compress3")
    monkeypatch.setitem(codecs._CODECS, "zstd", (0x20, (old,)))
    with pytest.raises(UnsupportedError, match=r"ZSTD_compress3\(\)"):
        make_codec("zstd")


def test_zlib_streams_come_from_the_fastest_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_codec("zlib").told == "zlib by libdeflate.so.0, level 1"
    page = text_page()
    by_libdeflate = compress(make_codec("zlib"), page)
    Present(monkeypatch, "libz.so.1")
    assert make_codec("zlib").told == "zlib by libz.so.1, level 1"
    by_zlib = compress(make_codec("zlib"), page)
    assert by_zlib != by_libdeflate
    assert decompress(CODEC_FLAGS["zlib"], by_zlib, PAGE) == page
    with pytest.raises(UsageError, match=r"zlib by libz.so.1 has levels 1 to 9, not 10"):
        make_codec("zlib", 10)


@pytest.mark.parametrize(
    ("name", "level"),
    [("zlib", 1), ("zlib", 9), ("zlib", 12), ("zstd", -100), ("zstd", -1), ("zstd", 1),
     ("zstd", 19)],
)  # fmt: skip
def test_levels(name: str, level: int) -> None:
    codec = make_codec(name, level)
    assert codec.level == level
    assert codec.told.endswith(f", level {level}")
    page = text_page()
    assert decompress(codec.flag, compress(codec, page), PAGE) == page


@pytest.mark.parametrize(("name", "low", "high"), [("zlib", 1, 9), ("zstd", -5, 19)])
def test_higher_levels_try_harder(name: str, low: int, high: int) -> None:
    sizes = [len(compress(make_codec(name, level), text_page())) for level in (low, high)]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    ("name", "level"),
    [("zlib", 0), ("zlib", 13), ("zlib", -1), ("zstd", 20), ("zstd", -101), ("lzo", 1),
     ("snappy", 1), ("none", 1)],
)  # fmt: skip
def test_levels_that_are_none(name: str, level: int) -> None:
    with pytest.raises(UsageError, match=f"not {level}"):
        make_codec(name, level)


def test_a_stream_is_the_same_whatever_was_compressed_before() -> None:
    """Workspaces are used again and again, by one thread or another."""
    for name in PACKAGES:
        used, fresh = make_codec(name), make_codec(name)
        first = [compress(used, text_page(seed)) for seed in range(20)]
        again = [compress(fresh, text_page(seed)) for seed in reversed(range(20))]
        assert first == again[::-1]


def test_workspaces_are_given_back() -> None:
    freed: list[int] = []
    workspace = codecs.Workspace(0x1234, freed.append)
    gone = weakref.ref(workspace)
    del workspace
    gc.collect()
    assert gone() is None
    assert freed == [0x1234]
    with pytest.raises(MemoryError):
        codecs.Workspace(None, freed.append)
    assert freed == [0x1234]
