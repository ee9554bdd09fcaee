# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page: ``pydumpfile.8.in``, with what the program itself knows put in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydumpfile._version import VERSION
from pydumpfile.cli.help import help_text
from pydumpfile.cli.options import OPTIONS, Option

from .words import MADE, OFFERED

_TEMPLATE = Path(__file__).with_name("pydumpfile.8.in")
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")
_PLACEHOLDER = re.compile(
    r"\b(VMCORE|DUMPFILE|LOGFILE|STREAM|PART|"
    + "|".join(sorted({o.metavar.partition("[")[0] for o in OPTIONS if len(o.metavar) > 1}))
    + r")(?=s?\b)"
)


def page() -> str:
    """The page in roff, for the ``man`` macros."""
    text = _TEMPLATE.read_text("utf-8")
    for name, lines in (
        ("MADE", [MADE]),
        ("VERSION", [VERSION]),
        ("SYNOPSIS", _synopsis()),
        ("OPTIONS", _options()),
        ("IGNORED", _list(option for option in OPTIONS if _changes_nothing(option))),
        ("REFUSED", _list(option for option in OPTIONS if option.unsupported)),
    ):
        text = text.replace(f"@{name}@", "\n".join(lines))
    return text


def _synopsis() -> Iterator[str]:
    """The usage of ``--help``, each on a line."""
    usage = help_text().partition("\n\n")[0].replace("usage:", "")
    for line in usage.splitlines():
        yield re.sub(r"^pydumpfile", r"\\fBpydumpfile\\fR", _roff(line.strip()))


def _options() -> Iterator[str]:
    for option in OFFERED:
        yield ".TP"
        flags = ", ".join(f"\\fB{flag.replace('-', chr(92) + '-')}\\fR" for flag in _flags(option))
        metavar = re.sub(r"([A-Z]+)", r"\\fI\1\\fR", option.metavar)
        yield f"{flags} {metavar}".rstrip()
        yield _roff(option.help[:1].upper() + option.help[1:]) + "."


def _list(options: Iterator[Option]) -> Iterator[str]:
    """Flags alone, as a sentence has them."""
    yield _roff(", ".join(flag for option in options for flag in _flags(option)) + ".")


def _changes_nothing(option: Option) -> bool:
    return not (option.help or option.field or option.unsupported)


def _flags(option: Option) -> list[str]:
    return option.flags.split()


def _roff(text: str) -> str:
    """Plain text: options in bold, placeholders in italics, nothing taken for a request."""
    text = re.sub(r"``(.+?)``", r"\1", text).replace("\\", "\\e")
    text = _PLACEHOLDER.sub(r"\\fI\1\\fR", text)
    text = _OPTION.sub(lambda match: f"\\fB{match[1]}\\fR".replace("-", "\\-"), text)
    return f"\\&{text}" if text[:1] in ".'" else text
