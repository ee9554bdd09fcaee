# SPDX-License-Identifier: GPL-2.0-or-later
"""The shape of what is written, as asked for: parts, limits, nothing at all; and the report."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pydumpfile import cli
from pydumpfile.cli.options import parse
from pydumpfile.errors import UsageError
from tests.builders import BuiltCore
from tests.conftest import MIB
from tests.sinks.kdump_reader import Dump

INCOMPLETE = "This is an incomplete dumpfile, but might analyzable."


def run(*arguments: object, status: int = 0, program: str = "pydumpfile") -> None:
    assert cli.main([str(argument) for argument in arguments], program) == status


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1", 1), ("4096", 4096), ("010", 8), ("0x100", 256), ("0x10E", 0x10E), ("0x10K", 16 << 10),
     ("5k", 5 << 10), ("5M", 5 << 20), ("2G", 2 << 30), ("1T", 1 << 40), ("1P", 1 << 50),
     ("1E", 1 << 60)],
)  # fmt: skip
def test_limits(text: str, limit: int) -> None:
    assert parse(("-L", text, "vmcore", "dump")).size_limit == limit


@pytest.mark.parametrize(
    "text", ["0", "0K", "", "K", "-1", "+1", "1_0", "all", "08", "0x", "4 M", "4MB", "8E", "٣"]
)
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="Limit size"):
        parse(("-L", text, "vmcore", "dump"))


def test_split_blocks() -> None:
    options = parse(("--split", "--splitblock-size", "4096", "vmcore", "one", "two"))
    assert options.splitblock_size == 4 * MIB
    for text in ("0", "3", "4095", "x", ""):
        with pytest.raises(UsageError, match="split block"):
            parse(("--split", "--splitblock-size", text, "vmcore", "one", "two"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("--split vmcore", "VMCORE DUMPFILE DUMPFILE..."), ("--split vmcore one", "DUMPFILE..."),
     ("--reassemble one", "PART... DUMPFILE"), ("--reassemble", "PART... DUMPFILE"),
     ("one two three", "VMCORE DUMPFILE, found")],
)  # fmt: skip
def test_too_few_names(arguments: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments.split())
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    ["--split -F vmcore one two", "--split --num-threads 2 vmcore one two",
     "--split --reassemble one two", "--reassemble -c one two", "--reassemble -d 1 one two",
     "--reassemble -F one", "--reassemble --dry-run one two", "--splitblock-size 4096 vmcore dump",
     "--dump-dmesg --dry-run vmcore log"],
)  # fmt: skip
def test_what_does_not_go_together(arguments: str) -> None:
    with pytest.raises(UsageError, match=r"do not go together|only goes with"):
        parse(arguments.split())


class TestSplit:
    """There and back."""

    @pytest.mark.parametrize("program", ["pydumpfile", "makedumpfile"])
    def test_there_and_back(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str
    ) -> None:
        one, two, three, dump = (tmp_path / name for name in ("one", "two", "three", "dump"))
        options = ("-c", "-d", 31, "--split", "--splitblock-size", 1024)
        run(*options, small.path, one, two, three, program=program)
        said = capsys.readouterr().out
        assert f"The dumpfiles are saved to {one}, {two}, and {three}.\n" in said
        run("--reassemble", three, one, two, dump, program=program)
        assert f"The dumpfile is saved to {dump}.\n" in capsys.readouterr().out
        run("-c", "-d", 31, small.path, tmp_path / "whole")
        assert dump.read_bytes() == (tmp_path / "whole").read_bytes()

    def test_a_part_that_is_missing(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, two, dump = (tmp_path / name for name in ("one", "two", "dump"))
        run("--split", "--splitblock-size", 1024, small.path, one, two)
        run("--reassemble", two, dump, status=1)
        assert re.search(
            r"a part is missing: none of these has the pages 0x0 to 0x\w+00\n",
            capsys.readouterr().err,
        )
        assert not dump.exists()

    def test_incomplete_parts(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, two, dump = (tmp_path / name for name in ("one", "two", "dump"))
        split = ("--split", "--splitblock-size", 1024)
        run(*split, "-L", "2M", small.path, one, two, status=10)
        captured = capsys.readouterr()
        assert INCOMPLETE in captured.out
        assert "does not fit into the 2097152 bytes of -L" in captured.err
        assert Dump(one).incomplete and Dump(two).incomplete
        run("--reassemble", one, two, dump, status=7)
        captured = capsys.readouterr()
        assert f"{dump} is marked incomplete, as are {one}, {two}" in captured.err
        assert INCOMPLETE in captured.out
        assert Dump(dump).incomplete

    def test_its_levels_are_tried_for_all_parts(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one, two, dump = (tmp_path / name for name in ("one", "two", "dump"))
        split = ("--split", "--splitblock-size", 1024, small.path)
        run("-d", 31, *split, one, two)
        limit = max(one.stat().st_size, two.stat().st_size)
        run("-f", "-d", "0,31", "-L", limit, *split, one, two)
        captured = capsys.readouterr()
        full = re.search(r"Can't write the dump file\((\S+)\). Size limit\((\d+)\)", captured.out)
        assert full and full[1] in (str(one), str(two)) and int(full[2]) == limit
        assert "\nRetry to create a dumpfile by dump_level(31).\n" in captured.out
        assert "trying again at level 31" in captured.err
        run("--reassemble", one, two, dump)
        run("-d", 31, small.path, tmp_path / "whole")
        assert dump.read_bytes() == (tmp_path / "whole").read_bytes()


class TestLimit:
    """``-L``: as if the disk were full."""

    @pytest.fixture
    def size(self, small: BuiltCore, tmp_path: Path) -> int:
        """Of a dump of level 31."""
        run("-d", 31, small.path, tmp_path / "whole")
        return (tmp_path / "whole").stat().st_size

    def test_the_last_level(
        self, small: BuiltCore, tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dump = tmp_path / "dump"
        run("-d", 31, "-L", size - 1, small.path, dump, status=10)
        captured = capsys.readouterr()
        assert (
            f"Can't write the dump file({dump}). Size limit({size - 1}) reached.\n{INCOMPLETE}"
            in (captured.out)
        )
        assert dump.stat().st_size <= size - 1
        assert Dump(dump).incomplete
        run("-f", "-d", 31, "-L", size - 1, small.path, dump, status=1, program="makedumpfile")

    def test_it_fits(self, small: BuiltCore, tmp_path: Path, size: int) -> None:
        run("-d", 31, "-L", size, small.path, tmp_path / "dump")
        assert (tmp_path / "dump").read_bytes() == (tmp_path / "whole").read_bytes()

    def test_levels(
        self, small: BuiltCore, tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dump = tmp_path / "dump"
        run("-d", "0,1,31", "-L", size, small.path, dump)
        captured = capsys.readouterr()
        assert re.findall(r"dump_level\((\d+)\)", captured.out) == ["1", "31"]
        assert INCOMPLETE not in captured.out
        assert dump.read_bytes() == (tmp_path / "whole").read_bytes()

    def test_a_stream_has_no_second_try(
        self, small: BuiltCore, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        run("-F", "-d", "0,31", "-L", "1M", small.path, status=10)
        captured = capfdbinary.readouterr()
        assert len(captured.out) == MIB
        assert b"Can't write the dump file(STDOUT). Size limit(1048576)" in captured.err
        assert b"Retry" not in captured.err and INCOMPLETE.encode() not in captured.err

    @pytest.mark.parametrize(
        ("options", "advice"),
        [("", "-d 31, -z"), ("-d 31", "-z"), ("-z", "-d 31"), ("-c -d 1", "-d 31"),
         ("-d 31 -z", ""), ("-l -d 1,31", ""), ("-E", "-d 31, -z instead of -E"),
         ("-E -d 31", "-z instead of -E"),
         ("-F -z", "-d 31"), ("-F -z -d 1,31", "-d 31")],
    )  # fmt: skip
    def test_only_what_was_not_done_is_advised(
        self, small: BuiltCore, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: str,
        advice: str,
    ) -> None:  # fmt: skip
        """Of several levels those that were tried; on a pipe, only one is."""
        given = options.split()
        names = [small.path] if "-F" in given else [small.path, tmp_path / "dump"]
        run("-L", "20K", *given, *names, status=10)
        end = f"; a smaller dump may fit ({advice})" if advice else ""
        assert capfd.readouterr().err.endswith(f"the 20480 bytes of -L{end}\n")

    def test_nor_what_the_dump_was_written_with(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """That level 31 is not given does not mean that there was more to be left out."""
        run("-d", 31, small.path, tmp_path / "first")
        run("-z", "-L", "20K", tmp_path / "first", tmp_path / "second", status=10)
        assert capsys.readouterr().err.endswith("the 20480 bytes of -L\n")


class TestDryRun:
    """Everything is told, nothing is written."""

    @pytest.mark.parametrize("codec", ["-z", "--compress=none", "--compress=auto"])
    def test_it_says_what_a_real_one_does(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: str
    ) -> None:
        dump = tmp_path / "dump"
        run("--dry-run", "--show-stats", codec, "-d", 31, small.path, dump)
        dry = capsys.readouterr()
        assert os.listdir(tmp_path) == []
        assert "Nothing is written: this was a dry run.\n" in dry.out
        assert "would be written" in dry.out and "saved" not in dry.out
        if codec == "--compress=auto":
            return  # which may choose differently
        run("--show-stats", codec, "-d", 31, small.path, dump)
        real = capsys.readouterr()
        counts = [
            [line for line in said.splitlines() if re.search(r"pages.*: 0x|Write bytes", line)]
            for said in (dry.out, real.out)
        ]
        assert counts[0] == counts[1]
        assert counts[0][-1] == f"Write bytes     : {dump.stat().st_size}"

    def test_what_is_there_is_not_touched(self, small: BuiltCore, tmp_path: Path) -> None:
        dump = tmp_path / "dump"
        dump.write_bytes(b"precious")
        before = dump.stat()
        for more in ((), ("-f",)):
            run("--dry-run", "-d", 31, *more, small.path, dump)
        run("--dry-run", "--split", small.path, dump, tmp_path / "two")
        assert (dump.stat(), dump.read_bytes()) == (before, b"precious")
        assert os.listdir(tmp_path) == ["dump"]

    def test_the_output_has_to_be_named(self, small: BuiltCore) -> None:
        run("--dry-run", "-d", 31, small.path, status=1)

    def test_a_stream(self, small: BuiltCore, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        """Its length is told as well, and standard output stays empty."""
        run("--dry-run", "-F", "--show-stats", "-z", "-d", 31, small.path)
        dry = capfdbinary.readouterr()
        assert dry.out == b""
        run("-F", "-z", "-d", 31, small.path)
        length = len(capfdbinary.readouterr().out)
        assert f"Write bytes     : {length}\n".encode() in dry.err
        assert b"STDOUT" not in dry.err

    def test_it_finds_the_level_that_fits(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("-d", 31, small.path, tmp_path / "whole")
        size = (tmp_path / "whole").stat().st_size
        capsys.readouterr()
        run("--dry-run", "-d", "0,31", "-L", size, small.path, tmp_path / "dump")
        assert "dump_level(31)" in capsys.readouterr().out
        run("--dry-run", "-d", 0, "-L", size, small.path, tmp_path / "dump", status=10)
        assert INCOMPLETE not in capsys.readouterr().out
        assert not (tmp_path / "dump").exists()


REPORT = re.compile(
    r"STEP \[Excluding unnecessary pages\] : \d+\.\d{6} seconds\n"
    r"STEP \[Copying data               \] : \d+\.\d{6} seconds\n"
    r"\n"
    r"Original pages  : (?P<original>0x[0-9a-f]{16})\n"
    r"  Excluded pages   : (?P<excluded>0x[0-9a-f]{16})\n"
    r"    Pages filled with zero  : (?P<zero>0x[0-9a-f]{16})\n"
    r"    Non-private cache pages : (?P<cache>0x[0-9a-f]{16})\n"
    r"    Private cache pages     : (?P<cache_private>0x[0-9a-f]{16})\n"
    r"    User process data pages : (?P<user>0x[0-9a-f]{16})\n"
    r"    Free pages              : (?P<free>0x[0-9a-f]{16})\n"
    r"    Hwpoison pages          : (?P<hwpoison>0x[0-9a-f]{16})\n"
    r"    Offline pages           : (?P<offline>0x[0-9a-f]{16})\n"
    r"    Extension filter pages  : 0x0{16}\n"
    r"(?:    Not in the source       : (?P<before>0x[0-9a-f]{16})\n)?"
    r"  Remaining pages  : (?P<remaining>0x[0-9a-f]{16})\n"
    r"  \(The number of pages is reduced to (?P<percent>\d+)%\.\)\n"
    r"Memory Hole     : (?P<hole>0x[0-9a-f]{16})\n"
    r"-{50}\n"
    r"Total pages     : (?P<total>0x[0-9a-f]{16})\n"
    r"Write bytes     : (?P<bytes>\d+)\n"
    r"\n"
    r"Cache hit: 0, miss: 0\n"
    r"\n"
)


class TestReport:
    """``--show-stats``."""

    @pytest.mark.parametrize(
        "asked", [("--show-stats",), ("--message-level", 31), ("--message-level=0", "--show-stats")]
    )
    def test_its_numbers(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        asked: tuple[object, ...],
    ) -> None:  # fmt: skip
        run(*asked, "-d", 31, small.path, tmp_path / "dump")
        found = REPORT.search(capsys.readouterr().out)
        assert found
        said = {name: int(text, 0) for name, text in found.groupdict("0").items()}
        dump = Dump(tmp_path / "dump")
        zero = sum(dump.page(pfn) == bytes(4096) for pfn in dump.pfns)
        existing = sum(bin(byte).count("1") for byte in dump.bitmap1)
        counts = small.counts(31)
        assert {kind: said[kind] for kind in counts} == counts
        assert (said["original"], said["zero"], said["before"]) == (existing, zero, 0)
        assert said["excluded"] == existing - len(dump.pfns) + zero
        assert said["remaining"] == len(dump.pfns) - zero
        assert said["percent"] == 100 * said["remaining"] // existing
        assert (said["hole"], said["total"]) == (dump.max_mapnr - existing, dump.max_mapnr)
        assert said["bytes"] == len(dump.raw)

    def test_nobody_asked(
        self, small: BuiltCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("-d", 31, "--message-level", 15, small.path, tmp_path / "dump")
        assert "Original pages" not in capsys.readouterr().out
