# SPDX-License-Identifier: GPL-2.0-or-later
"""The command from its first moment to its last: signals, and what cannot be loaded."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pydumpfile import cli
from pydumpfile.errors import OutOfMemoryError
from pydumpfile.sinks.kdump import KdumpSink
from tests.builders import BuiltCore
from tests.sinks.kdump_reader import Dump
from tests.test_dump import check_prefix

ON_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            {action}
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this
sys.argv[0] = {program!r}
from pydumpfile.cli import entry
entry()
"""
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOADED = (
    "pydumpfile.cli.console", "pydumpfile.cli.command", "pydumpfile.dump",
    "pydumpfile.packing.native",
)  # fmt: skip
"""By the command when it dumps; the last when it is about to."""


def dumping(code: str, core: BuiltCore, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, "-d", "31", "-c", str(core.path), str(target)],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("program", ["pydumpfile", "makedumpfile"])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", LOADED[:-1])
def test_a_signal_while_it_is_loaded_ends_it_quietly(
    small: BuiltCore, tmp_path: Path, name: str, number: int, program: str
) -> None:
    action = f"os.kill(os.getpid(), {int(number)})"
    code = ON_IMPORT.format(name=name, action=action, program=program)
    done = dumping(code, small, tmp_path / "dump")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not (tmp_path / "dump").exists()


def test_hardly_anything_is_loaded_before_signals_are_seen_to() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import pydumpfile.cli\n"
        "print(*sorted(name for name in set(sys.modules) - before if 'pydumpfile' in name))\n"
        "print(*{'typing', 'contextlib', 'ctypes'} & set(sys.modules) - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    own = ["pydumpfile", "pydumpfile._version", "pydumpfile.cli", "pydumpfile.signals"]
    assert done.stdout.splitlines() == [" ".join(own), ""]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("words", [(), ("doctor",), ("initramfs", "--help")], ids="-".join)
def test_a_signal_while_it_works_is_said(
    small: BuiltCore, tmp_path: Path, words: tuple[str, ...], number: int
) -> None:
    name = f"pydumpfile.cli.{words[0]}" if words else LOADED[-1]
    action = f"os.kill(os.getpid(), {int(number)})"
    code = ON_IMPORT.format(name=name, action=action, program="pydumpfile")
    arguments = words or ("-d", "31", str(small.path), str(tmp_path / "dump"))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"pydumpfile: stopped by {signal.Signals(number).name}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("status", [0, 12])
def test_a_signal_when_all_is_done_changes_nothing(
    small: BuiltCore, tmp_path: Path, status: int
) -> None:
    code = (
        "import atexit, os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "from pydumpfile.cli import entry\n"
        "entry()\n"
    )
    core = small.path if status == 0 else tmp_path / "none"
    done = subprocess.run(
        [sys.executable, "-c", code, "--message-level", "0", str(core), str(tmp_path / "dump")],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_who_is_to_ignore_a_signal_does(small: BuiltCore, tmp_path: Path) -> None:
    """nohup, and a shell's background jobs."""
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from pydumpfile import cli\n"
        "from pydumpfile.sinks.kdump import KdumpSink\n"
        "finish = KdumpSink.finish\n"
        "def interrupted(self, complete):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    finish(self, complete)\n"
        "KdumpSink.finish = interrupted\n"
        "cli.entry()\n"
    )
    assert dumping(code, small, tmp_path / "dump").returncode == 0
    assert not Dump(tmp_path / "dump").incomplete


def test_in_a_process_of_others_signals_are_theirs_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    cli.main(["--version"])
    cli.main(["--nonsense"])
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert capsys.readouterr().err.startswith("pydumpfile: ")


@pytest.mark.parametrize(
    ("action", "program", "status", "says"),
    [("raise ImportError('libffi.so.8: failed to map segment')", "pydumpfile", 1,
      "a part of it cannot be loaded: libffi.so.8: failed to map segment"),
     ("raise MemoryError", "pydumpfile", 13, "out of memory; one thread takes least"),
     ("raise MemoryError", "makedumpfile", 1, "out of memory; one thread takes least")],
)  # fmt: skip
@pytest.mark.parametrize("name", LOADED[:-1])
def test_what_cannot_be_loaded_is_one_line(
    small: BuiltCore, tmp_path: Path, name: str, action: str, program: str, status: int, says: str
) -> None:
    code = ON_IMPORT.format(name=name, action=action, program=program)
    done = dumping(code, small, tmp_path / "dump")
    assert done.returncode == status
    assert done.stderr.startswith(f"pydumpfile: {says}") and done.stderr.count("\n") == 1


def test_where_nothing_can_be_said_the_status_tells(small: BuiltCore, tmp_path: Path) -> None:
    code = ON_IMPORT.format(name=LOADED[0], action="raise MemoryError", program="pydumpfile")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, str(small.path), str(tmp_path / "dump")],
            check=False, stdout=full, stderr=full, timeout=300,
        )  # fmt: skip
    assert done.returncode == OutOfMemoryError.exit_code


class TestOutOfMemory:
    """One line, a status of its own, and a dump that is complete or says that it is not."""

    @pytest.mark.parametrize("program", ["pydumpfile", "makedumpfile"])
    @pytest.mark.parametrize("n_threads", [1, 3])
    def test_while_pages_are_copied(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch, n_threads: int, program: str,
    ) -> None:  # fmt: skip
        write, calls = KdumpSink.write_batch, []

        def write_batch(sink: KdumpSink, *batch: object) -> None:
            write(sink, *batch)  # type: ignore[arg-type]
            calls.append(0)
            if len(calls) == 12:
                raise MemoryError("no room for 8388608 bytes")

        monkeypatch.setattr(KdumpSink, "write_batch", write_batch)
        arguments = ["-d", "0", "--num-threads", str(n_threads), str(small.path)]
        status = cli.main([*arguments, str(tmp_path / "dump")], program)
        assert status == (1 if program == "makedumpfile" else OutOfMemoryError.exit_code)
        assert (
            "pydumpfile: out of memory: no room for 8388608 bytes; one thread takes least "
            "(--num-threads 1); a dump that was begun and not finished is marked incomplete\n"
        ) in capsys.readouterr().err
        check_prefix(Dump(tmp_path / "dump"), small)

    @pytest.mark.parametrize("kind", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
    @pytest.mark.parametrize("n_threads", [1, 2, 8, 32])
    @pytest.mark.parametrize("mib", [24, 32, 48, 64, 96, 192])
    def test_by_ulimit(
        self, small: BuiltCore, tmp_path: Path, mib: int, n_threads: int, kind: int
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pydumpfile", "--num-threads", str(n_threads), "-d", "31", "-l",
             str(small.path), str(tmp_path / "dump")],
            check=False, capture_output=True, text=True, timeout=300,
            preexec_fn=lambda: resource.setrlimit(kind, (mib << 20, mib << 20)),
        )  # fmt: skip
        own = [line for line in done.stderr.splitlines() if "warning: " not in line]
        if done.returncode == 0:
            assert own == []
            assert not Dump(tmp_path / "dump").incomplete
        else:
            assert len(own) == 1 and own[0].startswith("pydumpfile: ")
            assert not (tmp_path / "dump").exists() or Dump(tmp_path / "dump").incomplete
        if mib >= 64:
            assert done.returncode == 0, done.stderr
