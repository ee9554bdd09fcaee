# SPDX-License-Identifier: GPL-2.0-or-later
"""The imitated logs against an installed makedumpfile's --dump-dmesg.

Where it is known to differ, and why (releases 1.7.2 to 1.7.9, from its sources and by trial):
- a byte from 0x80 on comes out as \\xffffffc3 instead of \\xc3: a signed char in its printf;
- a record of the lockless ring without text is left out, elsewhere it is an empty line;
- a block that ends where the text array does (Linux 6.18) is looked for at the array's start;
- the byte ring is always given whole, also with --partial-dmesg;
- --partial-dmesg of a log that was overwritten since it was cleared.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.builders.logcore import PLACE, build_log_core
from tests.builders.makedumpfile_witness import find_makedumpfile
from tests.builders.printk import ByteRing, LocklessRing, RecordBuffer, printed

MAKEDUMPFILE = find_makedumpfile()
pytestmark = pytest.mark.skipif(MAKEDUMPFILE is None, reason="makedumpfile is not installed")
CALLERS_SINCE = (1, 7, 5)


def dmesg(core: Path, *options: str) -> bytes:
    """What makedumpfile extracts."""
    assert MAKEDUMPFILE is not None
    output = core.with_name("dmesg")
    run = subprocess.run(
        [MAKEDUMPFILE, "--dump-dmesg", "-f", *options, str(core), str(output)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return output.read_bytes()


def shows_callers() -> bool:
    """Whether the installed release has the field."""
    assert MAKEDUMPFILE is not None
    run = subprocess.run([MAKEDUMPFILE, "-v"], capture_output=True, text=True, check=False)
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", run.stdout + run.stderr)
    assert match is not None
    return tuple(map(int, match.groups())) >= CALLERS_SINCE


@pytest.mark.parametrize("n", [0, 1, 63, 64, 500])
@pytest.mark.parametrize("padding", [0, 8])
def test_lockless(tmp_path: Path, n: int, padding: int) -> None:
    ring = LocklessRing(padding=padding)
    for i in range(n):
        ring.store(b"message %d\n\tand \x1b[0m" % i + b"." * (i % 50), i * 10**9, i)
        if i == n - 10:
            ring.clear()
    ring.store(b"being written", state="reserved")
    ring.store(b"may be continued", state="committed")
    build_log_core(tmp_path / "core", ring.image(PLACE))
    assert dmesg(tmp_path / "core") == printed(ring.messages(), shows_callers())


@pytest.mark.parametrize("n", [0, 1, 63, 500])
def test_lockless_since_the_clearing(tmp_path: Path, n: int) -> None:
    ring = LocklessRing()
    for i in range(n):
        ring.store(b"%d" % i)
    ring.clear()
    ring.store(b"after")
    build_log_core(tmp_path / "core", ring.image(PLACE))
    expected = printed(ring.messages(partial=True), shows_callers())
    assert dmesg(tmp_path / "core", "--partial-dmesg") == expected


@pytest.mark.parametrize("n", [1, 30, 500])
@pytest.mark.parametrize("caller", [False, True])
@pytest.mark.parametrize("struct_name", ["log", "printk_log"])
def test_records(tmp_path: Path, n: int, caller: bool, struct_name: str) -> None:
    buffer = RecordBuffer(struct_name=struct_name, caller=caller)
    for i in range(n):
        buffer.store(b"message %d\n\tand \x1b[0m" % i + b"." * (i % 50), i * 10**9, i)
        if i == n - 3:
            buffer.clear()
    build_log_core(tmp_path / "core", buffer.image(PLACE), release="5.4.0")
    callers = caller and shows_callers()
    assert dmesg(tmp_path / "core") == printed(buffer.messages(), callers)
    partial = dmesg(tmp_path / "core", "--partial-dmesg")
    if n > 2:
        assert partial == printed(buffer.messages(partial=True), callers)


@pytest.mark.parametrize("n", [1, 30, 500])
def test_bytes(tmp_path: Path, n: int) -> None:
    ring = ByteRing()
    ring.store(b"<6>[    0.000000] message\n" * n)
    build_log_core(tmp_path / "core", ring.image(PLACE), release="3.2.0")
    assert dmesg(tmp_path / "core") == ring.text()
