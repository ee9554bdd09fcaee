# SPDX-License-Identifier: GPL-2.0-or-later
"""The command: options, messages by level, exit codes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import pytest

import pydumpfile
from pydumpfile import cli
from pydumpfile.errors import FaultError, OutputError, PydumpfileError
from pydumpfile.sources.elf import ElfSource
from tests.builders import BuiltCore
from tests.conftest import SMALL, Command, CoreMaker
from tests.sinks.kdump_reader import Dump


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """main() takes signals; the test process gets them back."""
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of one run in this process."""
    status = cli.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_a_dump(small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "dump"
    status, out, err = run(capsys, "-d", 31, "-z", small.path, target)
    assert status == 0
    first, *table, last = out.splitlines()
    assert first == (
        f"{small.path}: Linux 6.12.0 on builder, x86_64, 39.6 MiB, crashed 2023-11-14 22:13:20 UTC"
    )
    assert last == f"The dumpfile is saved to {target}."
    dump = Dump(target)
    counts = small.counts(31)
    found = [re.fullmatch(r"(.*?) +(\d+) +([\d.]+ \w+) +([\d.]+)%", line) for line in table[1:-1]]
    rows = {match[1]: int(match[2]) for match in found if match}
    assert len(rows) == len(table) - 2
    assert len(set(map(len, table[:-1]))) == 1, "columns out of line"
    assert rows["the machine's memory"] == sum(bin(byte).count("1") for byte in small.exists)
    assert rows["- user data"] == counts["user"]
    assert rows["- free"] == counts["free"]
    zero = sum(d.offset == dump.descriptors_off + 24 * len(dump.pfns)
               for d in dump.descriptors.values())  # fmt: skip
    assert rows["- zero"] == zero
    assert rows["= stored"] == len(dump.pfns) - zero
    assert "level 31, compression zstd by libzstd.so.1, level -1" in table[-1]
    # The builders put blocks of impossible order everywhere.
    assert all(line.startswith("pydumpfile: warning: ") for line in err.splitlines())
    assert "impossible order" in err


@pytest.mark.parametrize(
    ("options", "level", "status"),
    [((), 0, 0), (("-d", "31"), 31, 0), (("-d0",), 0, 0), (("-c",), 0, 1), (("-z",), 0, 0x20),
     (("-d", "8", "-c"), 8, 1), (("-c", "-z"), 0, 0x20), (("-z", "-c"), 0, 1)],
)  # fmt: skip
def test_options_reach_the_dump(
    small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...], level: int, status: int,
) -> None:  # fmt: skip
    assert run(capsys, *options, small.path, tmp_path / "dump")[0] == 0
    dump = Dump(tmp_path / "dump")
    assert (dump.dump_level, dump.status) == (level, status)


@pytest.mark.parametrize(
    "arguments",
    [(), ("core",), ("core", "dump", "more"), ("-d", "32", "core", "dump"),
     ("-d", "-1", "core", "dump"), ("-d", "x", "core", "dump"), ("-d", "", "core", "dump"),
     ("-d", "1.0", "core", "dump"), ("-d", "9" * 5000, "core", "dump"), ("-d",),
     ("--message-level", "32", "core", "dump"), ("--nonsense", "core", "dump")],
)  # fmt: skip
def test_wrong_use(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("pydumpfile: ") and err.count("\n") == 1
    assert "see pydumpfile --help" in err


def test_level_32_says_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = run(capsys, "-d", 32, "core", "dump")
    assert "dump level '32' is not a number from 0 to 31" in err


@pytest.mark.parametrize("option", ["-v", "--version"])
def test_version(capsys: pytest.CaptureFixture[str], option: str) -> None:
    status, out, _ = run(capsys, option)
    assert status == 0
    first, *codecs = out.splitlines()
    assert first == f"pydumpfile {pydumpfile.__version__}"
    assert "zlib\tenabled" in codecs


def test_help_names_every_exit_code_and_fits_a_console(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, text, _ = run(capsys, "--help")
    assert status == 0
    assert max(map(len, text.splitlines())) <= 100
    described = {int(n) for n in re.findall(r"\b\d+\b", text.partition("exit status")[2])}
    kinds = [
        kind for kind in vars(pydumpfile.errors).values()
        if isinstance(kind, type) and issubclass(kind, PydumpfileError)
    ]  # fmt: skip
    assert {kind.exit_code for kind in kinds} <= described
    for option in ("-c", "-z", "-d", "-f", "--message-level", "--version"):
        assert option in text


class TestMessageLevels:
    """1 progress, 2 common messages, 4 errors, 8 details."""

    def test_none(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, out, err = run(
            capsys, "--message-level", 0, "-d", 15, small.path, tmp_path / "dump"
        )
        assert (status, out) == (0, "")
        assert "Traceback" not in err
        status, out, err = run(capsys, "--message-level", 0, tmp_path / "no", tmp_path / "d")
        assert (status, out, err) == (12, "", "")

    def test_errors_alone(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = run(capsys, "--message-level", 4, tmp_path / "no", tmp_path / "d")
        assert (status, out) == (12, "")
        assert err == (
            f"pydumpfile: {tmp_path / 'no'}: opening the memory image: No such file or directory\n"
        )

    def test_common(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, out, _ = run(capsys, "--message-level", 2, small.path, tmp_path / "dump")
        assert "Linux 6.12.0 on builder" in out and "saved to" in out
        assert "SIZE(page)" not in out

    def test_details_are_the_description(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, out, _ = run(
            capsys, "--message-level", 8, "--num-threads", 3, small.path, tmp_path / "dump"
        )
        *listed, threads = out.splitlines()
        assert listed == [f"  {key}={value}" for key, value in small.keys.items()]
        assert threads == "threads: 3"

    def test_details_of_nothing(
        self, core_of: CoreMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        built = core_of(replace(SMALL, note=False))
        status, out, _ = run(capsys, "--message-level", 8, built.path, tmp_path / "dump")
        assert status == 0
        assert out.count("\n") == 1 and out.startswith("threads: ")


def test_an_unknown_kernel_is_said_to_be_one(
    core_of: CoreMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = core_of(replace(SMALL, note=False))
    status, out, err = run(capsys, "-d", 1, built.path, tmp_path / "dump")
    assert status == 0
    assert "an unknown kernel" in out and "crashed" not in out
    assert "VMCOREINFO" in err


def test_pages_that_cannot_be_read_show_in_the_exit_code(
    small: BuiltCore,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readable = ElfSource.view
    kept = [pfn for pfn in range(small.max_mapnr) if small.verdict(0)[pfn >> 3] >> (pfn & 7) & 1]
    bad_paddr = kept[len(kept) // 2] << 12

    def view(
        source: ElfSource, paddr: int, size: int, wanted: Optional[Sequence[tuple[int, int]]] = None
    ) -> memoryview:
        if paddr <= bad_paddr < paddr + size:
            raise FaultError(bad_paddr, "physical")
        return readable(source, paddr, size, wanted)

    monkeypatch.setattr(ElfSource, "view", view)
    status, out, err = run(capsys, "-d", 0, small.path, tmp_path / "dump")
    assert status == FaultError.exit_code
    assert "1 pages could not be read" in err
    assert "saved to" in out


def test_little_memory_is_said_before_it_may_kill(
    small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "--max-rss", "1M", "-d", 31, small.path, tmp_path / "dump")
    assert status == 0
    assert "more than --max-rss says" in err.splitlines()[0]


def test_force(small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "dump"
    target.write_bytes(b"precious")
    status, _, err = run(capsys, small.path, target)
    assert status == 10
    assert err == f"pydumpfile: {target}: creating the dump: File exists; give -f to overwrite it\n"
    assert target.read_bytes() == b"precious"
    assert run(capsys, "-f", small.path, target)[0] == 0
    assert not Dump(target).incomplete


def test_no_bar_where_there_is_no_terminal(
    command: Command, small: BuiltCore, tmp_path: Path
) -> None:
    done = command("-d", 31, "-z", small.path, tmp_path / "dump")
    assert done.returncode == 0
    assert "\r" not in done.stderr and "%|" not in done.stderr
    assert all(line.startswith("pydumpfile: warning: ") for line in done.stderr.splitlines())


def test_the_capture_path_loads_only_what_it_uses(small: BuiltCore, tmp_path: Path) -> None:
    """Memory is scarce in a crash kernel."""
    code = (
        "import sys; from pydumpfile import cli\n"
        "status = cli.main(sys.argv[1:])\n"
        "heavy = {'tqdm', 'zstandard', 'argparse', 'inspect', 'dataclasses',\n"
        "         'pydumpfile.service', 'elftools', 'asyncio', 'multiprocessing', 'numpy',\n"
        "         'pydumpfile.filter.reference', 'pydumpfile.packing.reference',\n"
        "         'pydumpfile.sources.kcore', 'pydumpfile.sources.recognise', 'pydumpfile.api',\n"
        "         'pydumpfile.sources.partset', 'pydumpfile.sources.split'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "-d", "31", "-c", str(small.path), str(tmp_path / "dump")],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"


@contextlib.contextmanager
def unwritable(where: str) -> Iterator[int]:
    """A descriptor that refuses what is written to it."""
    if where == "/dev/full":
        stream = os.open(where, os.O_WRONLY)
    else:
        reader, stream = os.pipe()
        os.close(reader)
    try:
        yield stream
    finally:
        os.close(stream)


@pytest.mark.parametrize("which", ["stdout", "stderr"])
@pytest.mark.parametrize("where", ["/dev/full", "a closed pipe"])
def test_messages_that_cannot_be_written_do_not_spoil_the_dump(
    small: BuiltCore, tmp_path: Path, which: str, where: str
) -> None:
    arguments = [sys.executable, "-m", "pydumpfile", "-d", "31", "--message-level", "15"]
    other = "stderr" if which == "stdout" else "stdout"
    with unwritable(where) as stream:
        done = subprocess.run(
            [*arguments, str(small.path), str(tmp_path / "dump")], check=False, timeout=300,
            **{which: stream, other: subprocess.PIPE},  # type: ignore[call-overload]
        )  # fmt: skip
    assert not Dump(tmp_path / "dump").incomplete
    assert done.returncode == 0
    assert b"Traceback" not in (done.stderr or b"")


@pytest.mark.parametrize("program", ["pydumpfile", "makedumpfile"])
@pytest.mark.parametrize("to_file", [False, True])
def test_messages_that_go_where_the_stream_does_do_not_spoil_it(
    small: BuiltCore, tmp_path: Path, program: str, to_file: bool
) -> None:
    """``2>&1``; warnings, too, such as of a core that was cut short."""
    core, said = tmp_path / "core", tmp_path / "said"
    core.write_bytes(small.path.read_bytes()[:-5000])
    code = f"import sys; sys.argv[0] = {program!r}; from pydumpfile.cli import entry; entry()"
    words = [sys.executable, "-c", code, "-F", "-d", "31", "--message-level", "31"]
    alone = subprocess.run([*words, str(core)], check=False, capture_output=True, timeout=300)
    assert b"was cut short" in alone.stderr and len(alone.stderr) > 2000
    with said.open("wb") as file:
        mixed = subprocess.run(
            [*words, str(core)], check=False, timeout=300,
            stdout=file if to_file else subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    assert mixed.returncode == alone.returncode
    assert (said.read_bytes() if to_file else mixed.stdout) == alone.stdout
    failed = subprocess.run(
        [*words, str(tmp_path / "nowhere")], check=False, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert b"No such file" in failed.stdout


@pytest.mark.parametrize("program", ["pydumpfile", "makedumpfile"])
@pytest.mark.parametrize("where", ["/dev/full", "a closed pipe"])
@pytest.mark.parametrize("asked", ["--mem-usage", "-v", "--help"])
def test_an_answer_that_cannot_be_written_is_none(
    small: BuiltCore, asked: str, where: str, program: str
) -> None:
    """Unlike a message, it is all that was wanted."""
    code = f"import sys; sys.argv[0] = {program!r}; from pydumpfile.cli import entry; entry()"
    arguments = [asked, str(small.path)] if asked == "--mem-usage" else [asked]
    with unwritable(where) as stream:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=False, timeout=300,
            stdout=stream, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert done.returncode == (1 if program == "makedumpfile" else OutputError.exit_code)
    assert b"pydumpfile: STDOUT: writing what was asked for: " in done.stderr
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr


@pytest.mark.parametrize("where", ["/dev/full", "a closed pipe"])
@pytest.mark.parametrize(
    "asked",
    ["doctor", "doctor --json", "doctor --help", "initramfs --help", "initramfs --cpio {}"],
)
def test_so_it_is_with_those_of_sub_commands(tmp_path: Path, asked: str, where: str) -> None:
    words = asked.format(tmp_path / "file").split()
    with unwritable(where) as stream:
        done = subprocess.run(
            [sys.executable, "-m", "pydumpfile", *words], check=False, timeout=300,
            stdout=stream, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert done.returncode == OutputError.exit_code
    assert b"pydumpfile: STDOUT: writing what was asked for: " in done.stderr
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("pydumpfile")
    if not command.exists():
        pytest.skip("the package is not installed into this interpreter's environment")
    done = subprocess.run(
        [str(command), "--version"], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[0] == f"pydumpfile {pydumpfile.__version__}"
