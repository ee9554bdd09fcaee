# SPDX-License-Identifier: GPL-2.0-or-later
"""``pydumpfile initramfs``: what it is told, and what it says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from pydumpfile.cli.console import answer
from pydumpfile.cli.subcommand import Parser, run
from pydumpfile.service import initramfs, install

_DESCRIPTION = """\
Puts the part of pydumpfile that dumps, with the Python it takes, into the
initramfs of a crash kernel, and proves by a rehearsal that it works in there."""

_EPILOG = """\
examples:
  pydumpfile initramfs --install dracut            from now on, whenever kdump's initramfs is made
  pydumpfile initramfs --cpio /boot/pydumpfile.cpio --codec zstd
  cat initrd.img /boot/pydumpfile.cpio > initrd-with-pydumpfile.img
"""


def main(arguments: Sequence[str]) -> int:
    """Run the sub-command; returns its exit status."""
    return run(parser(), arguments, _pack)


def _pack(options: argparse.Namespace) -> int:
    if options.install:
        path = install.install(options.install, _passed_on(options), options.root)
        answer(f"wrote {path}", sys.stdout)
        return 0
    codecs = initramfs.choose_codecs(options.codec)
    if options.tree:
        report = initramfs.add_to_tree(
            options.tree, codecs, options.as_makedumpfile, options.with_compare
        )
    else:
        report = initramfs.write_cpio(
            options.cpio, codecs, options.as_makedumpfile, options.compress,
            options.with_compare,
        )  # fmt: skip
    answer("\n".join(_lines(report, options.tree or options.cpio)), sys.stdout)
    return 0


def _lines(report: initramfs.Report, where: str) -> list[str]:
    lines = [
        f"pydumpfile added to {where}: {report.n_files} files, {_mb(report.unpacked)} unpacked, "
        f"{_mb(report.gzipped)} with gzip; codecs: {', '.join(report.codecs) or 'none'}"
    ]
    if report.written:
        lines.append(f"the archive has {_mb(report.written)}")
    if report.shared:
        lines.append(f"shared with what is there: {', '.join(report.shared)}")
    lines.append(
        "rehearsed in there: dumps, threads, a pipe, the kernel log, a failure"
        + ("" if report.isolated else " (but not cut off from this system: that takes root)")
    )
    return lines


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"


def _passed_on(options: argparse.Namespace) -> list[str]:
    """The options that a hook calls this command with."""
    passed = ["--codec", ",".join(options.codec)] if options.codec is not None else []
    passed += ["--as-makedumpfile"] if options.as_makedumpfile else []
    return [*passed, "--with-compare"] if options.with_compare else passed


def _codecs(text: str) -> Optional[list[str]]:
    return [name.strip() for name in text.split(",") if name.strip()]


def parser() -> argparse.ArgumentParser:
    """What it understands."""
    parser = Parser(
        prog="pydumpfile initramfs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--tree", metavar="DIR", help="an initramfs that is being built")
    what.add_argument("--cpio", metavar="FILE", help="an archive to append to a finished one")
    what.add_argument("--install", choices=sorted(install.HOOKS),
                      help="write the hook that calls this with --tree")  # fmt: skip
    parser.add_argument("--codec", metavar="LIST", type=_codecs,
                        help="codecs to take along, as zstd,lzo (default: those there are of "
                        f"{', '.join(initramfs.USUAL_CODECS)})")  # fmt: skip
    parser.add_argument("--as-makedumpfile", action="store_true",
                        help="answer to that name too, in place of the one in there")  # fmt: skip
    parser.add_argument("--with-compare", action="store_true",
                        help="take along what `pydumpfile compare` needs")  # fmt: skip
    parser.add_argument("--compress", choices=initramfs.COMPRESSIONS, default="none",
                        help="compress the archive (default: none)")  # fmt: skip
    parser.add_argument("--root", metavar="DIR", default="/", help=argparse.SUPPRESS)
    return parser
