# SPDX-License-Identifier: GPL-2.0-or-later
"""``make bench``: pydumpfile beside makedumpfile in one run, written to docs/performance.md.

python -m tests.bench                      everything, about a quarter of an hour
python -m tests.bench --quick              a look, a few minutes; printed, not written down
python -m tests.bench whole memory         these sections only
python -m tests.bench --render             the document again from the figures stored beside it
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from . import loads, machine, memory, scanning, stages, threads, whole
from .contest import Contest
from .document import fill, section_text, summary_text
from .gates import Report
from .inputs import Inputs
from .plot import plot
from .process import CommandFailedError

SECTIONS: Mapping[str, ModuleType] = {
    "whole": whole,
    "scan": scanning,
    "threads": threads,
    "loads": loads,
    "memory": memory,
    "stages": stages,
}
DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "performance.md"
_FAST_FOLDER = Path("/dev/shm")


def main() -> int:
    """Measure, store, write down; the exit status does not tell whether gates hold."""
    options = _parser().parse_args()
    if shutil.which(options.makedumpfile) is None:
        print(f"bench: no {options.makedumpfile} here: apt-get install makedumpfile",
              file=sys.stderr)  # fmt: skip
        return 1
    names = options.sections or list(SECTIONS)
    for name in set(names) - set(SECTIONS):
        print(f"bench: no section {name}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 1
    try:
        if not options.render:
            _measure(names, options)
    except CommandFailedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if not options.quick:
        render(options.document)
        print(f"bench: {options.document} is written")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION",
                        help=f"of {', '.join(SECTIONS)} (default: all)")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds; print only")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--rounds", type=int, help="that are counted (default: 5; 2 with --quick)")
    parser.add_argument("--makedumpfile", metavar="PATH", default="makedumpfile")
    parser.add_argument("--folder", type=Path, default=_FAST_FOLDER,
                        help="where dumps are written (default: %(default)s, so that no disk is "
                        "measured)")  # fmt: skip
    parser.add_argument("--document", type=Path, default=DOCUMENT,
                        help="its figures lie beside it (default: %(default)s)")  # fmt: skip
    return parser


def _measure(names: list[str], options: argparse.Namespace) -> None:
    """Section by section, each stored as soon as it is there."""
    described = machine.describe(options.makedumpfile)
    n_rounds = options.rounds or (2 if options.quick else 5)
    inputs = Inputs()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        contest = Contest(inputs, Path(folder), options.makedumpfile, n_rounds, options.quick)
        try:
            for name in names:
                print(f"bench: {SECTIONS[name].TITLE}", file=sys.stderr, flush=True)
                load = machine.load()
                result = {
                    "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
                    "machine": described,
                    "load": load,
                    "found": SECTIONS[name].measure(contest),
                }
                if options.quick:
                    print(f"\n## {SECTIONS[name].TITLE}\n\n{_section(name, result)}", flush=True)
                else:
                    _store(options.document, name, result)
        finally:
            inputs.close()


def _store(document: Path, name: str, result: Mapping[str, Any]) -> None:
    path = document.with_suffix(".json")
    stored = json.loads(path.read_text("utf-8")) if path.exists() else {}
    stored[name] = result
    path.write_text(json.dumps(stored, indent=1, allow_nan=False) + "\n", "utf-8")


def _report(name: str, result: Mapping[str, Any]) -> Report:
    report: Report = SECTIONS[name].report(result["found"])
    return report


def _section(name: str, result: Mapping[str, Any]) -> str:
    return section_text(_report(name, result), result["when"], result["machine"], result["load"])


def render(document: Path) -> None:
    """Fill ``document`` from the figures beside it, and draw the plot."""
    stored = json.loads(document.with_suffix(".json").read_text("utf-8"))
    text = document.read_text("utf-8")
    known = [name for name in SECTIONS if name in stored]
    for name in known:
        text = fill(text, name, _section(name, stored[name]))
    reports = [(SECTIONS[name].TITLE, _report(name, stored[name])) for name in known]
    gates = [(title, report.gates) for title, report in reports if report.gates]
    document.write_text(fill(text, "summary", summary_text(gates)), "utf-8")
    if "whole" in stored:
        title = f"Wall time, makedumpfile's best = 1 ({whole.GATED}, full workload)"
        drawing = plot(title, whole.bars(stored["whole"]["found"]))
        document.with_suffix(".svg").write_text(drawing, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
