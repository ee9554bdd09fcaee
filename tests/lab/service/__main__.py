# SPDX-License-Identifier: GPL-2.0-or-later
"""The service lab's command line: `python -m tests.lab.service debian|dracut|busybox|faults`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..cache import cache_dir
from ..errors import LabError
from ..kernels import KernelPackage, fetch
from . import checks
from .busybox import KERNEL, Busybox, run_busybox, run_faults
from .debian import PIPEFAIL_SETTINGS, Debian, run_debian
from .dracut import Dracut, run_dracut
from .machine import Cost
from .tree import kernel

LOGS = "service-logs"


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; gives the exit status."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    try:
        status: int = options.run(options)
    except LabError as error:
        print(f"service lab: {error}", file=sys.stderr)
        return 1
    print(f"{time.monotonic() - started:.0f} s in all", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.service",
        description="Panic a guest that has a kdump service, and look at the dump it leaves.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    debian = commands.add_parser("debian", help="Debian 12, systemd, unmodified kdump-tools")
    _add_options(debian, memory_mib=4096, crashkernel="256M")
    debian.add_argument("--no-record", action="store_true", help="nothing before the dumper")
    debian.add_argument("--kill", default="", metavar="SIGNAL:BYTES", help="in the middle")
    debian.add_argument("--pipefail", action="store_true", help="the line docs recommend")
    debian.add_argument("--settings", default="", help="more for /etc/default/kdump-tools")
    debian.add_argument("--target", type=int, default=2048, metavar="MIB", help="of /var/crash")
    debian.set_defaults(run=_debian)

    dracut = commands.add_parser("dracut", help="an initramfs of dracut's, kdump-utils' command")
    _add_options(dracut, memory_mib=2048, crashkernel="256M")
    dracut.add_argument("--cpus", type=int, default=1, help="of the crash kernel as well")
    dracut.set_defaults(run=_dracut)

    busybox = commands.add_parser("busybox", help="busybox and the stand-alone archive")
    _add_options(busybox, memory_mib=1024, crashkernel="192M")
    busybox.add_argument("--kernel", default=KERNEL, help="also patched-6.1, patched-6.12")
    busybox.add_argument("--noise", type=int, default=32, metavar="MIB", help="memory to fill")
    busybox.add_argument("--debian-python", action="store_true", help="instead of this one")
    busybox.set_defaults(run=_busybox)

    faults = commands.add_parser("faults", help="all that can go wrong with a dump")
    _add_options(faults, memory_mib=1024, crashkernel="256M")
    faults.set_defaults(run=_faults)
    return parser


def _add_options(parser: argparse.ArgumentParser, memory_mib: int, crashkernel: str) -> None:
    parser.add_argument("--dumper", default="pydumpfile", choices=("pydumpfile", "makedumpfile"))
    parser.add_argument("--memory", type=int, default=memory_mib, metavar="MIB")
    parser.add_argument("--crashkernel", default=crashkernel)
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to leave log and dump")


def _directory(options: argparse.Namespace, name: str) -> Path:
    directory: Path = options.output or cache_dir() / LOGS / f"{name}-{options.dumper}"
    return directory


def _debian(options: argparse.Namespace) -> int:
    settings = options.settings + "\n" if options.settings else ""
    guest = Debian(
        dumper=options.dumper,
        memory_mib=options.memory,
        crashkernel=options.crashkernel,
        settings=(PIPEFAIL_SETTINGS if options.pipefail else "") + settings,
        record=not options.no_record,
        kill=options.kill,
        target_mib=options.target,
    )
    run = run_debian(guest, _directory(options, "debian"))
    _tell(run.console, run.costs)
    return _look_at(run.crash, fetch(kernel()), options.dumper)


def _dracut(options: argparse.Namespace) -> int:
    guest = Dracut(options.dumper, options.memory, options.crashkernel, options.cpus)
    run = run_dracut(guest, _directory(options, "dracut"))
    _tell(run.console, run.costs)
    print(f"initramfs: {run.initrd_size} bytes")
    return _look_at(run.crash, fetch(kernel()), options.dumper)


def _busybox(options: argparse.Namespace) -> int:
    guest = Busybox(
        options.dumper,
        options.kernel,
        options.memory,
        options.crashkernel,
        options.noise,
        options.debian_python,
    )
    run = run_busybox(guest, _directory(options, f"busybox-{options.kernel}"))
    _tell(run.console, run.costs)
    return _look_at(run.crash, run.package, options.dumper)


def _faults(options: argparse.Namespace) -> int:
    vmlinux = fetch(kernel()).vmlinux()
    print("| case | dumper | service | what is left | drgn |\n|---|---|---|---|---|")
    for case in run_faults(options.dumper, _directory(options, "faults")):
        dumps = [path for path in case.files if path.name != "lost+found"]
        left = "; ".join(f"`{path.name}`: {checks.describe(path)}" for path in dumps) or "nothing"
        seen = [checks.try_autopsy(path, vmlinux) for path in dumps if not _is_stream(path)]
        print(f"| {case.name} | {case.dumper_status} | {case.service_status} | {left} "
              f"| {'; '.join(seen)} |", flush=True)  # fmt: skip
    return 0


def _tell(console: str, costs: Sequence[Cost]) -> None:
    for line in console.splitlines():
        if any(word in line for word in ("LAB-", "kdump", "dumpfile", "Kernel panic")):
            print(f"    {line}")
    for cost in costs:
        print(
            f"{' '.join(cost.argv)}\n"
            f"    status {cost.status}, peak {cost.max_rss_kib / 1024:.1f} MiB resident, "
            f"{cost.user_seconds + cost.system_seconds:.1f} s CPU under TCG, MemAvailable "
            f"{cost.available_before_kib / 1024:.0f} -> {cost.available_least_kib / 1024:.0f} "
            f"-> {cost.available_after_kib / 1024:.0f} MiB"
        )


def _look_at(crash: Path, package: KernelPackage | None, dumper: str) -> int:
    """Describe all files; rearrange streams; let drgn open what is a dump."""
    n_good = 0
    for path in sorted(path for path in crash.rglob("*") if path.is_file()):
        print(f"{path}: {checks.describe(path)}")
        dump = path
        if _is_stream(path):
            dump = path.with_name(f"{path.name}.rearranged")
            dump.unlink(missing_ok=True)
            status, text = checks.rearrange(path, dump, dumper)
            print(f"{dumper} -R: status {status} {text.strip()[-200:]}")
            if status:
                continue
            print(f"{dump}: {checks.describe(dump)}")
        if checks.describe(dump).startswith("complete"):
            if package:
                print(f"drgn: {checks.autopsy(dump, package.vmlinux())}")
            else:
                print(f"libkdumpfile: {checks.read_pages(dump, checks.PANIC_TEXT)}")
            n_good += 1
    print(f"{n_good} complete dump(s)")
    return 0 if n_good else 1


def _is_stream(path: Path) -> bool:
    return checks.describe(path).startswith("flattened")


if __name__ == "__main__":
    sys.exit(main())
