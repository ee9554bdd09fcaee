# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sub-commands have in common: how they say what they are asked for, and how they fail."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Callable

from pydumpfile.cli.console import answer, write_line
from pydumpfile.errors import PydumpfileError


class Parser(argparse.ArgumentParser):
    """One whose ``--help`` fails where it cannot be written; that too is an answer."""

    def print_help(self, file: object = None) -> None:
        """To standard output, which is where it belongs; raises OutputError."""
        del file
        answer(self.format_help(), sys.stdout, end="")


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    do: Callable[[argparse.Namespace], int],
) -> int:
    """``do`` what the arguments say; returns the exit status."""
    try:
        return do(parser.parse_args(arguments))
    except PydumpfileError as error:
        write_line(f"pydumpfile: {error}", sys.stderr)
        return error.exit_code
