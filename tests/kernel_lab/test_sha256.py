# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests' SHA-256 is SHA-256: the digest of a vmcore is the one that sha256sum would print."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.cache import require_program

from .guest import PROGRAMS

_HARNESS = """
#include "sha256.h"
struct sha256 hash;
void begin(void) { sha256_begin(&hash); }
void add(const void *data, size_t size) { sha256_add(&hash, data, size); }
void end(char *digits) { sha256_end(&hash, digits); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    built: Path = tmp_path_factory.mktemp("sha256") / "sha256.so"
    gcc = [require_program("gcc"), "-shared", "-fPIC", "-O3", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [*gcc, f"-I{PROGRAMS}", "-xc", "-", "-o", str(built)], input=_HARNESS.encode(), check=True
    )
    library = ctypes.CDLL(str(built))
    library.add.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
    return library


def digest(library: ctypes.CDLL, pieces: list[bytes]) -> str:
    digits = ctypes.create_string_buffer(65)
    library.begin()
    for piece in pieces:
        library.add(piece, len(piece))
    library.end(digits)
    return digits.value.decode()


@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
def test_any_pieces(library: ctypes.CDLL, pieces: list[bytes]) -> None:
    assert digest(library, pieces) == hashlib.sha256(b"".join(pieces)).hexdigest()


@pytest.mark.parametrize("size", range(130))
def test_each_length_of_padding(library: ctypes.CDLL, size: int) -> None:
    data = bytes(range(size))
    assert digest(library, [data]) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("block", [4096, 4097, 1000003])
def test_blocks_do_not_matter(library: ctypes.CDLL, block: int) -> None:
    data = hashlib.shake_128(b"vmcore").digest(3 << 20)
    pieces = [data[off : off + block] for off in range(0, len(data), block)]
    assert digest(library, pieces) == hashlib.sha256(data).hexdigest()
