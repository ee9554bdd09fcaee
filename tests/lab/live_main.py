# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs `pydumpfile --mem-usage` in a guest, which then panics or is dumped (see live.py).

All in one process, so that what it holds is there in both. Pages of each kind are made first, so
that what changes by itself meanwhile is little beside them.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pydumpfile import cli

MIB = 1 << 20
CHURNERS = 2
F_SETPIPE_SZ = 1031


def main(ending: str) -> None:
    """Measure while nothing stands still, measure again in peace, end as `ending` says."""
    held = make_pages()
    with churning():
        status, said = mem_usage()
    say(f"LAB-CHURNED {status}")
    for line in said.splitlines():
        say(f"LAB-CHURN-SAID {line}")
    os.sync()
    time.sleep(3)
    status, said = mem_usage()
    for line in said.splitlines():
        say(f"LAB-SAID {line}")
    say(f"LAB-MEASURED {status}")
    time.sleep(2)  # for the serial line: what the kernel says goes in between
    if ending == "panic":
        say("LAB-PANIC-NEXT")
        Path("/proc/sysrq-trigger").write_text("c", "ascii")
    else:
        ask("dump")
        say("LAB-DONE")
        Path("/proc/sysrq-trigger").write_text("o", "ascii")
        time.sleep(60)
    del held


def make_pages() -> tuple[mmap.mmap, list[int]]:
    """User data, page cache with and without private data, and kernel data, some of it zeros.

    All of it stays until the result is given up.
    """
    memory = anonymous(160 * MIB)
    for off in range(0, len(memory), MIB):
        memory[off : off + MIB] = os.urandom(MIB)
    for path, size_mib in (("/plain/file", 96), ("/small-blocks/file", 64)):
        with open(path, "wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(MIB))
            file.flush()
            os.fsync(file.fileno())
    pipes = []
    for number in range(128):
        ends = os.pipe()
        fcntl.fcntl(ends[1], F_SETPIPE_SZ, MIB)
        os.write(ends[1], os.urandom(MIB) if number % 2 else bytes(MIB))
        pipes.extend(ends)
    return memory, pipes


def anonymous(size: int) -> mmap.mmap:
    """Memory of this process alone."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def mem_usage() -> tuple[int, str]:
    """Exit status and output of the command."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main(["--mem-usage", "/proc/kcore"])
    return status, said.getvalue()


@contextlib.contextmanager
def churning() -> Iterator[None]:
    """While this lasts, processes take and give back memory of every kind as fast as they can."""
    children = []
    for number in range(CHURNERS):
        child = os.fork()
        if child == 0:
            churn(number)
        children.append(child)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def churn(number: int) -> None:
    """Never returns."""
    while True:
        memory = anonymous(8 * MIB)
        for off in range(0, len(memory), mmap.PAGESIZE):
            memory[off] = 1
        for folder in ("/plain", "/small-blocks", "/tmp"):
            path = f"{folder}/churn{number}"
            Path(path).write_bytes(memory[:MIB])
            os.unlink(path)
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0)
        os.waitpid(grandchild, 0)
        memory.close()


def say(line: str) -> None:
    """Tell the host."""
    print(line, flush=True)


def ask(request: str) -> None:
    """Have the host do something, and wait for its "ok"."""
    with open("/dev/ttyS0", "r+b", buffering=0) as console:
        console.write(f"\nLAB-ASK {request}\n".encode())
        answer = b""
        while b"ok" not in answer:
            answer += console.read(64) or b""


main(sys.argv[1])
