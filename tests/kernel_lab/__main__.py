# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel lab's command line: build kernels with the series, run the boot matrix, measure."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.lab.cache import cache_dir
from tests.lab.errors import LabError

from .builder import build_image
from .comparison import command as comparison
from .filtering import filter_cases, run_filter_case
from .matrix import cases, run_case, run_first_patches
from .measure import measure, measure_mapping
from .plot import plot
from .series import BASES, series

LOGS = "kernel-logs"


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; gives the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options, cache_dir() / LOGS)
    except LabError as error:
        print(f"kernel lab: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.kernel_lab",
        description=(__doc__ or "").partition(":")[2].strip().capitalize(),
        epilog=f"Kernels are kept in {cache_dir()}/kernels-built, consoles in {LOGS}.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="build a kernel, or find it, and print its directory")
    build.add_argument("bases", nargs="*", default=BASES, metavar="BASE", help="6.1, 6.12")
    build.set_defaults(run=_build)

    matrix = commands.add_parser("matrix", help="run the boot matrix and judge it")
    matrix.add_argument("bases", nargs="*", default=BASES, metavar="BASE", help="6.1, 6.12")
    names = ", ".join(case.name for case in cases())
    matrix.add_argument("--case", action="append", help=f"only this one of {names}")
    matrix.set_defaults(run=_matrix)

    lists = commands.add_parser("lists", help="the kernel's filter against pydumpfile's own")
    lists.add_argument("bases", nargs="*", default=BASES, metavar="BASE", help="6.1, 6.12")
    names = ", ".join(case.name for case in filter_cases())
    lists.add_argument("--case", action="append", help=f"only this one of {names}")
    lists.set_defaults(run=_lists)

    each = commands.add_parser("each-patch", help="boot with the first patch, the first two, ...")
    each.add_argument("base", choices=BASES)
    each.set_defaults(run=_each_patch)

    table = commands.add_parser("table", help="measure reading with growing blocks")
    table.add_argument("base", choices=BASES)
    table.add_argument("--icount", action="store_true", help="count instructions, and gate")
    table.add_argument("--save", type=Path, metavar="JSON", help="keep the figures")
    table.set_defaults(run=_table)

    mapping = commands.add_parser("mapping", help="what mapping so much memory costs")
    mapping.add_argument("base", choices=BASES)
    mapping.add_argument("memory_mib", type=int)
    mapping.add_argument("--cpu", default="max", help="qemu64 has no 1G pages (default: max)")
    mapping.set_defaults(run=_mapping)

    comparison.add_parser(commands)

    drawing = commands.add_parser("plot", help="draw saved tables")
    drawing.add_argument("tables", nargs="+", type=Path, metavar="JSON")
    drawing.add_argument("--output", type=Path, required=True, metavar="SVG")
    drawing.set_defaults(run=_plot)
    return parser


def _build(options: argparse.Namespace, _: Path) -> int:
    for base in options.bases:
        started = time.monotonic()
        directory = build_image(base).directory
        print(f"{base}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        print(directory)
    return 0


def _matrix(options: argparse.Namespace, logs: Path) -> int:
    wanted = [case for case in cases() if not options.case or case.name in options.case]
    if not wanted:
        raise LabError(f"no case is called {', '.join(options.case)}")
    n_failed = 0
    for base in options.bases:
        for case in wanted:
            started = time.monotonic()
            try:
                outcome = run_case(case, base, logs)
            except LabError as error:
                print(f"FAILED {base} {case.name}: {error}", flush=True)
                n_failed += 1
                continue
            n_failed += bool(outcome.errors)
            print(
                f"{'FAILED' if outcome.errors else 'ok':6} {base} {case.name}: "
                f"{outcome.n_hashes} x {outcome.digest[:12]}, {outcome.mapped}, "
                f"tables {outcome.tables} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
            for error_text in outcome.errors:
                print(f"       {error_text}", flush=True)
    return 1 if n_failed else 0


def _lists(options: argparse.Namespace, logs: Path) -> int:
    wanted = [case for case in filter_cases() if not options.case or case.name in options.case]
    if not wanted:
        raise LabError(f"no case is called {', '.join(options.case)}")
    n_failed = 0
    for base in options.bases:
        for case in wanted:
            started = time.monotonic()
            errors = run_filter_case(case, base, logs)
            n_failed += bool(errors)
            print(
                f"{'FAILED' if errors else 'ok':6} {base} {case.name}: "
                f"{', '.join(case.wanted)} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
            for error_text in errors:
                print(f"       {error_text}", flush=True)
    return 1 if n_failed else 0


def _each_patch(options: argparse.Namespace, logs: Path) -> int:
    n_failed = 0
    for i, patch in enumerate(series(options.base)):
        errors = run_first_patches(options.base, i + 1, logs)
        n_failed += bool(errors)
        print("\n".join([f"{'FAILED' if errors else 'ok':6} {patch.name}", *errors]), flush=True)
    return 1 if n_failed else 0


def _table(options: argparse.Namespace, logs: Path) -> int:
    table = measure(options.base, logs, icount=options.icount)
    if options.save:
        table.save(options.save)
    unit = "bytes per 1000 instructions" if options.icount else "MB/s"
    print(f"{table.base}, {unit}; plain copy in the kernel {table.kernel_copy:.0f}, ", end="")
    print(f"in user space {table.user_copy:.0f}; spread {table.spread:.1%}")
    print(table.markdown(), end="")
    if not options.icount:
        return 0
    for error_text in table.gate_errors():
        print(f"gate missed: {error_text}")
    return 1 if table.gate_errors() else 0


def _mapping(options: argparse.Namespace, logs: Path) -> int:
    print(measure_mapping(options.base, options.memory_mib, options.cpu, logs))
    return 0


def _plot(options: argparse.Namespace, _: Path) -> int:
    plot(options.tables, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
