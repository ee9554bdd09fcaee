# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion for zsh."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.cli.options import Option

from .words import CHOICES, FILE_NAMES, MADE, OFFERED, brief, subcommands

_TEXT = """\
#compdef pydumpfile
# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of pydumpfile for zsh. {made}

case $words[2] in
{subcommands}
*)
    _arguments -s -S \\
{options}
        '1:memory image or subcommand:{{_alternative "files:memory image:_files" "commands:subcommand:({names})"}}' \\
        '*:file:_files'
    ;;
esac
"""  # noqa: E501


def completion() -> str:
    """The script."""
    return _TEXT.format(
        made=MADE,
        options=" \\\n".join(f"        {_spec(option)}" for option in OFFERED) + " \\",
        names=" ".join(each.name for each in subcommands()),
        subcommands="\n".join(_subcommands()),
    )


def _subcommands() -> Iterator[str]:
    for each in subcommands():
        yield f"{each.name})"
        yield f"    _arguments {' '.join(each.flags)} '*:file:_files'"
        yield "    ;;"


def _spec(option: Option) -> str:
    """One argument of _arguments, as ``'-d+[leave out pages]:LEVEL:(31 1)'``."""
    text = brief(option).replace("[", "\\[").replace("]", "\\]").replace("'", "'\\''")
    takes = ""
    if option.metavar:
        name = option.metavar.partition("[")[0]
        if option.metavar in FILE_NAMES:
            action = "_files"
        else:
            action = f"({' '.join(CHOICES[option.metavar])})" if option.metavar in CHOICES else ""
        takes = f":{name}:{action}"
    flags = [
        flag + (("=" if flag[:2] == "--" else "+") if option.metavar else "")
        for flag in option.flags.split()
    ]
    if len(flags) == 1:
        return f"'{flags[0]}[{text}]{takes}'"
    return f"'({option.flags})'{{{','.join(flags)}}}'[{text}]{takes}'"
