# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts a command from a process that is small, waits for it, and tells what it took.

    python -I -S alone.py COMMAND...

To descriptor 3 go its process id and a newline, then "ENDED STATUS WALL_S CPU_S PEAK_KIB" with the
wait status as it came; or just "FAILED REASON" if it could not be started.

A process inherits the peak of whoever started it: fork shares the memory that exec then accounts
for. So no command can seem smaller than this one, which takes 9 MiB, but none seems larger because
the benchmark is.
"""

from __future__ import annotations

import os
import sys
import time

REPORT_FD = 3


def main() -> None:
    """Nothing is imported that is not there already."""
    command = sys.argv[1:]
    os.set_inheritable(REPORT_FD, False)
    started = time.perf_counter()
    try:
        pid = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        told = f"FAILED {error.strerror}"
    else:
        os.write(REPORT_FD, f"{pid}\n".encode())
        _, status, usage = os.wait4(pid, 0)
        wall_s = time.perf_counter() - started
        cpu_s = usage.ru_utime + usage.ru_stime
        told = f"ENDED {status} {wall_s} {cpu_s} {usage.ru_maxrss}"
    os.write(REPORT_FD, told.encode())


if __name__ == "__main__":
    main()
