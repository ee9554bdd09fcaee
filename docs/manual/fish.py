# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion for fish."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.cli.options import Option

from .words import CHOICES, FILE_NAMES, MADE, OFFERED, brief, subcommands


def completion() -> str:
    """The script."""
    return "\n".join(
        (
            "# SPDX-License-Identifier: GPL-2.0-or-later",
            f"# Completion of pydumpfile for fish. {MADE}",
            "",
            *_subcommands(),
            "",
            *(_line(option) for option in OFFERED),
            "",
        )
    )


def _subcommands() -> Iterator[str]:
    for each in subcommands():
        yield f"complete -c pydumpfile -n __fish_use_subcommand -a {each.name} -d '{each.help}'"
        for flag in each.flags:
            condition = f"'__fish_seen_subcommand_from {each.name}'"
            yield f"complete -c pydumpfile -n {condition} -l {flag[2:]}"


def _line(option: Option) -> str:
    names = " ".join(
        f"-l {flag[2:]}" if flag[:2] == "--" else f"-s {flag[1:]}" for flag in option.flags.split()
    )
    text = brief(option).replace("'", "\\'")
    names_of_others = " ".join(each.name for each in subcommands())
    line = f"complete -c pydumpfile -n 'not __fish_seen_subcommand_from {names_of_others}' {names}"
    if option.metavar in FILE_NAMES:
        line += " -r -F"
    elif option.metavar in CHOICES:
        line += f" -x -a '{' '.join(CHOICES[option.metavar])}'"
    elif option.metavar:
        line += " -x"
    return f"{line} -d '{text}'"
