# SPDX-License-Identifier: GPL-2.0-or-later
"""What the capture path is made of: the modules and libraries that a rehearsal really loads.

The command is run by the interpreter itself, not the environment it was installed into (``-I -S``,
as in the initramfs), and at its end each process tells what it loaded: ``sys.modules``, and the
shared objects mapped into it: the linked ones, ld.so, and whatever was opened by dlopen().
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydumpfile.service.rehearsal import ENVIRONMENT, TIME_LIMIT_S, RehearsalError, rehearse

START = "import sys; del sys.argv[0]; from pydumpfile.cli import entry; entry()"
"""The command as an interpreter's ``-c``; the name it goes by is the argument behind."""
INTERPRETER_OPTIONS = ("-I", "-S")

_TRACED = f"""
import sys
report, places = sys.argv[1:3]
del sys.argv[1:3]
standard = list(sys.path)
sys.path += places.split(":")
try:
    {START}
finally:
    with open(report, "w", encoding="utf-8") as file:
        for name, module in sorted(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            if spec is not None and spec.name != name:  # put in its place by the module itself
                parent = sys.modules.get(name.rpartition(".")[0])
                # importlib's own parts are frozen, by other names.
                if hasattr(parent, "__path__") and not name.startswith("importlib."):
                    spec = sys.meta_path[-1].find_spec(name, parent.__path__)
            if name != "__main__" and spec is not None and spec.has_location:
                package = spec.submodule_search_locations is not None
                print("module", spec.name, spec.origin, package, sep="\\t", file=file)
        print("standard", *standard, sep="\\t", file=file)
        print("prefix", sys.base_prefix, sep="\\t", file=file)
        with open("/proc/self/maps", encoding="utf-8") as maps:
            for line in maps:
                fields = line.rstrip("\\n").split(None, 5)
                if len(fields) == 6 and "x" in fields[1] and fields[5].startswith("/"):
                    print("object", fields[5], sep="\\t", file=file)
"""


class Module(NamedTuple):
    """One module that lies in a file: Python's (``.py``, ``.pyc``) or an extension (``.so``)."""

    name: str
    path: str
    is_package: bool

    @property
    def is_extension(self) -> bool:
        return not self.path.endswith((".py", ".pyc"))


class CapturePath(NamedTuple):
    """All that a dump takes."""

    interpreter: str
    """The program itself: no link, no wrapper."""
    prefix: str
    """Where the interpreter is installed; ``standard`` places are relative to it."""
    standard: tuple[str, ...]
    """Where it looks for modules by itself: a zip, the standard library, its extensions."""
    modules: tuple[Module, ...]
    libraries: tuple[str, ...]
    """Shared objects that are neither the interpreter nor modules; ld.so is among them."""


def trace(codecs: Iterable[str], compares: bool = False) -> tuple[CapturePath, dict[str, str]]:
    """Rehearse with ``codecs`` on this system, and watch.

    :param compares: take along what `pydumpfile compare` needs as well.
    :return: what was used; and the digests of the rehearsal.
    :raises RehearsalError: the rehearsal failed.
    """
    interpreter = os.path.realpath(sys.executable)
    reports: list[str] = []
    with tempfile.TemporaryDirectory(prefix="pydumpfile-") as scratch:
        stage = os.path.join(scratch, "stage")
        os.mkdir(stage)

        def run(program: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
            report = os.path.join(scratch, f"report{len(reports)}")
            reports.append(report)
            return start_process(
                [interpreter, *INTERPRETER_OPTIONS, "-B", "-c", _TRACED, report,
                 ":".join(_places()), program, *arguments]
            )  # fmt: skip

        digests = rehearse(run, stage, codecs, compares=compares)
        lines = set()
        for report in reports:
            with open(report, encoding="utf-8") as file:
                lines.update(file.read().splitlines())
    return _read_report(interpreter, lines), digests


def start_process(command: Sequence[str], root: str = "/") -> subprocess.CompletedProcess[bytes]:
    """Run ``command`` with the environment of a crash kernel, with ``root`` as its root.

    :raises RehearsalError: it cannot be started, or does not end.
    """

    def enter() -> None:
        os.chroot(root)
        os.chdir("/")

    try:
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=TIME_LIMIT_S,
            preexec_fn=enter if root != "/" else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RehearsalError(f"rehearsal: {command[0]} cannot be run: {error}") from error


def _places() -> list[str]:
    """Where pydumpfile and what it needs beside the standard library are installed."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sites = (p for p in sys.path if os.path.basename(p) in {"site-packages", "dist-packages"})
    return [os.path.dirname(package), *sites]


def _read_report(interpreter: str, lines: Iterable[str]) -> CapturePath:
    modules: set[Module] = set()
    objects: set[str] = set()
    standard: tuple[str, ...] = ()
    prefix = ""
    for line in sorted(lines):
        what, *fields = line.split("\t")
        if what == "module":
            modules.add(Module(fields[0], fields[1], fields[2] == "True"))
        elif what == "object":
            objects.add(fields[0])
        elif what == "standard":
            standard = tuple(fields)
        else:
            prefix = fields[0]
    own = {os.path.realpath(module.path) for module in modules} | {interpreter}
    return CapturePath(
        interpreter=interpreter,
        prefix=prefix,
        standard=standard,
        modules=tuple(sorted(modules)),
        libraries=tuple(sorted(path for path in objects if os.path.realpath(path) not in own)),
    )
