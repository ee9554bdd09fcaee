# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's command line: `python -m tests.lab make|list|clean`."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import fields
from pathlib import Path

from .cache import cache_dir
from .cores import is_current, list_cores, make_core
from .errors import LabError
from .guest import Guest
from .inkdump import DEFAULT_ARGUMENTS, dump_inside
from .kernels import ALIASES


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; gives the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description="Make real Linux crash cores by crashing Debian kernels in QEMU.",
        epilog=f"Cores and kernels are kept in {cache_dir()}.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser(
        "make", help="make a core (or find it in the cache) and print its directory"
    )
    _add_guest_options(make)
    make.add_argument("--vmlinux", action="store_true", help="also fetch the debug vmlinux")
    make.set_defaults(run=_make)

    inside = commands.add_parser(
        "inkdump", help="crash a guest and run pydumpfile in its crash kernel"
    )
    _add_guest_options(inside)
    inside.add_argument("--output", type=Path, required=True, help="directory to make")
    inside.add_argument(
        "--arguments",
        default=" ".join(DEFAULT_ARGUMENTS),
        help='for pydumpfile, as --arguments="-z -d 31", which is the default',
    )
    inside.set_defaults(run=_inkdump)

    listing = commands.add_parser("list", help="list the cores in the cache")
    listing.set_defaults(run=_list)

    clean = commands.add_parser("clean", help="remove cores from the cache")
    clean.add_argument(
        "--outdated", action="store_true", help="only cores that a changed lab no longer finds"
    )
    clean.add_argument("--kernels", action="store_true", help="remove unpacked kernels as well")
    clean.set_defaults(run=_clean)
    return parser


def _add_guest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kernel", help=f"one of {', '.join(ALIASES)}, or a linux-image-* package name"
    )
    parser.add_argument("--memory", default="384M", help="memory at boot (default: %(default)s)")
    parser.add_argument(
        "--workload",
        default="small",
        choices=("small", "full", "none"),
        help="how much of each kind of page to make (default: %(default)s)",
    )
    parser.add_argument(
        "--cpu",
        default="max",
        help='QEMU CPU model: "max" pages with 5 levels, "max,-la57" with 4, "qemu64" has no 1G '
        "pages either (default: %(default)s)",
    )
    parser.add_argument("--numa", type=int, default=1, metavar="N", help="NUMA nodes")
    parser.add_argument("--smp", type=int, default=1, metavar="N", help="CPUs")
    parser.add_argument("--crashkernel", metavar="SIZE", help="memory for the crash kernel")
    parser.add_argument(
        "--extra-cmdline", default="", metavar="WORDS", help="more kernel parameters"
    )
    parser.add_argument(
        "--dump-guest-memory", action="store_true", help="also keep QEMU's own ELF core"
    )


def _guest(options: argparse.Namespace) -> Guest:
    return Guest(**{field.name: getattr(options, field.name) for field in fields(Guest)})


def _make(options: argparse.Namespace) -> int:
    guest = _guest(options)
    started = time.monotonic()
    core = make_core(guest)
    if options.vmlinux:
        core.vmlinux()
    print(f"{core.kernel.release}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(core.directory)
    return 0


def _inkdump(options: argparse.Namespace) -> int:
    run = dump_inside(_guest(options), options.output, options.arguments.split())
    print(run.console, end="")
    print(f"status {run.status}, {run.cost}: {run.dump}")
    return run.status


def _list(_: argparse.Namespace) -> int:
    for core in list_cores():
        size_mib = core.vmcore.stat().st_blocks * 512 >> 20
        mark = "" if is_current(core) else "  (outdated)"
        print(f"{size_mib:6} MiB  {core.directory}{mark}")
    return 0


def _clean(options: argparse.Namespace) -> int:
    for core in list_cores():
        if not options.outdated or not is_current(core):
            shutil.rmtree(core.directory)
    shutil.rmtree(cache_dir() / "building", ignore_errors=True)
    if options.kernels:
        shutil.rmtree(cache_dir() / "kernels", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
