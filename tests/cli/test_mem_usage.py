# SPDX-License-Identifier: GPL-2.0-or-later
"""--mem-usage, --vtop and -e as they are asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile import cli
from pydumpfile.cli.options import parse
from pydumpfile.errors import UsageError
from pydumpfile.filter import kept
from tests.builders import BuiltCore
from tests.sinks.flattened_reader import file_of, records_of
from tests.sinks.kdump_reader import Dump
from tests.sources.rawelf import describe
from tests.sources.rawkcore import write_kcore

ROWS = ["ZERO", "NON_PRI_CACHE", "PRI_CACHE", "USER", "FREE", "HWPOISON", "OFFLINE", "KERN_DATA"]
EXCLUDED_VMEMMAP = 0x10


@pytest.fixture
def kcore(small: BuiltCore, tmp_path: Path) -> str:
    return str(write_kcore(tmp_path / "kcore", small))


@pytest.mark.parametrize("program", ["pydumpfile", "makedumpfile"])
def test_the_table(
    capsys: pytest.CaptureFixture[str], small: BuiltCore, kcore: str, program: str
) -> None:
    assert cli.main(["--mem-usage", kcore], program) == 0
    said, complaints = capsys.readouterr()
    found = dict(re.findall(r"^([A-Z_]+) +(\d+) +(?:yes|no) ", said, re.M))
    assert list(found) == ROWS
    assert int(found["FREE"]) == small.counts(31)["free"]
    assert said.endswith(" Byte\n")  # and no "Completed"
    assert "impossible order" in complaints  # which the builders put there


@pytest.mark.parametrize("level", ["0", "4"])
def test_by_message_level(capsys: pytest.CaptureFixture[str], kcore: str, level: str) -> None:
    assert cli.main(["--mem-usage", "--message-level", level, kcore]) == 0
    said, complaints = capsys.readouterr()
    assert said == ""
    assert all("warning" in line for line in complaints.splitlines())


def test_what_it_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["--mem-usage"]) == 1
    assert "expected VMCORE" in capsys.readouterr().err
    assert cli.main(["--mem-usage", str(tmp_path / "none")]) == 12
    assert cli.main(["--mem-usage", str(tmp_path / "none")], "makedumpfile") == 1
    assert "makedumpfile Failed." in capsys.readouterr().out


def test_of_a_kernel_that_says_nothing(
    capsys: pytest.CaptureFixture[str], small: BuiltCore, tmp_path: Path
) -> None:
    """Counts that would be guesses are none."""
    path = write_kcore(tmp_path / "kcore", small, text=" ")
    assert cli.main(["--mem-usage", str(path)]) == 6
    said, complaints = capsys.readouterr()
    assert said == "" and "VMCOREINFO" in complaints


@pytest.mark.parametrize(("program", "status"), [("pydumpfile", 6), ("makedumpfile", 1)])
def test_of_a_dump_of_which_no_page_can_be_judged(
    capsys: pytest.CaptureFixture[str], small: BuiltCore, tmp_path: Path, program: str, status: int
) -> None:
    """It could be dumped once more, as nothing is left to be judged; but not be counted."""
    path = tmp_path / "dump"
    pydumpfile.dump(small.path, path, 31)
    content = path.read_bytes()
    assert content.count(b"OFFSET(page.flags)") == 1
    path.write_bytes(content.replace(b"OFFSET(page.flags)", b"OFFSET(page.wrong)"))
    assert cli.main(["--mem-usage", str(path)], program) == status
    said, complaints = capsys.readouterr()
    assert "KERN_DATA" not in said
    assert "pydumpfile: no page was judged: " in complaints and "page.flags" in complaints
    assert cli.main(["-d", "31", str(path), str(tmp_path / "again")]) == 0


@pytest.mark.parametrize(
    ("text", "address"),
    [("0xffffffff81000000", 0xFFFFFFFF81000000), ("ffffffff81000000", 0xFFFFFFFF81000000),
     ("4096", 4096), ("0", 0), ("0X10", 16), ("FFFFEA0000000000", 0xFFFFEA0000000000)],
)  # fmt: skip
def test_addresses(text: str, address: int) -> None:
    assert parse(["--vtop", text, "vmcore", "dump"]).vtop == address


@pytest.mark.parametrize(
    "text", ["", "0x", "010", "-1", "1_0", "0x10000000000000000", "init_task", "٣"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is not a virtual address"):
        parse(["--vtop", text, "vmcore", "dump"])


@pytest.mark.parametrize("mapped", [True, False])
def test_a_walk_and_the_dump_all_the_same(
    capsys: pytest.CaptureFixture[str], small: BuiltCore, tmp_path: Path, mapped: bool
) -> None:
    vaddr = small.page_vaddr(7) if mapped else 0x1000
    arguments = ["--vtop", f"{vaddr:#x}", "-d", "31", str(small.path), str(tmp_path / "dump")]
    assert cli.main(arguments) == 0
    said, _ = capsys.readouterr()
    assert f"Page tables for virtual address {vaddr:x}:" in said
    assert re.search(r"^  PGD : +[0-9a-f]+ => +[0-9a-f]+$", said, re.M)
    assert ("VIRTUAL           PHYSICAL" in said) == mapped
    assert ("is not mapped" in said) != mapped
    assert Dump(tmp_path / "dump").pfns


def test_a_walk_without_a_description_of_the_kernel(
    capsys: pytest.CaptureFixture[str], scratch_core: Path, tmp_path: Path
) -> None:
    describe(scratch_core, {"OSRELEASE": "6.12.0", "PAGESIZE": 4096})
    arguments = ["--vtop", "0xffffffff81000000", str(scratch_core), str(tmp_path / "dump")]
    assert cli.main(arguments) == 0
    assert "warning: --vtop: the kernel's description lacks SYMBOL(init" in capsys.readouterr().err
    assert Dump(tmp_path / "dump").pfns


@pytest.mark.parametrize("flag", ["-e", "--exclude-unused-vm"])
def test_without_unused_struct_pages(
    capsys: pytest.CaptureFixture[str], small: BuiltCore, tmp_path: Path, flag: str
) -> None:
    options = ["-d", "31", "--work-dir", str(tmp_path)]
    for arguments in ([*options, str(small.path), str(tmp_path / "whole")],
                      [*options, flag, str(small.path), str(tmp_path / "dump")]):  # fmt: skip
        assert cli.main(arguments) == 0
    row = re.search(r"^- unused struct pages +(\d+) ", capsys.readouterr().out, re.M)
    assert row
    whole, dump = Dump(tmp_path / "whole"), Dump(tmp_path / "dump")
    assert dump.status & EXCLUDED_VMEMMAP and not whole.status & EXCLUDED_VMEMMAP
    assert set(dump.pfns) < set(whole.pfns)
    assert len(whole.pfns) - len(dump.pfns) == int(row[1])
    assert all(dump.page(pfn) == whole.page(pfn) for pfn in dump.pfns)


@pytest.mark.parametrize("most", [kept.MAX_REMEMBERED_SIZE, 0])
def test_a_stream_without_them_is_the_same_dump(
    small: BuiltCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Also where pages are judged once more, because a stream cannot be read back."""
    monkeypatch.setattr(kept, "MAX_REMEMBERED_SIZE", most)
    for path, flattened in (("dump", False), ("stream", True)):
        pydumpfile.dump(
            small.path, tmp_path / path, flattened=flattened, without_unused_mem_map=True
        )
    stream = (tmp_path / "stream").read_bytes()
    assert file_of(records_of(stream)) == (tmp_path / "dump").read_bytes()
