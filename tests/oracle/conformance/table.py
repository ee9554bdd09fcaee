# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of command lines, read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("command_lines.txt")
_ENTRY = re.compile(r"(?P<line>.*?)(?: +!= (?P<aspects>[a-z, ]+): (?P<heading>.+))?")


class CommandLine(NamedTuple):
    """One line of the table.

    :ivar line: as typed after the program's name.
    :ivar section: the heading it stands under.
    :ivar differs: aspects of the outcome in which the two differ; empty: in none.
    :ivar heading: the section of docs/differences.md that says why.
    """

    line: str
    section: str
    differs: frozenset[str]
    heading: str


def read_table() -> list[CommandLine]:
    """All command lines, in the table's order."""
    found = []
    section = ""
    for text in TABLE.read_text("utf-8").splitlines():
        if text.startswith("== "):
            section = text[3:]
        elif text and not text.startswith("#"):
            match = _ENTRY.fullmatch(text)
            assert match is not None, text
            aspects = frozenset((match["aspects"] or "").split(", ")) - {""}
            found.append(CommandLine(match["line"], section, aspects, match["heading"] or ""))
    return found
