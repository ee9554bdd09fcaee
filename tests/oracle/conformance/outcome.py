# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be seen of a run: its exit status, who spoke where, and the files it left."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path
from typing import NamedTuple

# In pieces: those of makedumpfile's processes for --split get mixed.
_PROGRESS = re.compile(
    rb"(?:Checking for memory holes|Excluding (?:unnecessary|free) pages|Copying data) *: "
    rb"|\[[ \d.]{5} %\] [/|\\-] *|eta: (?:\d+[smhd])+"
)
_KNOWN_LINES = re.compile(
    r"^(The (?:dumpfiles? (?:is|are)|dmesg log is|vmcoreinfo is) saved to .*"
    r"|makedumpfile (?:Completed|Failed)\."
    r"|Can't write the dump file\(.*"
    r"|Retry to create a dumpfile by dump_level\(.*"
    r"|This is an incomplete dumpfile, but might analyzable\."
    r"|  (?:OSRELEASE|CRASHTIME)=.*"
    r"|dump_level is changed to \d+, because .* was created by dump_level\(\d+\)\.)",
    re.M,
)
_CODECS = {0: "none", 1: "zlib", 2: "lzo", 4: "snappy", 0x20: "zstd"}
_INCOMPLETE = 8
_STREAM = b"makedumpfile\0\0\0\0"


class Outcome(NamedTuple):
    """One run, by aspects that are words; equal ones are equal outcomes."""

    exit: int
    stdout: str
    stderr: str
    lines: tuple[str, ...]
    files: tuple[str, ...]

    def differs_from(self, other: Outcome) -> frozenset[str]:
        """Names of the aspects that are not the same; of those beside ``exit`` only if it is."""
        if self.exit != other.exit:
            return frozenset({"exit"})
        return frozenset(
            name for name in self._fields if getattr(self, name) != getattr(other, name)
        )


def observe(status: int, stdout: bytes, stderr: bytes, files: list[Path]) -> Outcome:
    """The outcome of a run that ended with ``status`` and wrote ``files``."""
    shown, said = bool(_PROGRESS.search(stderr)), _PROGRESS.sub(b"", stderr).strip()
    on_stderr = ["progress"] * (shown and not status) + ["words"] * bool(said)
    lines = [
        f"{where}: {line}"
        for where, text in (("stdout", stdout), ("stderr", _PROGRESS.sub(b"\n", stderr)))
        if not text.startswith(_STREAM)
        for line in _KNOWN_LINES.findall(text.decode("utf-8", "replace"))
    ]
    return Outcome(
        status,
        _describe(stdout) if stdout.strip() else "",
        ", ".join(on_stderr),
        tuple(sorted(set(lines))),
        tuple(f"{path.name}: {_describe_file(path)}" for path in files),
    )


def _describe_file(path: Path) -> str:
    data = path.read_bytes()
    return f"{_describe(data)}, mode {path.stat().st_mode & 0o777:o}"


def _describe(data: bytes) -> str:
    if data.startswith(_STREAM):
        return "a stream"
    if data.startswith(b"KDUMP   ") and len(data) < 4096 + 12:
        return "the beginning of a dump"
    if data.startswith(b"KDUMP   "):
        (status,) = struct.unpack_from("<I", data, 424)
        level, split = struct.unpack_from("<ii", data, 4096 + 8)
        codec = _CODECS.get(status & ~_INCOMPLETE, f"status {status:#x}")
        kind = "part of a dump" if split else "a dump"
        return f"{kind}, level {level}, {codec}" + ", incomplete" * bool(status & _INCOMPLETE)
    if data.startswith(b"\x7fELF"):
        (flags,) = struct.unpack_from("<I", data, 48)
        return "an ELF dump" + ", incomplete" * bool(flags)
    if re.match(rb"\[ *\d+\.\d{6}\] ", data):
        return f"a log, {hashlib.sha256(data).hexdigest()[:8]}"
    return "words" if data else "nothing"
