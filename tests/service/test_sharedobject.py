# SPDX-License-Identifier: GPL-2.0-or-later
"""What ELF files say of themselves; damaged ones say nothing."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.service.sharedobject import SharedObject, examine

PROGRAM = Path(os.path.realpath(sys.executable)).read_bytes()


def _mapped(soname: str) -> Path:
    """The library of this process that is called so."""
    ctypes.CDLL(soname)
    maps = Path("/proc/self/maps").read_text("utf-8")
    stem = soname.split(".so", maxsplit=1)[0]
    return next(
        Path(line.split()[-1]) for line in maps.splitlines() if f"/{stem}.so" in line.split()[-1]
    )


def test_a_program_names_its_loader() -> None:
    said = examine(PROGRAM)
    assert said is not None
    assert said.machine == os.uname().machine
    assert said.interpreter is not None
    assert os.path.exists(said.interpreter)


def test_a_library_names_itself() -> None:
    said = examine(_mapped("libz.so.1").read_bytes())
    assert said == SharedObject(os.uname().machine, None, "libz.so.1")


def test_another_machine() -> None:
    arm = bytearray(PROGRAM[:4096])
    arm[18:20] = (183).to_bytes(2, "little")
    said = examine(bytes(arm))
    assert said is not None
    assert said.machine == "aarch64"


def test_a_big_endian_machine() -> None:
    s390 = bytearray(PROGRAM[:64])
    s390[5], s390[18:20] = 2, (22).to_bytes(2, "big")
    assert examine(bytes(s390)) == SharedObject("s390x", None, None)


def test_no_elf_file() -> None:
    assert examine(b"#!/bin/sh\n" * 10) is None
    assert examine(b"\x7fELF") is None


@given(st.integers(0, 1 << 14), st.binary(min_size=8, max_size=8))
def test_damage_is_survived(at: int, bytes8: bytes) -> None:
    damaged = bytearray(PROGRAM[: 1 << 14])
    damaged[at : at + 8] = bytes8
    said = examine(bytes(damaged))
    assert said is None or said.machine
