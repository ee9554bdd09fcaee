# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole dumps by pydumpfile and by makedumpfile of one core, in turn, in one run.

    python -m tests.bench.against_makedumpfile CORE [CORE ...]

Each pair of commands runs alternately, the first round uncounted; the figures are medians and the
ratios are medians of the ratio within each round, so that a machine whose speed drifts does not
favour either. Times include starting the process and, for pydumpfile, waiting for the disk (fsync),
which makedumpfile does not do. Both write to the same folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

PAIRS = (
    (("-l", "-d", "31"), ("-l", "-d", "31")),
    (("-c", "-d", "31"), ("-c", "-d", "31")),
    (("-z", "-d", "31"), ("-l", "-d", "31")),
    (("-l", "-d", "0"), ("-l", "-d", "0")),
)
"""Options of ours beside options of theirs."""


class Run(NamedTuple):
    """One process, from start to end."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    output_mib: float


def run(command: list[str], output: Path) -> Run:
    """Run ``command``, which writes ``output``; the file is removed afterwards.

    :raises SystemExit: the command failed.
    """
    output.unlink(missing_ok=True)
    started = time.perf_counter()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    redirect = [(os.POSIX_SPAWN_DUP2, nowhere, 1), (os.POSIX_SPAWN_DUP2, nowhere, 2)]
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=redirect)
    os.close(nowhere)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(command)}: wait status {status}")
    size = output.stat().st_size / 2**20
    output.unlink()
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, size)


def compare(core: Path, folder: Path, repeats: int, n_threads: int) -> None:
    """Print one Markdown table for ``core``."""
    ours_output, theirs_output = folder / "ours", folder / "theirs"
    print(f"\n{core.parent.name}\n")
    print("| options | wall, s | CPU, s | peak RSS, MiB | dump, MiB | ratio of wall | of CPU |")
    print("|---|---|---|---|---|---|---|")
    for our_options, their_options in PAIRS:
        ours_command = [sys.executable, "-m", "pydumpfile", "--num-threads", str(n_threads)]
        ours_command += [*our_options, str(core), str(ours_output)]
        theirs_command = ["makedumpfile", *their_options, str(core), str(theirs_output)]
        rounds = [
            (run(ours_command, ours_output), run(theirs_command, theirs_output))
            for _ in range(repeats + 1)
        ][1:]
        wall, cpu = (
            statistics.median(ours[at] / theirs[at] for ours, theirs in rounds) for at in (0, 1)
        )
        for name, options, runs, ratios in (
            ("pydumpfile", our_options, [ours for ours, _ in rounds], f"{wall:.2f} | {cpu:.2f}"),
            ("makedumpfile", their_options, [theirs for _, theirs in rounds], "1 | 1"),
        ):
            median = Run(*(statistics.median(column) for column in zip(*runs)))
            print(
                f"| {name} {' '.join(options)} | {median.wall_seconds:.2f} "
                f"| {median.cpu_seconds:.2f} | {median.peak_mib:.0f} "
                f"| {median.output_mib:.1f} | {ratios} |"
            )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cores", metavar="CORE", nargs="+", type=Path, help="a vmcore")
    parser.add_argument("--repeats", type=int, default=5, help="counted rounds (default: 5)")
    parser.add_argument("--num-threads", type=int, default=1, help="of ours (default: 1)")
    parser.add_argument("--folder", type=Path, help="where both write (default: a temporary one)")
    options = parser.parse_args()
    if shutil.which("makedumpfile") is None:
        sys.exit("makedumpfile is not installed: apt-get install makedumpfile")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for core in options.cores:
            compare(core, Path(folder), options.repeats, options.num_threads)


if __name__ == "__main__":
    main()
