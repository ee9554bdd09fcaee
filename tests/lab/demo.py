# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: crash a real kernel, write its dump, open the dump with drgn, tell what happened.

    python -m tests.lab.demo [--kernel 6.12-cloud]

The vmcore and the kernel's debugging information stay in the lab's cache, the dump beside them;
only the dump is written anew each time.  Exits with 1 if any step fails, the last one included:
drgn must name the task that is known to have panicked, and find panic() on its stack.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Callable

import drgn
from drgn.helpers.linux.mm import task_rss, totalram_pages
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_printk_records
from drgn.helpers.linux.sched import task_cpu, task_state_to_char
from drgn.helpers.linux.vmstat import global_node_page_state, nr_free_pages

import pydumpfile
from pydumpfile.report.summary import format_size

from .cache import cache_dir
from .cores import LabCore, cache_key, make_core
from .errors import LabError
from .guest import Guest
from .kernels import ALIASES, KernelPackage, fetch, resolve

WIDTH = 80
BAR_WIDTH = 22
LEVEL = 31
LOG_LINES = 12
USER_TASKS = 6


class DemoError(Exception):
    """The dump does not show what is known to have happened."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.demo",
        description="Crash a real kernel in QEMU, dump it with pydumpfile, read the dump by drgn.",
    )
    parser.add_argument(
        "--kernel",
        default="6.1-cloud",
        help=f"one of {', '.join(ALIASES)}, or a linux-image-* package (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    screen = Screen()
    try:
        core = crash(screen, options.kernel)
        dump = write_dump(screen, core)
        read_dump(screen, core, dump)
    except (LabError, DemoError, pydumpfile.PydumpfileError) as error:
        return screen.fail(str(error))
    except (drgn.FaultError, drgn.MissingDebugInfoError, LookupError, OSError) as error:
        return screen.fail(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        return screen.fail("interrupted")
    return 0


# What it looks like


class Screen:
    """Standard output: colours and moving lines on a terminal, plain text elsewhere."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._coloured = self.is_terminal and "NO_COLOR" not in os.environ
        encoding = (sys.stdout.encoding or "").lower().replace("-", "")
        self._block, self._shade = ("█", "░") if encoding == "utf8" else ("#", ".")
        self._begun = time.monotonic()

    def title(self, number: int, text: str) -> None:
        """The heading of a step."""
        print(f"\n{self.bold(f'{number}. {text}')}", flush=True)

    def line(self, text: str = "") -> None:
        """One line of a step."""
        print(f"   {text}".rstrip(), flush=True)

    def item(self, name: str, text: str) -> None:
        """A named fact, wrapped."""
        lines = textwrap.wrap(text, WIDTH - 13, break_on_hyphens=False) or [""]
        self.line(self.faint(f"{name:<9}") + " " + lines[0])
        for more in lines[1:]:
            self.line(" " * 10 + more)

    def event(self, stamp: str, text: str) -> None:
        """Something that happened; the first line of `text` has the stamp."""
        first, *more = text.split("\n")
        self.line(f"{self.faint(f'{stamp:>8}')}  {first}")
        for line in more:
            self.line(" " * 12 + self.faint(line))

    def transient(self, text: str) -> None:
        """A line that the next one replaces; only a terminal shows it."""
        if self.is_terminal:
            print(f"\r\033[K   {fit(text, WIDTH - 4)}", end="", flush=True)

    def clear_transient(self) -> None:
        """Make room for a line that stays."""
        if self.is_terminal:
            print("\r\033[K", end="", flush=True)

    def bar(self, share: float, kept: bool) -> str:
        """`share` of the memory as a bar."""
        length = round(share * BAR_WIDTH)
        if share and not length:
            length = 1
        return (self._block if kept else self._shade) * length

    def bold(self, text: str) -> str:
        return self._paint("1", text)

    def faint(self, text: str) -> str:
        return self._paint("2", text)

    def red(self, text: str) -> str:
        return self._paint("1;31", text)

    def green(self, text: str) -> str:
        return self._paint("32", text)

    def fail(self, message: str) -> int:
        """Say why the demo ends here; returns the exit status."""
        self.clear_transient()
        print(f"\ndemo: {message}", file=sys.stderr)
        return 1

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._coloured else text


class Watch:
    """While the body of a `with` works, print the lines that `poll` finds and the seconds spent."""

    _INTERVAL_SECONDS = 0.2

    def __init__(
        self, screen: Screen, what: str, poll: Callable[[], Iterable[str]] = lambda: ()
    ) -> None:
        self._screen, self._what, self._poll = screen, what, poll
        self._started = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._show()
        self._screen.clear_transient()

    def _run(self) -> None:
        while not self._over.wait(self._INTERVAL_SECONDS):
            self._show()
            self._screen.transient(f"{self.seconds:6.0f} s  {self._what} ...")

    def _show(self) -> None:
        for line in self._poll():
            self._screen.clear_transient()
            self._screen.event(f"{self.seconds:.1f} s", line)


# Step 1: a vmcore


def crash(screen: Screen, kernel_name: str) -> LabCore:
    """The small core of a kernel, from the cache or by crashing it now."""
    screen.title(1, "A Linux kernel panics")
    kernel = resolve(kernel_name)
    with Watch(screen, f"apt-get download {kernel.package}"):
        fetch(kernel)
    guest = Guest(kernel=kernel_name)
    screen.item("machine", f"QEMU, emulated, {guest.memory_mib} MiB and a DIMM of 128 MiB, KASLR")
    screen.item("kernel", f"{kernel.package} {kernel.version}, as Debian ships it")
    console = Console(screen, guest, kernel)
    with Watch(screen, "the guest runs", console.poll) as watch:
        core = make_core(guest)
    if console.seen:
        screen.item("made", f"{format_size(core.vmcore.stat().st_size)} in {watch.seconds:.0f} s")
    else:
        console.replay(core.log)
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(core.vmcore.stat().st_mtime))
        screen.item("from", f"the cache, there since {made}: {short(core.directory)}")
    return core


class Console:
    """The decisive lines of a guest's console, as a person would tell them."""

    def __init__(self, screen: Screen, guest: Guest, kernel: KernelPackage) -> None:
        self._screen = screen
        # The directory that a core is built in ends with its key; its whole name is the lab's.
        self._pattern = f"building/*-{cache_key(guest, kernel)}/console.log"
        self._off = 0
        self._partial = b""
        self._made: list[str] = []
        self._told: set[str] = set()
        self._stories: dict[str, Callable[[str], str]] = {
            "Linux version": lambda _: "the kernel boots",
            "LAB-READY": lambda _: "kexec -p: a crash kernel waits in reserved memory",
            "LAB-PANIC-NEXT": self._workload,
            "Kernel panic": lambda line: screen.red(line[line.index("Kernel panic") :]),
            "LAB-CRASH-KERNEL": lambda _: "the crash kernel is up and has /proc/vmcore",
            "LAB-COPIED": self._copied,
        }

    @property
    def seen(self) -> bool:
        """Whether there was anything to tell: no, if the core was there already."""
        return bool(self._told)

    def poll(self) -> Iterator[str]:
        """What happened since the last call."""
        for path in cache_dir().glob(self._pattern):
            yield from self._tell(self._read(path))

    def replay(self, log: Path) -> None:
        """Tell what happened when the core of `log` was made."""
        self._off = 0
        for text in self._tell(self._read(log)):
            self._screen.event("-", text)

    def _read(self, path: Path) -> list[str]:
        try:
            with path.open("rb") as file:
                file.seek(self._off)
                data = file.read()
        except FileNotFoundError:  # just renamed: the core is done
            return []
        self._off += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [line.decode("utf-8", "replace").strip() for line in lines]

    def _tell(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            made = re.search(r"LAB-NOTE made (\w+), ([1-9]\d*) MiB", line)
            if made:
                self._made.append(f"{made[1]} {made[2]}")
            for marker, tell in self._stories.items():
                if marker in line and marker not in self._told:
                    self._told.add(marker)
                    yield tell(line)

    def _workload(self, _: str) -> str:
        made = textwrap.wrap(", ".join(self._made), WIDTH - 16)
        return "\n".join(["memory holds every kind of page; some of it, in MiB:", *made])

    def _copied(self, line: str) -> str:
        size = re.search(r"LAB-COPIED (\d+)", line)
        return (
            f"/proc/vmcore is copied{f', {format_size(int(size[1]))}' if size else ''}; power off"
        )


# Step 2: the dump


def write_dump(screen: Screen, core: LabCore) -> Path:
    """Run pydumpfile on the core."""
    screen.title(2, f"pydumpfile -z -d {LEVEL} vmcore dump")
    dump = cache_dir() / "demo" / f"{core.kernel.release}.dump"
    dump.parent.mkdir(exist_ok=True)
    with pydumpfile.open(core.vmcore) as vmcore:
        screen.item("found", _identity(vmcore))
        started = time.monotonic()
        with Watch(screen, "pydumpfile works"):
            statistics = pydumpfile.dump(vmcore, dump, level=LEVEL, overwrite=True)
        seconds = time.monotonic() - started
    screen.line()
    for line in page_table(screen, statistics):
        screen.line(line)
    screen.line()
    before, after = core.vmcore.stat().st_size, statistics.bytes_written
    screen.item(
        "size", f"{format_size(before)} -> {format_size(after)}, {after / before:.0%} of the vmcore"
    )
    screen.item(
        "time", f"{seconds:.2f} s: judging pages {statistics.scan_seconds:.2f}, "
        f"copying and compressing {statistics.copy_seconds:.2f}",
    )  # fmt: skip
    screen.item("dump", short(dump))
    for warning in statistics.warnings:
        screen.item("warning", warning)
    return dump


def _identity(vmcore: pydumpfile.Vmcore) -> str:
    names, when = vmcore.utsname, ""
    if vmcore.crash_time:
        when = time.strftime(", crashed %Y-%m-%d %H:%M:%S UTC", time.gmtime(vmcore.crash_time))
    return f"{names.release} {names.machine}{when}" if names else "an unknown kernel"


def page_table(screen: Screen, statistics: pydumpfile.Statistics) -> Iterator[str]:
    """Pages by kind: what was left out and what was kept, with bars."""
    yield screen.faint(f"{'':<26}{'pages':>9} {'memory':>11} {'share':>7}")

    def row(label: str, pages: int, kept: bool | None = None) -> str:
        share = pages / statistics.existing
        size = format_size(pages * statistics.page_size)
        text = f"{label:<26}{pages:>9} {size:>11} {100 * share:>6.1f}%"
        if kept is None:
            return screen.bold(text)
        bar = screen.bar(share, kept)
        return f"{text}  {screen.green(bar) if kept else screen.faint(bar)}".rstrip()

    left_out = {kind.label: pages for kind, pages in statistics.left_out.items()}
    left_out["not in the vmcore"] = statistics.filtered_before
    yield row("memory of the machine", statistics.existing)
    yield row("left out", sum(left_out.values()))
    for label, pages in left_out.items():
        if pages:
            yield row(f"  {label}", pages, kept=False)
    yield row("kept", statistics.kept)
    yield row("  zero, stored once", statistics.zero, kept=True)
    yield row("  stored", statistics.stored, kept=True)
    if statistics.lost:
        yield row("  could not be read", statistics.lost, kept=True)


# Step 3: the story


def read_dump(screen: Screen, core: LabCore, dump: Path) -> None:
    """Open the dump with drgn and tell what it holds.

    Raises DemoError if that is not what is known of the crash.
    """
    screen.title(3, "drgn opens the dump")
    if not (core.kernel.directory / "vmlinux").exists():
        screen.item("symbols", "the kernel's -dbg package, hundreds of MB, once: patience")
    with Watch(screen, "apt-get download of the -dbg package") as fetching:
        vmlinux = core.vmlinux()
    if fetching.seconds > 1:
        screen.item("fetched", f"{format_size(vmlinux.stat().st_size)} in {fetching.seconds:.0f} s")
    prog = drgn.Program()
    prog.set_core_dump(dump)
    with Watch(screen, "drgn reads debugging information"):
        prog.load_debug_info([vmlinux])

    records = list(get_printk_records(prog))
    panics = [record for record in records if record.text.startswith(b"Kernel panic")]
    if not panics:
        raise DemoError("the kernel log in the dump holds no panic")
    screen.item("why", screen.red(printable(panics[0].text)))
    screen.item("uptime", f"{panics[0].timestamp / 1e9:.1f} s")
    tell_task(screen, core, prog.crashed_thread())
    tell_tasks(screen, prog)
    tell_memory(screen, core, prog)
    first = records.index(panics[0])
    screen.line()
    screen.line(screen.bold("kernel log, from the panic on"))
    for record in records[max(first - 1, 0) :][:LOG_LINES]:
        text = f"[{record.timestamp / 1e9:10.6f}] {printable(record.text)}"
        screen.line(screen.faint(fit(text, WIDTH - 3)))
    screen.line()
    screen.line("Have a look yourself:")
    screen.line(f"  .venv/bin/drgn -c {short(dump)} \\")
    screen.line(f"    -s {short(vmlinux)}")


def tell_task(screen: Screen, core: LabCore, thread: drgn.Thread) -> None:
    """Who panicked, and where."""
    comm = printable(thread.object.comm.string_())
    known = (core.truth["panic_pid"], core.truth["panic_comm"])
    if (thread.tid, comm) != known:
        raise DemoError(f"drgn finds that task {thread.tid} ({comm}) panicked, but {known} did")
    screen.item("who", f"{comm}, pid {thread.tid}, CPU {task_cpu(thread.object)}")
    screen.line()
    screen.line(screen.bold("its kernel stack"))
    names = []
    for number, frame in enumerate(thread.stack_trace()):
        names.append(frame.name)
        try:
            path, line, _ = frame.source()
            where = f"{re.sub(r'^/.*/linux-[^/]+/', '', path)}:{line}"
        except LookupError:
            where = "user space" if frame.pc < 1 << 63 else ""
        name = frame.name + (" (inlined)" if frame.is_inline else "")
        screen.line(f"{number:>3}  {name:<30} {screen.faint(where)}")
    if "panic" not in names:
        raise DemoError(f"there is no panic() on the stack: {', '.join(names)}")


def tell_tasks(screen: Screen, prog: drgn.Program) -> None:
    """How many tasks there were, and the processes among them."""
    page_size = prog["PAGE_SIZE"].value_()
    tasks = list(for_each_task(prog))
    users = [task for task in tasks if task.mm]
    screen.line()
    screen.line(
        screen.bold(f"{len(tasks)} tasks")
        + f", {len(tasks) - len(users)} of them kernel threads; the first with memory of their own"
    )
    screen.line(screen.faint(f"{'pid':>6} {'state':>6} {'resident':>11}  name"))
    for task in users[:USER_TASKS]:
        rss = format_size(task_rss(task).total * page_size)
        name = printable(task.comm.string_())
        screen.line(f"{task.pid.value_():>6} {task_state_to_char(task):>6} {rss:>11}  {name}")


def tell_memory(screen: Screen, core: LabCore, prog: drgn.Program) -> None:
    """The kernel's own account of its memory, and of the block it had given up."""
    page_size = prog["PAGE_SIZE"].value_()

    def size(pages: int) -> str:
        return format_size(pages * page_size)

    def state(name: str) -> int:
        return int(global_node_page_state(prog[name]))

    slab = state("NR_SLAB_RECLAIMABLE_B") + state("NR_SLAB_UNRECLAIMABLE_B")
    screen.line()
    screen.line(screen.bold("memory by the kernel's own counters"))
    screen.line(
        f"{size(totalram_pages(prog))} managed, {size(nr_free_pages(prog))} free, "
        f"{size(state('NR_FILE_PAGES'))} page cache,"
    )
    screen.line(f"{size(state('NR_ANON_MAPPED'))} anonymous, {size(slab)} slab")
    if core.truth["offlined_block"]:
        first_pfn, end_pfn = core.truth["offlined_block"]
        try:
            prog.read(first_pfn * page_size, page_size, physical=True)
            fate = "kept: nobody can say what was in them"
        except drgn.FaultError:
            fate = "left out"
        screen.line(f"besides, {size(end_pfn - first_pfn)} taken offline, {fate}")


def printable(text: bytes) -> str:
    """Bytes of the dead kernel as a terminal may show them."""
    return "".join(c if c.isprintable() else "?" for c in text.decode("utf-8", "replace"))


def fit(text: str, width: int) -> str:
    """`text`, cut to `width`."""
    return text if len(text) <= width else text[: width - 3] + "..."


def short(path: Path) -> str:
    """`path` with ~ for the home directory."""
    home = str(Path.home())
    text = str(path)
    return "~" + text[len(home) :] if text.startswith(home + "/") else text


if __name__ == "__main__":
    sys.exit(main())
