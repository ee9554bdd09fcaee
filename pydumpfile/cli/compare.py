# SPDX-License-Identifier: GPL-2.0-or-later
"""``pydumpfile compare``: what it is told, and what it says."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pydumpfile.cli.console import answer, write_line
from pydumpfile.cli.subcommand import Parser, run
from pydumpfile.comparison.compare import Request, compare
from pydumpfile.errors import OutputError
from pydumpfile.report.comparison import comparison_table

_DESCRIPTION = """\
Measures on this machine, in a crash kernel, how fast mem_map is read, pages are
judged and whole dumps made, in each way there is: by read and by mmap, in user
space and in the kernel, by pydumpfile and by makedumpfile. Writes no dump."""

_EPILOG = """\
What is not here (a kernel that judges pages, makedumpfile) is named, and left out.
exit status: 0, or 1 if the bitmaps of pydumpfile's ways differ, or a dump of its own
failed; else that of the error.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the sub-command; returns its exit status."""
    return run(parser(), arguments, _compare)


def _compare(options: argparse.Namespace) -> int:
    request = Request(
        path=options.vmcore,
        level=options.level,
        n_rounds=options.rounds,
        own_command=() if options.no_dumps else _own_command(),
        makedumpfile=options.makedumpfile,
    )
    comparison = compare(request, _ignore if options.quiet else _tell)
    if options.json:
        _write(options.json, comparison.to_json())
    if options.json != "-":
        answer(comparison_table(comparison), sys.stdout)
    return 0 if comparison.succeeded else 1


def _own_command() -> list[str]:
    """What started this process, less its arguments.

    Taken from the kernel, as in an initramfs it is ld.so that was started.
    """
    with open("/proc/self/cmdline", "rb") as file:
        words = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    return words[: len(words) - len(sys.argv[1:])]


def _write(path: str, text: str) -> None:
    if path == "-":
        answer(text, sys.stdout)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise OutputError(path, error.errno or 0, "writing the comparison") from error


def _tell(what: str) -> None:
    write_line(what, sys.stderr)


def _ignore(_: str) -> None:
    """Nothing is printed that the machine would be busy with while something is measured."""


def _rounds(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rounds, 1 to 1000")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """What it understands."""
    parser = Parser(
        prog="pydumpfile compare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("vmcore", metavar="VMCORE", nargs="?", default="/proc/vmcore",
                        help="(default: /proc/vmcore)")  # fmt: skip
    parser.add_argument("--rounds", metavar="N", type=_rounds, default=5,
                        help="of each step (default: 5)")  # fmt: skip
    parser.add_argument("--level", metavar="LEVEL", type=int, choices=range(32), default=31,
                        help="of the dumps (default: 31)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the same for programs; - prints it")
    parser.add_argument("--makedumpfile", metavar="PATH", default="makedumpfile",
                        help="which one (default: what PATH has)")  # fmt: skip
    parser.add_argument("--no-dumps", action="store_true", help="only read and judge")
    parser.add_argument("--quiet", action="store_true", help="do not tell what is being done")
    return parser
