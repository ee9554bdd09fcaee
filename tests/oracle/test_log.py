# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of real kernels, against their own console, makedumpfile and drgn."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from drgn.helpers.linux.printk import get_dmesg, get_printk_records

import pydumpfile
from pydumpfile.kernel.log import log_lines
from tests.builders.printk import Message, printed

from . import makedumpfile, witness
from .cores import Evidence

_CALLERS_SINCE = (1, 7, 5)  # of makedumpfile
_STAMPED = re.compile(rb"\[ *\d+\.\d{6}\] [^\r\n]*")


def log_of(evidence: Evidence, partial: bool = False, callers: bool = False) -> bytes:
    """The log as pydumpfile reads it; nothing of it is lost."""
    with pydumpfile.open(evidence.core.vmcore) as vmcore:
        lines = log_lines(vmcore, partial, callers=callers)
        text = b"".join(lines)
        assert (lines.unreadable, lines.unfinished) == (0, 0)
        return text


def test_the_same_bytes_as_makedumpfile(evidence: Evidence, tmp_path: Path) -> None:
    program = witness.program("makedumpfile")
    release = tuple(int(number) for number in makedumpfile.version(program).split("."))
    output = tmp_path / "dmesg"
    subprocess.run(
        [program, "--dump-dmesg", str(evidence.core.vmcore), str(output)],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    assert log_of(evidence, callers=release >= _CALLERS_SINCE) == output.read_bytes()


def test_the_same_records_as_drgn(evidence: Evidence) -> None:
    messages = []
    for record in get_printk_records(evidence.program):
        is_cpu = record.caller_cpu is not None
        caller = record.caller_cpu if is_cpu else record.caller_tid
        assert caller is not None
        messages.append(Message(record.timestamp, is_cpu << 31 | caller, record.text))
    assert len(messages) > 100
    assert log_of(evidence, callers=True) == printed(messages, callers=True)
    # drgn's own layout, which has no columns for further lines and escapes nothing.
    if not any(b"\n" in message.text for message in messages):
        assert log_of(evidence) == get_dmesg(evidence.program)


def without_repeats(line: bytes) -> bytes:
    """Each run of a character as one: now and then the serial port sends one twice."""
    return re.sub(rb"(.)\1+", rb"\1", line)


def test_all_that_the_console_showed(evidence: Evidence) -> None:
    """Every line of the dying kernel, in its order; the log has more, of lower levels."""
    shown = _STAMPED.findall(evidence.core.log.read_bytes())
    panic = next(i for i, line in enumerate(shown) if b"Kernel panic - not syncing: sysrq" in line)
    # Behind its last words are those of the crash kernel, whose clock starts again.
    after = (i for i, line in enumerate(shown) if i > panic and line[:14] < shown[panic][:14])
    shown = shown[: next(after, len(shown))]
    assert len(shown) > 100
    log = log_of(evidence).splitlines()
    assert len(set(shown) - set(log)) <= len(shown) // 10
    rest = iter(map(without_repeats, log))
    assert [line for line in shown if without_repeats(line) not in rest] == []


def test_nobody_cleared_the_log(evidence: Evidence) -> None:
    assert log_of(evidence, partial=True) == log_of(evidence)
