# SPDX-License-Identifier: GPL-2.0-or-later
"""``pydumpfile doctor``: what it is told, and what it says."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from pydumpfile.cli.console import answer
from pydumpfile.cli.subcommand import Parser, run
from pydumpfile.service import doctor
from pydumpfile.service.system import System

_DESCRIPTION = """\
Says whether a crash of this system would be dumped. Changes nothing."""

_EPILOG = """\
ok: good.  warn: a dump may fail.  fail: it would.  unknown: could not be told, see why.
exit status: 0 if nothing fails, else 1; 10 if this cannot be written.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the sub-command; returns its exit status."""
    return run(parser(), arguments, _examine)


def _examine(options: argparse.Namespace) -> int:
    findings = []
    named = [path and os.path.abspath(path) for path in (options.initrd, options.target)]
    for finding in doctor.examine_system(System(options.root), *named):
        findings.append(finding)
        if not options.json:
            answer(f"{finding.state:8}{finding.name + ':':18}{finding.found}", sys.stdout)
            if finding.advice:
                answer(f"{'':26}-> {finding.advice}", sys.stdout)
    failing = [finding.name for finding in findings if finding.state == doctor.FAIL]
    if options.json:
        report = {"ready": not failing, "findings": [finding._asdict() for finding in findings]}
        answer(json.dumps(report, indent=1), sys.stdout)
    elif failing:
        names = ", ".join(failing)
        answer(f"\nA crash of this system would not be dumped: {names}.", sys.stdout)
    return 1 if failing else 0


def parser() -> argparse.ArgumentParser:
    """What it understands."""
    parser = Parser(
        prog="pydumpfile doctor",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="the same for programs")
    parser.add_argument("--initrd", metavar="FILE", help="the crash kernel's initramfs")
    parser.add_argument("--target", metavar="DIR", help="where dumps go")
    parser.add_argument("--root", metavar="DIR", default="/", help=argparse.SUPPRESS)
    return parser
