# SPDX-License-Identifier: GPL-2.0-or-later
"""A split dump as input: what is made of its parts is what is made of the dump they stand for."""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile import cli
from pydumpfile.cli.options import check, parse
from pydumpfile.errors import PydumpfileError, TruncatedError, UsageError
from pydumpfile.kernel.log import log_lines
from pydumpfile.reassemble import reassemble
from pydumpfile.sinks import Target
from tests.builders import BuiltCore
from tests.builders.logcore import PLACE, build_log_core
from tests.builders.printk import LocklessRing
from tests.conftest import MIB, CoreMaker
from tests.sinks.kdump_reader import EMPTY, LOST, Dump
from tests.test_split import HIGH, names, split

SUB_OFF = 4096


@pytest.fixture(scope="module")
def built(core_of: CoreMaker) -> BuiltCore:
    """Memory far apart, and no free blocks of impossible order: see tests/test_refilter.py."""
    return core_of(replace(HIGH, bad_orders=False))


@pytest.fixture(scope="module")
def pristine(built: BuiltCore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four parts of it, without the zero pages and compressed with zstd."""
    directory = tmp_path_factory.mktemp("pristine")
    split(built.path, names(directory, 4), level=1, compression="zstd")
    return directory


@pytest.fixture
def parts(pristine: Path, tmp_path: Path) -> list[str]:
    """Copies for the test to damage, in an order that is not theirs."""
    for path in names(pristine, 4):
        shutil.copy(path, tmp_path)
    paths = list(names(tmp_path, 4))
    random.Random(7).shuffle(paths)
    assert paths != sorted(paths)
    return paths


def joined(paths: Sequence[str], path: Path) -> Path:
    """What --reassemble makes of them."""
    reassemble(paths, Target(str(path)))
    return path


def change(path: str, off: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(off)
        file.write(data)


def run(*arguments: object, status: int = 0, program: str = "pydumpfile") -> None:
    assert cli.main([str(argument) for argument in arguments], program) == status


class TestTheSameDump:
    """Byte for byte what comes of the joined file."""

    @pytest.mark.parametrize("codec", ["none", "zlib"])
    @pytest.mark.parametrize("level", [0, 8, 31])
    def test_at_every_level(
        self, built: BuiltCore, parts: list[str], tmp_path: Path, level: int, codec: str
    ) -> None:
        done = pydumpfile.dump(parts, tmp_path / "of parts", level, codec)
        pydumpfile.dump(joined(parts, tmp_path / "joined"), tmp_path / "of joined", level, codec)
        pydumpfile.dump(built.path, tmp_path / "direct", level | 1, codec)
        dump = (tmp_path / "of parts").read_bytes()
        assert dump == (tmp_path / "of joined").read_bytes() == (tmp_path / "direct").read_bytes()
        assert (done.lost, done.warnings) == (0, [])

    @pytest.mark.parametrize("way", ["threads", "flattened", "python", "read", "split"])
    def test_in_every_way(
        self, parts: list[str], tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, again = tmp_path / "of parts", tmp_path / "of joined"
        whole = joined(parts, tmp_path / "joined")
        if way == "python":
            monkeypatch.setenv("PYDUMPFILE_KERNEL", "python")
        if way == "read":
            with pydumpfile.Vmcore.open(parts, use_mmap=False) as vmcore:
                pydumpfile.dump(vmcore, out)
            pydumpfile.dump(whole, again)
        elif way == "split":
            pydumpfile.dump(parts, names(tmp_path, 7)[4:], splitblock_size=MIB)
            joined(names(tmp_path, 7)[4:], out)
            pydumpfile.dump(whole, again)
        else:
            how = {"n_threads": 3 if way == "threads" else 1, "flattened": way == "flattened"}
            pydumpfile.dump(parts, out, **how)  # type: ignore[arg-type]
            pydumpfile.dump(whole, again, **how)  # type: ignore[arg-type]
        assert out.read_bytes() == again.read_bytes()

    def test_incomplete_parts(self, parts: list[str], tmp_path: Path) -> None:
        """Pages that did not make it are lost, whatever became of them."""
        for path in parts:
            change(path, 424, bytes((0x28,)))
        damaged = Dump(Path(parts[1]))
        change(parts[1], damaged.descriptors_off + 24 * 3, struct.pack("<qIIQ", *EMPTY))
        change(parts[1], damaged.descriptors_off + 24 * 4, struct.pack("<qIIQ", *LOST))
        os.truncate(parts[1], len(damaged.raw) - 3000)
        done = pydumpfile.dump(parts, tmp_path / "of parts", 0)
        again = pydumpfile.dump(joined(parts, tmp_path / "joined"), tmp_path / "of joined", 0)
        assert done.incomplete and done.lost == again.lost > 2
        dump = Dump(tmp_path / "of parts")
        assert dump.incomplete and len(dump.lost) == done.lost
        assert dump.raw == Dump(tmp_path / "of joined").raw

    def test_what_was_erased(self, parts: list[str], tmp_path: Path) -> None:
        for path in parts[::2]:
            text, end = f"erase secret of {path[-1]}\n".encode(), os.path.getsize(path)
            change(path, SUB_OFF + 64, struct.pack("<QQ", end, len(text)))
            change(path, end, text)
        pydumpfile.dump(parts, tmp_path / "of parts")
        pydumpfile.dump(joined(parts, tmp_path / "joined"), tmp_path / "of joined")
        dump = Dump(tmp_path / "of parts")
        assert dump.raw.count(b"erase secret of ") == 2
        assert dump.raw == Dump(tmp_path / "of joined").raw


def test_every_page(built: BuiltCore, parts: list[str], tmp_path: Path) -> None:
    """By what was put into the core."""
    whole = Dump(joined(parts, tmp_path / "joined"))
    with pydumpfile.open(parts) as vmcore:
        assert vmcore.files == tuple(sorted(parts))
        kept = [pfn for run in vmcore.source.data.pages(12) for pfn in range(*run)]
        assert kept == whole.pfns
        for pfn in kept:
            assert vmcore.source.read_page(pfn, 12) == built.page(pfn), hex(pfn)


@pytest.mark.parametrize("kind", [str, Path])
def test_names_of_every_kind(parts: list[str], kind: type) -> None:
    with pydumpfile.open([kind(path) for path in parts]) as vmcore:
        assert vmcore.utsname is not None and vmcore.utsname.release == "6.12.0"
        assert vmcore.mem_map.model == "SPARSEMEM_EXTREME"


class TestTheCommand:
    """All parts in the place of VMCORE."""

    def test_a_dump(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("-c", "-d", 30, *parts, tmp_path / "dump")
        said = capsys.readouterr().out
        told = ", ".join(sorted(parts))
        assert said.startswith(f"{told}: Linux 6.12.0 on builder")
        assert f"dump_level is changed to 31, because {told} was created by dump_level(1)." in said
        run("-c", "-d", 30, joined(parts, tmp_path / "joined"), tmp_path / "other")
        assert (tmp_path / "dump").read_bytes() == (tmp_path / "other").read_bytes()

    def test_a_stream(
        self, parts: list[str], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        run("-F", "-c", "-d", 31, *parts)
        stream = capfdbinary.readouterr().out
        run("-F", "-c", "-d", 31, joined(parts, tmp_path / "joined"))
        assert stream == capfdbinary.readouterr().out
        assert stream.startswith(b"makedumpfile")

    def test_a_dry_run(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = sorted(os.listdir(tmp_path))
        run("--dry-run", "-d", 31, "-c", *parts, tmp_path / "dump")
        assert "Nothing is written" in capsys.readouterr().out
        assert sorted(os.listdir(tmp_path)) == before

    def test_mem_usage(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("--mem-usage", *parts)
        said = capsys.readouterr().out
        run("--mem-usage", joined(parts, tmp_path / "joined"))
        assert said == capsys.readouterr().out
        assert "KERN_DATA" in said

    def test_the_log(self, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        """Which lies scattered over the memory of the machine."""
        ring = LocklessRing()
        for i in range(60):
            ring.store(b"line %d" % i, i * 1_000_000, 1)
        build_log_core(tmp_path / "core", ring.image(PLACE))
        paths = names(tmp_path, 3)
        run("--split", "--splitblock-size", 256, tmp_path / "core", *paths)
        assert all(len(Dump(Path(path)).raw) > 100_000 for path in paths)
        with pydumpfile.open(tmp_path / "core") as vmcore:
            log = b"".join(log_lines(vmcore))
        assert log.count(b"line ") == 60
        run("--dump-dmesg", *paths[::-1], tmp_path / "log")
        assert (tmp_path / "log").read_bytes() == log
        capfdbinary.readouterr()
        run("-F", "--dump-dmesg", *paths)
        assert capfdbinary.readouterr().out == log

    def test_incomplete_parts(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        change(parts[2], 424, bytes((0x28,)))
        run("-d", 31, *parts, tmp_path / "dump", status=7)
        assert "is marked incomplete; what was made of it" in capsys.readouterr().err
        assert Dump(tmp_path / "dump").incomplete

    def test_no_elf_core_is_made_of_them(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run("-E", "-d", 31, *parts, tmp_path / "dump", status=5)
        assert "an ELF core (-E) of what is none itself" in capsys.readouterr().err

    @pytest.mark.parametrize("which", range(4))
    def test_never_over_a_part(
        self, parts: list[str], capsys: pytest.CaptureFixture[str], which: int
    ) -> None:
        before = Path(parts[which]).read_bytes()
        run("-f", "-d", 31, *parts, parts[which], status=1)
        assert "is the input itself" in capsys.readouterr().err
        assert Path(parts[which]).read_bytes() == before

    @pytest.mark.parametrize("which", range(4))
    def test_a_dump_that_nobody_named(
        self, parts: list[str], capsys: pytest.CaptureFixture[str], which: int
    ) -> None:
        """The last part is taken for it, and survives that: it is missing among the others."""
        parts.append(parts.pop(which))
        before = Path(parts[-1]).read_bytes()
        run("-f", "-d", 31, *parts, status=1)
        assert "a part is missing" in capsys.readouterr().err
        assert Path(parts[-1]).read_bytes() == before


class TestWhatIsASet:
    """More than one operand for VMCORE is a mistake, but for parts."""

    @pytest.mark.parametrize(
        "words",
        ["-d31 core {0} out", "-F {1} {0}", "--dump-dmesg {0} {1} {2} {3} out",
         "--mem-usage {2} missing", "--check-params -c {0} {1} out", "--dry-run {0} {1} x"],
    )  # fmt: skip
    def test_what_is_taken_for_one(self, parts: list[str], words: str) -> None:
        """Already if one of them is a part; then it is told what the others are."""
        options = parse(words.format(*parts).split())
        n_outputs = 0 if options.flattened or options.mem_usage else 1
        assert options.inputs + options.outputs == options.operands
        assert len(options.outputs) == n_outputs
        with pytest.raises(UsageError, match="expected VMCORE"):
            check(options, takes_parts=False)

    @pytest.mark.parametrize(
        "words",
        ["-d31 core dump out", "core dump {0}", "-F core core", "--dump-dmesg core core log",
         "--mem-usage core core", "-R {0} {1}", "-g out -x vmlinux {0} {1}", "--check-params a b c",
         "{0}", "-F"],
    )  # fmt: skip
    def test_what_is_a_mistake(
        self, built: BuiltCore, parts: list[str], tmp_path: Path, words: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        os.symlink(built.path, "core")
        joined(parts, tmp_path / "dump")
        with pytest.raises(UsageError, match="expected"):
            parse(words.format(*parts).split())

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UsageError, match="expected"):
            parse((str(tmp_path / "pipe"), "more", "out"))

    @pytest.mark.parametrize("words", ["-d31", "-F", "--dump-dmesg", "--check-params"])
    def test_as_makedumpfile_they_are_too_many(
        self, parts: list[str], tmp_path: Path, words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = () if words == "-F" else (tmp_path / "out",)
        run(words, *parts, *out, status=1, program="makedumpfile")
        captured = capsys.readouterr()
        said = captured.err if words == "-F" else captured.out
        assert "Commandline parameter is invalid." in said
        assert not (tmp_path / "out").exists()

    def test_split_takes_one_file(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What comes behind that is to be written, also if it could be read."""
        before = [Path(path).read_bytes() for path in parts]
        run("-f", "--split", *parts, tmp_path / "out", status=5)
        assert f"{parts[0]}: one part of a split dump" in capsys.readouterr().err
        assert [Path(path).read_bytes() for path in parts] == before


class TestRefused:
    """Before the target is touched, with the exit status of what is wrong."""

    @pytest.fixture(autouse=True)
    def _nothing_created(self, tmp_path: Path) -> Iterator[None]:
        yield
        assert not (tmp_path / "dump").exists()

    def refused(
        self, paths: Sequence[str], tmp_path: Path, status: int,
        capsys: pytest.CaptureFixture[str],
    ) -> str:  # fmt: skip
        """What the command says; the library says the same."""
        run("-d", 31, *paths, tmp_path / "dump", status=status)
        said = capsys.readouterr().err
        with pytest.raises(PydumpfileError) as caught:
            pydumpfile.dump(paths, tmp_path / "dump")
        assert said == f"pydumpfile: {caught.value}\n"
        assert caught.value.exit_code == status
        return said

    @pytest.mark.parametrize("gone", range(4))
    def test_a_part_is_missing(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: int
    ) -> None:
        dump = Dump(Path(parts.pop(gone)))
        said = self.refused(parts, tmp_path, UsageError.exit_code, capsys)
        assert f"the pages {dump.start_pfn_64:#x} to {dump.end_pfn_64:#x}\n" in said

    def test_a_part_twice(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = self.refused([*parts, parts[1]], tmp_path, UsageError.exit_code, capsys)
        assert "give each part once" in said

    def test_parts_that_overlap(
        self, built: BuiltCore, parts: list[str], tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        (tmp_path / "other").mkdir()
        others = names(tmp_path / "other", 3)
        split(built.path, others, level=1, compression="zstd")
        paths = [*sorted(parts)[:2], others[1], *sorted(parts)[3:]]
        said = self.refused(paths, tmp_path, UsageError.exit_code, capsys)
        assert f"{sorted(parts)[1]} and {others[1]} both have the pages from " in said or (
            f"{others[1]} and {sorted(parts)[1]} both have the pages from " in said
        )

    def test_a_part_of_another_dump(
        self, built: BuiltCore, parts: list[str], tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """Of the same machine, but with fewer pages; the ranges go together."""
        (tmp_path / "other").mkdir()
        others = names(tmp_path / "other", 4)
        split(built.path, others, level=3, compression="zstd")
        paths = [*sorted(parts)[:3], others[3]]
        change(others[3], SUB_OFF + 80, struct.pack("<Q", Dump(Path(paths[2])).end_pfn_64))
        change(others[3], SUB_OFF + 8, struct.pack("<I", 1))
        said = self.refused(paths, tmp_path, UsageError.exit_code, capsys)
        assert f"{paths[0]} and {others[3]} are not parts of the same dump" in said
        assert "different bitmaps" in said

    def test_a_part_is_cut_short(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        os.truncate(parts[2], os.path.getsize(parts[2]) - 1)
        said = self.refused(parts, tmp_path, TruncatedError.exit_code, capsys)
        assert f"{parts[2]}: at file offset" in said and "this part is cut short" in said

    def test_a_whole_dump_among_them(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        whole = joined(parts, tmp_path / "whole")
        said = self.refused([str(whole), *parts], tmp_path, UsageError.exit_code, capsys)
        assert f"{whole} is a whole dump, not a part of one" in said

    def test_a_core_among_them(
        self, built: BuiltCore, parts: list[str], tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        said = self.refused([*parts, str(built.path)], tmp_path, 3, capsys)
        assert f"{built.path}: at file offset 0x0: expected the signature" in said

    def test_one_that_is_not_there(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = self.refused([*parts, str(tmp_path / "part9")], tmp_path, 12, capsys)
        assert "part9: opening a part of the dump: No such file" in said

    def test_one_alone(
        self, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = self.refused(parts[:1], tmp_path, 5, capsys)
        assert "give all of its parts, or join them with --reassemble" in said
