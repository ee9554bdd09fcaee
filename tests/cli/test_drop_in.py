# SPDX-License-Identifier: GPL-2.0-or-later
"""In the place of makedumpfile: its name, its streams, its exit codes, its retries."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pydumpfile import cli
from pydumpfile.cli import drop_in
from pydumpfile.errors import FaultError
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.logfile import write_log_file
from pydumpfile.sinks import Target, text
from pydumpfile.sinks.file import OutputFile
from tests.builders import BuiltCore
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import LocklessRing
from tests.sinks.kdump_reader import Dump


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pydumpfile under the name of makedumpfile."""
    program = tmp_path_factory.mktemp("bin") / "makedumpfile"
    program.write_text(
        f"#!{sys.executable}\nfrom pydumpfile.cli import entry\nentry()\n", encoding="utf-8"
    )
    program.chmod(0o755)
    return program


def run(
    program: Path, *arguments: object, stdin: bytes = b"", status: int = 0
) -> tuple[bytes, bytes]:
    """What a run that ends with ``status`` writes to standard output and standard error."""
    done = subprocess.run(
        [str(program), *map(str, arguments)], input=stdin, check=False, capture_output=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_a_dump(link: Path, small: BuiltCore, tmp_path: Path) -> None:
    out, _ = run(link, "-l", "--message-level", 7, "-d", 31, small.path, tmp_path / "dump")
    *_, saved, blank, last = out.decode().splitlines()
    assert (saved, blank) == (f"The dumpfile is saved to {tmp_path / 'dump'}.", "")
    assert last == "makedumpfile Completed."
    assert Dump(tmp_path / "dump").dump_level == 31


def test_every_failure_is_1(link: Path) -> None:
    out, err = run(link, "/nonexistent", "b", status=1)
    assert out == b"\nmakedumpfile Failed.\n"
    assert err == b"pydumpfile: /nonexistent: opening the memory image: No such file or directory\n"


REFUSAL = (
    "Commandline parameter is invalid.\n"
    "Try `makedumpfile --help' for more information.\n"
    "\nmakedumpfile Failed.\n"
)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [((), "expected VMCORE DUMPFILE, found none"),
     (("-d", "all", "a", "b"), "dump level 'all' is not a number from 0 to 31"),
     (("-X", "a", "b"), "-X: leaving out Xen's domU pages is not supported")],
)  # fmt: skip
def test_a_refusal_is_a_common_message(link: Path, arguments: Sequence[str], why: str) -> None:
    """And with -F, as they all are, on standard error."""
    assert run(link, *arguments, status=1) == (f"{why}\n{REFUSAL}".encode(), b"")
    out, err = run(link, "-F", *arguments, status=1)
    assert out == b"" and err.endswith(REFUSAL.encode())
    assert run(link, "--message-level=4", "a", status=1) == (b"", b"")


def test_getopt_complains_on_its_own(link: Path) -> None:
    out, err = run(link, "--nonsense", "a", "b", status=1)
    assert out.decode() == REFUSAL
    assert err == b"makedumpfile: option --nonsense not recognized\n"


@pytest.mark.parametrize("arguments", [("-d", "99", "a", "b"), ("-E", "-c", "a", "b"), ("a",)])
def test_a_check_that_fails_says_why_and_no_more(link: Path, arguments: Sequence[str]) -> None:
    out, err = run(link, "--check-params", *arguments, status=1)
    assert b"Commandline parameter is invalid." in out and b"Failed" not in out
    assert err == b""


def test_the_version_has_makedumpfiles_form(link: Path) -> None:
    first, *codecs = run(link, "-v")[0].decode().splitlines()
    assert first.startswith("makedumpfile: version 1.")
    assert [line.partition("\t")[0] for line in codecs] == ["lzo", "snappy", "zstd"]
    assert {line.partition("\t")[2] for line in codecs} <= {"enabled", "disabled"}


def test_progress_has_makedumpfiles_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most once a second, and at the end of each step; the clock is the test's."""
    now = [1000.0]
    monkeypatch.setattr(drop_in.time, "monotonic", lambda: now[0])
    show = drop_in.Percentages()
    for step in ("judging pages", "a step it does not know", "copying pages"):
        for done, seconds in ((0, 0.0), (10, 0.5), (333, 40.0), (1000, 0.1)):
            now[0] += seconds
            show(step, done, 1000)
    show.close()
    show.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err[-1] == "\n"
    assert err[:-1].lstrip("\r").split("\r") == [
        f"{label:<50}: [{percent} %] {spinner}  {eta:>16}"
        for label, percent, spinner, eta in (
            ("Excluding unnecessary pages", "  0.0", "/", ""),
            ("Excluding unnecessary pages", " 33.3", "|", ""),
            ("Excluding unnecessary pages", "100.0", "\\", ""),
            ("Copying data", "  0.0", "-", ""),
            ("Copying data", " 33.3", "/", "eta: 81s"),
            ("Copying data", "100.0", "|", "eta: 0s"),
        )
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0s"), (99, "99s"), (100, "1m40s"), (5999, "99m59s"), (6000, "1h40m"),
     (172799, "47h59m"), (172800, "2d0h"), (8639999, "99d23h")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert drop_in.duration(seconds) == text


def test_a_question_has_no_last_line(link: Path) -> None:
    assert run(link, "--check-params", "-l", "-d", 31, "vmcore", "dumpfile") == (b"", b"")
    for question in ("-v", "-h"):
        assert b"Completed" not in run(link, question)[0]


def test_its_name_alone_has_no_commands(link: Path, tmp_path: Path) -> None:
    """A dump may be called doctor."""
    _, err = run(link, "doctor", tmp_path / "dump", status=1)
    assert b"doctor: opening the memory image" in err


def test_a_stream_has_standard_output_to_itself(
    link: Path, small: BuiltCore, tmp_path: Path
) -> None:
    out, err = run(link, "-c", "-d", 31, "-F", small.path)
    assert out.startswith(b"makedumpfile\0")
    assert b"The dumpfile is saved to STDOUT." in err
    assert err.endswith(b"\nmakedumpfile Completed.\n")
    run(link, "-R", tmp_path / "rearranged", stdin=out)
    run(link, "-c", "-d", 31, small.path, tmp_path / "direct")
    assert (tmp_path / "rearranged").read_bytes() == (tmp_path / "direct").read_bytes()


def test_a_stream_that_ends_early(link: Path, small: BuiltCore, tmp_path: Path) -> None:
    out, _ = run(link, "-c", "-d", 31, "-F", small.path)
    _, err = run(link, "-R", tmp_path / "dump", stdin=out[:-1], status=1)
    assert b"its sender was stopped" in err
    assert Dump(tmp_path / "dump").incomplete


def test_a_reader_that_goes_early(link: Path, small: BuiltCore) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [str(link), "-F", "-d", "0", str(small.path)], check=False, stdout=writer,
        stderr=subprocess.PIPE, timeout=300,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 1
    assert b"Broken pipe" in done.stderr and b"Traceback" not in done.stderr
    assert done.stderr.endswith(b"makedumpfile Failed.\n")


def test_no_stream_to_a_terminal(link: Path, small: BuiltCore) -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(
        [str(link), "-F", str(small.path)], check=False, stdout=theirs, stderr=subprocess.PIPE,
        timeout=300,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 1
    assert b"is a terminal" in done.stderr


def test_a_wrong_word_beside_a_bundled_F(link: Path) -> None:
    assert run(link, "-cFd99", "vmcore", status=1)[0] == b""


class TestClosedStreams:
    """Started with ``2>&-`` and the like, as services start things."""

    @staticmethod
    def run(link: Path, redirections: str, *arguments: object) -> int:
        words = [str(link), *map(str, arguments)]
        command = ["sh", "-c", f'"$@" {redirections}', "sh", *words]
        return subprocess.run(command, check=False, timeout=300).returncode

    @pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-"])
    def test_a_stream(self, link: Path, small: BuiltCore, tmp_path: Path, closed: str) -> None:
        stream = tmp_path / "stream"
        redirections = f"{closed} >'{stream}'"
        assert self.run(link, redirections, "-c", "-d", 31, "-F", small.path) == 0
        whole, _ = run(link, "-c", "-d", 31, "-F", small.path)
        assert stream.read_bytes() == whole

    @pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
    def test_a_file(self, link: Path, small: BuiltCore, tmp_path: Path, closed: str) -> None:
        assert self.run(link, closed, "-c", "-d", 31, small.path, tmp_path / "closed") == 0
        run(link, "-c", "-d", 31, small.path, tmp_path / "dump")
        assert (tmp_path / "closed").read_bytes() == (tmp_path / "dump").read_bytes()

    def test_nowhere_to_write_the_stream(
        self, link: Path, small: BuiltCore, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(link, ">&-", "-F", small.path) == 1
        assert self.run(link, "<&-", "-R", tmp_path / "dump") == 1
        said = capfd.readouterr().err
        assert said.count("Bad file descriptor") == 2
        assert "Traceback" not in said


def test_a_name_that_is_not_of_the_locale(link: Path, small: BuiltCore, tmp_path: Path) -> None:
    program = tmp_path / "ascii"
    program.write_text(f'#!/bin/sh\nPYTHONIOENCODING=ascii exec "{link}" "$@"\n')
    program.chmod(0o755)
    out, _ = run(program, "-d", 31, small.path, tmp_path / "d\u00fcmp")
    assert b"d\\xfcmp" in out


class TestLevels:
    """``-d 0,31``: the next one when there is no space."""

    @pytest.fixture
    def written(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A disk on which only dumps of level 31 have room; the levels tried."""
        tried: list[int] = []
        write_at = OutputFile.write_at

        def full(output: OutputFile, off: int, data: bytes) -> None:
            if off > 1 << 20 and len(tried) == 1:
                raise output._failed(OSError(errno.ENOSPC, "full"), "writing")
            write_at(output, off, data)

        monkeypatch.setattr(OutputFile, "write_at", full)
        return tried

    @pytest.mark.parametrize(("levels", "status", "level"), [("0", 10, 0), ("0,31", 0, 31)])
    def test_no_space(
        self, written: list[int], small: BuiltCore, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        levels: str, status: int, level: int,
    ) -> None:  # fmt: skip
        from pydumpfile import cli
        from pydumpfile.cli import jobs

        dump_vmcore = jobs.dump_vmcore

        def noted(*arguments: object) -> object:
            written.append(int(arguments[2]))  # type: ignore[call-overload]
            return dump_vmcore(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(jobs, "dump_vmcore", noted)
        assert cli.main(["-d", levels, str(small.path), str(tmp_path / "dump")]) == status
        assert written == [int(text) for text in levels.split(",")]
        dump = Dump(tmp_path / "dump")
        assert (dump.incomplete, dump.dump_level) == (status != 0, level)
        err = capsys.readouterr().err
        assert ("trying again at level 31" in err) == (status == 0)
        assert ("kept and marked" in err) == (status != 0), "it is overwritten by the next one"


class TestLog:
    """``--dump-dmesg``, as kdump-tools and openSUSE's kdump ask for it."""

    @pytest.fixture
    def core(self, tmp_path: Path) -> Path:
        ring = LocklessRing()
        ring.store(b"Linux version 6.1", 0, 0)
        ring.store(b"Kernel panic - not syncing", 1_000_000_000, 42)
        build_log_core(tmp_path / "vmcore", ring.image(PLACE))
        return tmp_path / "vmcore"

    TEXT = (
        b"[    0.000000] [      T0] Linux version 6.1\n"
        b"[    1.000000] [     T42] Kernel panic - not syncing\n"
    )

    def test_to_a_file(self, link: Path, core: Path, tmp_path: Path) -> None:
        out, _ = run(link, "--dump-dmesg", core, tmp_path / "dmesg")
        assert (tmp_path / "dmesg").read_bytes() == self.TEXT
        assert (tmp_path / "dmesg").stat().st_mode & 0o777 == 0o600
        assert f"The dmesg log is saved to {tmp_path / 'dmesg'}." in out.decode()

    def test_what_is_there_is_kept(self, link: Path, core: Path, tmp_path: Path) -> None:
        (tmp_path / "dmesg").write_bytes(b"precious")
        _, err = run(link, "--dump-dmesg", core, tmp_path / "dmesg", status=1)
        assert b"File exists" in err
        assert (tmp_path / "dmesg").read_bytes() == b"precious"
        run(link, "-f", "--dump-dmesg", core, tmp_path / "dmesg")
        assert (tmp_path / "dmesg").read_bytes() == self.TEXT

    def test_to_a_pipe_with_the_keys_that_openSUSE_reads(self, link: Path, core: Path) -> None:
        out, err = run(link, "-F", "--message-level", 8, "--dump-dmesg", core)
        assert out == self.TEXT
        keys = dict(line.strip().split(b"=", 1) for line in err.splitlines() if b"=" in line)
        assert {b"OSRELEASE", b"CRASHTIME"} <= set(keys)

    def test_of_which_some_cannot_be_read(self, link: Path, tmp_path: Path) -> None:
        """It is no whole log, and must not pass for one; what there is of it is written."""
        core, dmesg = tmp_path / "vmcore", tmp_path / "dmesg"
        ring = LocklessRing(count_bits=9, size_bits=14)
        for i in range(400):
            ring.store(b"message %d" % i, i * 10**9)
        build_log_core(core, ring.image(PLACE), unmapped=[PLACE.text_vaddr + 4096])
        out, err = run(link, "--dump-dmesg", core, dmesg, status=1)
        assert out.endswith(b"makedumpfile Failed.\n")
        assert b"messages of the log could not be read" in err
        lines = dmesg.read_bytes().splitlines()
        marks = [line for line in lines if line.startswith(b"[pydumpfile: ")]
        assert len(lines) > len(marks) == 1
        assert cli.main(["-f", "--dump-dmesg", str(core), str(dmesg)]) == FaultError.exit_code
        assert dmesg.read_bytes().splitlines() == lines

    def test_of_which_nothing_can_be_read(self, link: Path, tmp_path: Path) -> None:
        core, dmesg = tmp_path / "vmcore", tmp_path / "dmesg"
        ring = LocklessRing()
        ring.store(b"Linux version 6.1")
        vpages = {PLACE.text_vaddr + off for off in (0, 4096)}
        build_log_core(core, ring.image(PLACE), unmapped=vpages)
        run(link, "--dump-dmesg", core, dmesg, status=1)
        assert dmesg.read_bytes() == b"[pydumpfile: 1 message could not be read]\n"

    def test_of_which_the_end_was_being_written(self, link: Path, tmp_path: Path) -> None:
        """Nothing unusual in a crash, and nothing is lost that anybody has."""
        core, dmesg = tmp_path / "vmcore", tmp_path / "dmesg"
        ring = LocklessRing()
        ring.store(b"Linux version 6.1")
        ring.store(b"Kernel pan", state="reserved")
        build_log_core(core, ring.image(PLACE))
        _, err = run(link, "--dump-dmesg", core, dmesg)
        assert b"warning: 1 message of the log left out" in err
        assert dmesg.read_bytes() == b"[    0.000000] [      T0] Linux version 6.1\n"

    def test_a_full_disk(self, link: Path, core: Path) -> None:
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [str(link), "-F", "--dump-dmesg", str(core)], check=False, stdout=full,
                stderr=subprocess.PIPE, timeout=300,
            )  # fmt: skip
        assert done.returncode == 1
        assert b"No space left on device" in done.stderr
        assert b"marked" not in done.stderr

    def test_a_pipe_that_does_not_wait(self, core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Full at first; whoever reads it is asked to, once, while the log is kept waiting."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        n_full = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                n_full += os.write(writing, bytes(4096))

        def drain(fd: int) -> None:
            assert fd == writing
            os.read(reading, n_full)

        monkeypatch.setattr(text, "wait_until_writable", drain)
        with Vmcore.open(str(core)) as vmcore:
            write_log_file(vmcore, Target("pipe", fd=writing))
        os.close(writing)
        assert os.read(reading, 4096) == self.TEXT
        os.close(reading)

    def test_what_is_missing(self, link: Path, small: BuiltCore, tmp_path: Path) -> None:
        _, err = run(link, "--dump-dmesg", small.path, tmp_path / "dmesg", status=1)
        assert b"SYMBOL(prb)" in err
        assert not (tmp_path / "dmesg").exists()
