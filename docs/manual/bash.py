# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion for bash, with nothing but bash itself."""

from __future__ import annotations

from collections.abc import Iterator

from .words import CHOICES, FILE_NAMES, MADE, OFFERED, subcommands

_TEXT = """\
# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of pydumpfile for bash. {made}

_pydumpfile()
{{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    local words=
    # "--option=value" is three words to bash.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case ${{COMP_WORDS[1]}} in
{subcommands}
    *)
        case $prev in
{arguments}
        esac
        if [[ $cur == -* ]]; then
            words='{flags}'
        elif [[ $COMP_CWORD == 1 ]]; then
            words='{names}'
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(
        compgen -W "$words" -- "$cur"
        if [[ $cur != -* ]]; then
            compgen -f -- "$cur"
        fi
    )
    compopt -o filenames
}} &&
    complete -F _pydumpfile pydumpfile
"""


def completion() -> str:
    """The script."""
    flags = " ".join(flag for option in OFFERED for flag in option.flags.split())
    return _TEXT.format(
        made=MADE,
        flags=flags,
        names=" ".join(each.name for each in subcommands()),
        subcommands="\n".join(_subcommands()),
        arguments="\n".join(_arguments()),
    )


def _subcommands() -> Iterator[str]:
    for each in subcommands():
        yield f"    {each.name})"
        yield f"        words='{' '.join(each.flags)}'"
        yield "        ;;"


def _arguments() -> Iterator[str]:
    """What comes behind the options that take something."""
    by_metavar: dict[str, list[str]] = {}
    for option in OFFERED:
        if option.metavar:
            kind = "files" if option.metavar in FILE_NAMES else option.metavar
            kind = kind if kind == "files" or kind in CHOICES else ""
            by_metavar.setdefault(kind, []).extend(option.flags.split())
    for kind, flags in by_metavar.items():
        yield f"        {' | '.join(flags)})"
        if kind == "files":
            yield '            mapfile -t COMPREPLY < <(compgen -f -- "$cur")'
            yield "            compopt -o filenames"
        elif kind:
            words = " ".join(CHOICES[kind])
            yield f"            mapfile -t COMPREPLY < <(compgen -W '{words}' -- \"$cur\")"
        yield "            return"
        yield "            ;;"
