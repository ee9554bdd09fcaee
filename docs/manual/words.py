# SPDX-License-Identifier: GPL-2.0-or-later
"""What every shell wants to know of the command line: options, what they take, the subcommands."""

from __future__ import annotations

import re
from typing import NamedTuple

from pydumpfile.cli import compare, doctor, initramfs
from pydumpfile.cli.options import OPTIONS, Option
from pydumpfile.codecs import AUTO, NAMES
from pydumpfile.filter.filter_in import FilterIn

MADE = "Made by `python -m docs.manual` from the table of options; do not edit."

OFFERED = tuple(option for option in OPTIONS if option.help)
"""Those worth completing: what is refused, or changes nothing, is not."""

FILE_NAMES = frozenset({"FILE", "VMLINUX"})
"""Metavars that stand for files; the others' arguments can only be thought of."""

CHOICES = {
    "CODEC": (*NAMES, AUTO),
    "LEVEL[,...]": ("31", "1"),
    "WHERE": tuple(one.value for one in FilterIn),
}
"""What is offered for a metavar."""


class Subcommand(NamedTuple):
    """``pydumpfile doctor`` and the like."""

    name: str
    help: str
    flags: tuple[str, ...]


def subcommands() -> tuple[Subcommand, ...]:
    """With their options, as their own usage lists them."""
    return tuple(
        Subcommand(name, text, tuple(dict.fromkeys(re.findall(r"--[a-z-]+", usage))))
        for name, text, usage in (
            (
                "compare",
                "measure which way of filtering is the fastest",
                compare.parser().format_usage(),
            ),
            ("doctor", "say whether a crash would be dumped here", doctor.parser().format_usage()),
            (
                "initramfs",
                "put pydumpfile into a crash initramfs",
                initramfs.parser().format_usage(),
            ),
        )
    )


def brief(option: Option) -> str:
    """Its help as far as fits beside it in a list."""
    return re.split(r";| \(", option.help)[0]
