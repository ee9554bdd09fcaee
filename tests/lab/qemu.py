# SPDX-License-Identifier: GPL-2.0-or-later
"""Run one guest under QEMU: watch its console, answer what it asks for, wait for its end.

The guest's scripts speak to the lab through lines on the serial console:

    LAB-ASK request     do this from outside and answer "ok" (see Machine.answers)
    LAB-FAIL reason     the guest gave up
    LAB-PANIC-NEXT      the workload is done, the next thing is the panic
    LAB-CRASH-KERNEL    the crash kernel's init runs
    LAB-COPIED size     the vmcore is on the disk
    LAB-DONE            the guest did what it should, and ends without a panic
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

from .cache import require_program
from .errors import LabError

_CONSOLE_TAIL_LINES = 30
_CONNECT_SECONDS = 60.0


class Monitor:
    """QEMU's machine protocol (QMP) over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        self._socket = _connect(path)
        self._stream = self._socket.makefile("rw", encoding="utf-8")
        self._stream.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command and give back its "return" value; raises LabError on an error."""
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self._stream.write(json.dumps(request) + "\n")
        self._stream.flush()
        while True:
            line = self._stream.readline()
            if not line:
                raise LabError(f"QEMU closed its monitor during {command}")
            reply = json.loads(line)
            if "error" in reply:
                raise LabError(f"QMP {command}: {reply['error'].get('desc')}")
            if "return" in reply:
                return reply["return"]

    def inflate_balloon(self, size_mib: int) -> None:
        """Ask the guest's balloon driver to take `size_mib` MiB from the guest."""
        summary = self.execute("query-memory-size-summary")
        total = summary["base-memory"] + summary.get("plugged-memory", 0)
        self.execute("balloon", value=total - (size_mib << 20))

    def dump_guest_memory(self, path: Path) -> None:
        """Write the guest's memory as an ELF core file; the guest stands still meanwhile."""
        self.execute("dump-guest-memory", paging=False, protocol=f"file:{path}")

    def close(self) -> None:
        """Close the connection; QEMU runs on."""
        self._stream.close()
        self._socket.close()


class Machine:
    """A running guest.

    `arguments` are QEMU's besides console and monitor; `directory` gets `console.log`.
    `answers` maps the first word of a LAB-ASK to what the lab does about it: it is called with the
    monitor and the request's other words.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        answers: dict[str, Callable[[Monitor, list[str]], None]],
    ) -> None:
        self.console_log = directory / "console.log"
        self._answers = answers
        self._lines: list[str] = []
        self._partial = b""
        qemu = require_program("qemu-system-x86_64", "qemu-system-x86")
        self._open = contextlib.ExitStack()
        stderr = self._open.enter_context((directory / "qemu.log").open("w"))
        # The path of a cache may be longer than a socket's name may be, so not there.
        sockets = self._open.enter_context(tempfile.TemporaryDirectory(prefix="lab-"))
        console, monitor = (Path(sockets) / name for name in ("console", "monitor"))
        self._process = subprocess.Popen(
            [
                qemu,
                *arguments,
                *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
                "-chardev",
                f"socket,id=console,path={console},server=on,wait=on,logfile=console.log",
                *("-serial", "chardev:console"),
                *("-qmp", f"unix:{monitor},server=on,wait=off"),
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
        try:
            self._console = self._open.enter_context(_connect(console, self._process))
            self._monitor = self._open.enter_context(contextlib.closing(Monitor(monitor)))
        except (OSError, LabError) as error:
            self.kill()
            complaint = (directory / "qemu.log").read_text("utf-8", "replace")
            raise LabError(f"QEMU did not start: {error}\n{complaint}") from error

    def run(self, timeout_seconds: float) -> None:
        """Serve the guest until QEMU ends; raises LabError if it failed or took too long."""
        deadline = time.monotonic() + timeout_seconds
        try:
            while self._serve_until(deadline):
                pass
            self._process.wait(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise LabError(self._with_tail("QEMU did not exit")) from None
        finally:
            self.kill()
        self._check_ending()

    def kill(self) -> None:
        """Make sure that QEMU is gone, and let go of all that led to it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._open.close()

    def has_seen(self, marker: str) -> bool:
        """Whether a console line held `marker`."""
        return any(marker in line for line in self._lines)

    def said(self, marker: str) -> list[str]:
        """What followed `marker` in each console line that held it."""
        return [line.partition(f"{marker} ")[2] for line in self._lines if f"{marker} " in line]

    def _serve_until(self, deadline: float) -> bool:
        """Handle the next console output; False at its end."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._console], [], [], left)[0]:
            raise LabError(self._with_tail("the guest was not done in time"))
        data = self._console.recv(65536)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip("\r")
            self._lines.append(line)
            self._handle(line)
        return bool(data)

    def _handle(self, line: str) -> None:
        # The workload writes its markers at the start of a line, but printk may come between.
        _, ask, request = line.partition("LAB-ASK ")
        if not ask:
            return
        word, *rest = request.split()
        if word not in self._answers:
            raise LabError(f"the guest asks for something unknown: {request}")
        self._answers[word](self._monitor, rest)
        self._console.sendall(b"ok\n")

    def _check_ending(self) -> None:
        failure = next((line for line in self._lines if "LAB-FAIL" in line), None)
        if failure:
            raise LabError(self._with_tail(failure.partition("LAB-FAIL ")[2]))
        if self.has_seen("LAB-DONE"):
            return
        if not self.has_seen("LAB-PANIC-NEXT"):
            what = "panicked before its workload was done" if self._panicked() else "ended early"
            raise LabError(self._with_tail(f"the guest {what}"))
        if not self.has_seen("LAB-CRASH-KERNEL"):
            raise LabError(
                self._with_tail(
                    "the guest panicked, but no crash kernel came up (crashkernel= too small?)"
                )
            )
        if not self.has_seen("LAB-COPIED"):
            raise LabError(self._with_tail("the crash kernel did not copy /proc/vmcore"))

    def _panicked(self) -> bool:
        return self.has_seen("Kernel panic - not syncing")

    def _with_tail(self, message: str) -> str:
        tail = "\n".join(self._lines[-_CONSOLE_TAIL_LINES:])
        return f"{message}; the last console lines of {self.console_log}:\n{tail}"


def _connect(path: Path, process: subprocess.Popen[bytes] | None = None) -> socket.socket:
    """Connect to a UNIX socket that QEMU is about to make."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if process is not None and process.poll() is not None:
                raise LabError(f"QEMU exited with status {process.returncode}") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
