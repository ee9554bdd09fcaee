# SPDX-License-Identifier: GPL-2.0-or-later
"""From parts to the dump: byte for byte, or a clear error and nothing."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

import pytest

from pydumpfile.errors import (
    FormatError,
    InputError,
    OutputError,
    PydumpfileError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)
from pydumpfile.reassemble import reassemble
from pydumpfile.sinks import Target
from pydumpfile.sinks.file import OutputFile
from tests.builders import BuiltCore
from tests.conftest import MIB, CoreMaker
from tests.sinks.kdump_reader import EMPTY, LOST, Dump
from tests.test_split import HIGH, names, split, whole

SUB_OFF = 4096


@pytest.fixture(scope="module")
def pristine(small: BuiltCore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts of the small core at level 31, and the same dump whole."""
    directory = tmp_path_factory.mktemp("pristine")
    split(small.path, names(directory, 3))
    whole(small.path, directory / "whole")
    return directory


@pytest.fixture
def parts(pristine: Path, tmp_path: Path) -> list[str]:
    """Copies of the parts, for the test to damage."""
    for path in names(pristine, 3):
        shutil.copy(path, tmp_path)
    return list(names(tmp_path, 3))


@pytest.fixture
def unsplit(pristine: Path, tmp_path: Path) -> bytes:
    """What they are to become."""
    shutil.copy(pristine / "whole", tmp_path)
    return (tmp_path / "whole").read_bytes()


def joined(paths: Sequence[str], path: Path) -> tuple[str, ...]:
    done = reassemble(paths, Target(str(path)))
    assert done.size == path.stat().st_size
    return done.incomplete


def change(path: str, off: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(off)
        file.write(data)


@pytest.mark.parametrize("n_parts", [2, 6])
@pytest.mark.parametrize(("level", "compression"), [(31, "none"), (0, "none"), (31, "zstd")])
def test_the_bytes_of_the_unsplit_dump(
    core_of: CoreMaker, tmp_path: Path, level: int, compression: str, n_parts: int
) -> None:
    built = core_of(HIGH)
    paths = list(names(tmp_path, n_parts))
    split(built.path, paths, level, compression)
    random.Random(7).shuffle(paths)
    assert joined(paths, tmp_path / "joined") == ()
    whole(built.path, tmp_path / "whole", level, compression)
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "joined").stat().st_mode & 0o777 == 0o600


def test_parts_without_pages(small: BuiltCore, tmp_path: Path, unsplit: bytes) -> None:
    paths = names(tmp_path, 4)
    split(small.path, paths, block=1 << 30)
    joined(paths, tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == unsplit


def test_boundaries_anywhere(small: BuiltCore, tmp_path: Path, unsplit: bytes) -> None:
    """As makedumpfile's are with --splitblock-size 4: inside a byte of the bitmap."""
    paths = names(tmp_path, 3)
    split(small.path, paths)
    dumps = [Dump(Path(path)) for path in paths]
    moved = next(pfn for pfn in dumps[1].pfns if pfn > dumps[0].end_pfn_64 + 20 and pfn % 8)
    n_moved = len([p for p in dumps[1].pfns if dumps[0].end_pfn_64 <= p < moved])
    n_first = len([p for p in dumps[0].pfns if p < dumps[0].end_pfn_64])
    # The first pages of the second part go over to the first, data and all.
    table = dumps[0].descriptors_off
    change(paths[0], SUB_OFF + 24, struct.pack("<Q", moved))
    change(paths[0], SUB_OFF + 88, struct.pack("<Q", moved))
    change(paths[1], SUB_OFF + 16, struct.pack("<Q", moved))
    change(paths[1], SUB_OFF + 80, struct.pack("<Q", moved))
    second = dumps[1].raw
    entries = second[table : table + 24 * n_moved]
    rest = second[table + 24 * n_moved : table + 24 * len(dumps[1].pfns)]
    change(paths[1], table, rest + bytes(24 * n_moved))
    at = len(dumps[0].raw)
    data_off = table + 24 * len(dumps[0].pfns)
    for i, (off, size, flags, _) in enumerate(struct.iter_unpack("<qIIQ", entries)):
        if off != data_off:
            change(paths[0], at, second[off : off + size])
            entry = struct.pack("<qIIQ", at, size, flags, 0)
            at += size
        else:
            entry = struct.pack("<qIIQ", off, size, flags, 0)
        change(paths[0], table + 24 * (n_first + i), entry)
    joined(paths, tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == unsplit


def test_what_was_erased_is_carried_over(parts: list[str], tmp_path: Path, unsplit: bytes) -> None:
    texts = [b"erase jiffies size 8\n", b"", b"erase secret nullify\n"]
    for path, text in zip(parts, texts):
        if text:
            change(path, SUB_OFF + 64, struct.pack("<QQ", os.path.getsize(path), len(text)))
            change(path, os.path.getsize(path), text)
    joined(parts, tmp_path / "joined")
    dump = Dump(tmp_path / "joined")
    assert (dump.offset_eraseinfo, dump.size_eraseinfo) == (len(unsplit), len(b"".join(texts)))
    assert dump.raw[len(unsplit) :] == b"".join(texts)
    assert dump.raw[:SUB_OFF] + dump.raw[SUB_OFF + 104 : len(unsplit)] == (
        unsplit[:SUB_OFF] + unsplit[SUB_OFF + 104 :]
    )


def test_what_was_erased_is_told_once(parts: list[str], tmp_path: Path) -> None:
    """If it is with the notes, as in a dump of a dump."""
    text = b"erase jiffies size 8\n"
    first = Dump(Path(parts[0]))
    off = first.offset_note + first.size_note
    for path in parts:
        change(path, off, text)
        change(path, SUB_OFF + 64, struct.pack("<QQ", off, len(text)))
    joined(parts, tmp_path / "joined")
    dump = Dump(tmp_path / "joined")
    assert (dump.offset_eraseinfo, dump.size_eraseinfo) == (off, len(text))
    assert dump.raw[off : off + len(text)] == text
    assert dump.raw.count(text) == 1


class TestIncompleteParts:
    """What they have is joined; what comes of it is marked."""

    def test_one_of_them(self, parts: list[str], tmp_path: Path, unsplit: bytes) -> None:
        """As if the parent died while it marked them complete: nothing is missing really."""
        change(parts[1], 424, b"\x08")
        assert joined(parts, tmp_path / "joined") == (parts[1],)
        data = bytearray((tmp_path / "joined").read_bytes())
        assert data[424] == 0x08
        data[424] = 0
        assert data == unsplit

    @pytest.mark.usefixtures("unsplit")
    def test_pages_that_did_not_make_it(self, parts: list[str], tmp_path: Path) -> None:
        """Table entries that are empty, or lost, or (makedumpfile's) of data past the end."""
        for path in parts:
            change(path, 424, b"\x08")
        dump = Dump(Path(parts[1]))
        own = [p for p in dump.pfns if dump.start_pfn_64 <= p < dump.end_pfn_64]
        table = dump.descriptors_off
        change(parts[1], table + 24 * 3, struct.pack("<qIIQ", *EMPTY))
        change(parts[1], table + 24 * 4, struct.pack("<qIIQ", *LOST))
        os.truncate(parts[1], len(dump.raw) - 5000)
        assert joined(parts, tmp_path / "joined") == tuple(parts)
        result, expected = Dump(tmp_path / "joined"), Dump(tmp_path / "whole")
        assert result.incomplete
        missing = {pfn for pfn in result.pfns if result.page(pfn) is None}
        assert {own[3], own[4]} < missing < set(own)
        assert len(missing) == 4  # the last 5000 bytes are of two pages
        assert result.descriptors[own[3]] == EMPTY
        for pfn in expected.pfns:
            if pfn not in missing:
                assert result.page(pfn) == expected.page(pfn)


class TestNotWhatItSays:
    """A part that calls itself complete and lacks a page: seen late, and the dump stays marked."""

    @pytest.mark.parametrize(
        "descriptor", [EMPTY, LOST, (1 << 40, 4096, 0, 0), (5, 4096, 0, 0)], ids=str
    )
    def test_a_page_that_is_not_there(
        self, small: BuiltCore, tmp_path: Path, descriptor: tuple[int, int, int, int]
    ) -> None:
        """At the start of a table of several pieces, of which only the last is looked at before."""
        paths = names(tmp_path, 2)
        split(small.path, paths, level=0)
        dump = Dump(Path(paths[1]))
        assert len([p for p in dump.pfns if p >= dump.start_pfn_64]) > 2730 + 5
        change(paths[1], dump.descriptors_off + 24 * 5, struct.pack("<qIIQ", *descriptor))
        with pytest.raises(FormatError) as caught:
            joined(paths, tmp_path / "joined")
        assert caught.value.path == paths[1]
        assert (tmp_path / "joined").read_bytes()[424] & 8


class TestRefused:
    """Nothing is created."""

    @pytest.fixture(autouse=True)
    def _nothing_created(self, tmp_path: Path) -> Iterator[None]:
        yield
        assert not (tmp_path / "joined").exists()

    @pytest.mark.parametrize("gone", [0, 1, 2])
    def test_a_gap(self, parts: list[str], tmp_path: Path, gone: int) -> None:
        dump = Dump(Path(parts.pop(gone)))
        with pytest.raises(UsageError) as caught:
            joined(parts, tmp_path / "joined")
        assert f"{dump.start_pfn_64:#x} to {dump.end_pfn_64:#x}" in str(caught.value)

    def test_a_part_twice(self, parts: list[str], tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="give each part once"):
            joined([*parts, parts[1]], tmp_path / "joined")

    @pytest.mark.parametrize(
        ("off", "data", "what"),
        [
            (408, b"\1", "headers"),  # another crash time
            (SUB_OFF + 8, b"\x1e", "headers"),  # another level
            (SUB_OFF + 104 + 20, b"!", "notes"),
            (2 * 4096 + 40, b"\x55", "bitmaps"),
        ],
    )
    def test_a_part_of_another_dump(
        self, parts: list[str], tmp_path: Path, off: int, data: bytes, what: str
    ) -> None:
        change(parts[2], off, data)
        with pytest.raises(UsageError, match=f"not parts of the same dump.*{what}"):
            joined(parts, tmp_path / "joined")

    @pytest.mark.usefixtures("unsplit")
    def test_a_whole_dump(self, parts: list[str], tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a whole dump"):
            joined([parts[0], str(tmp_path / "whole")], tmp_path / "joined")

    def test_something_else(self, parts: list[str], small: BuiltCore, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="signature"):
            joined([parts[0], str(small.path)], tmp_path / "joined")
        with pytest.raises(InputError) as caught:
            joined([parts[0], str(tmp_path / "absent")], tmp_path / "joined")
        assert caught.value.errno == errno.ENOENT

    @pytest.mark.parametrize("cut", [1, 3000, 200_000])
    def test_a_part_cut_short(self, parts: list[str], tmp_path: Path, cut: int) -> None:
        """By a byte, a page, or nearly all of it: it says that it is complete."""
        os.truncate(parts[1], max(os.path.getsize(parts[1]) - cut, 5000))
        with pytest.raises(TruncatedError) as caught:
            joined(parts, tmp_path / "joined")
        assert caught.value.path == parts[1]

    @pytest.mark.parametrize("bounds", [(200, 100), (0, 1 << 40)])
    def test_absurd_bounds(self, parts: list[str], tmp_path: Path, bounds: tuple[int, int]) -> None:
        change(parts[0], SUB_OFF + 80, struct.pack("<QQ", *bounds))
        with pytest.raises(FormatError, match="damaged"):
            joined(parts[:1], tmp_path / "joined")

    def test_a_machine_of_32_bits(self, parts: list[str], tmp_path: Path) -> None:
        """Nobody has such parts any more; rather refused than written wrong."""
        for path in parts:
            raw = bytearray(Path(path).read_bytes())
            fields = raw[408 + 16 : 464]
            raw[402:464] = bytes(62)
            struct.pack_into("<2xii", raw, 402, 0, 0)
            raw[412 : 412 + len(fields)] = fields
            sub = struct.pack("<IiiII4xQI4xQI4xQI4xQQQ", 0, 31, 1, 0, 0, *[0] * 6, 0, 0, 8)
            raw[SUB_OFF : SUB_OFF + 104] = sub.ljust(104, b"\0")
            Path(path).write_bytes(raw)
        what = f"{parts[0]}: a part of a split dump of a 32-bit machine is not supported"
        with pytest.raises(UnsupportedError, match=f"^{re.escape(what)}$"):
            joined(parts, tmp_path / "joined")


class TestTheTarget:
    """Where the dump goes."""

    def test_what_is_there_is_kept(self, parts: list[str], tmp_path: Path) -> None:
        (tmp_path / "joined").write_bytes(b"precious")
        with pytest.raises(OutputError) as caught:
            joined(parts, tmp_path / "joined")
        assert caught.value.errno == errno.EEXIST
        assert (tmp_path / "joined").read_bytes() == b"precious"

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_never_over_a_part(self, parts: list[str], which: int) -> None:
        before = Path(parts[which]).read_bytes()
        with pytest.raises(UsageError, match="the input itself"):
            reassemble(parts, Target(parts[which], overwrite=True))
        assert Path(parts[which]).read_bytes() == before

    @pytest.mark.parametrize("limit", [1000, 200_000, 2 * MIB])
    def test_no_space(self, parts: list[str], tmp_path: Path, limit: int) -> None:
        with pytest.raises(OutputError):
            reassemble(parts, Target(str(tmp_path / "joined"), size_limit=limit))
        assert (tmp_path / "joined").read_bytes()[424] & 8

    def test_it_is_marked_until_all_is_there(
        self, parts: list[str], tmp_path: Path, unsplit: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whenever the process is killed."""
        marks = []
        write_at = OutputFile.write_at

        def watched(output: OutputFile, off: int, data: bytes) -> None:
            write_at(output, off, data)
            marks.append(bool((tmp_path / "joined").read_bytes()[424] & 8))

        monkeypatch.setattr(OutputFile, "write_at", watched)
        joined(parts, tmp_path / "joined")
        assert marks == [True] * (len(marks) - 1) + [False]
        assert (tmp_path / "joined").read_bytes() == unsplit

    def test_all_is_on_the_disk_before_the_header_says_so(
        self, parts: list[str], tmp_path: Path, unsplit: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Descriptors too, whatever the disk makes of the order of writes."""
        unsynced = 0
        marked_complete_with: list[int] = []
        pwrite, fsync = os.pwrite, os.fsync

        def write(fd: int, data: memoryview, off: int) -> int:
            nonlocal unsynced
            if off == 0 and not data[424] & 8:
                marked_complete_with.append(unsynced)
            unsynced += 1
            return pwrite(fd, data, off)

        def sync(fd: int) -> None:
            nonlocal unsynced
            unsynced = 0
            fsync(fd)

        monkeypatch.setattr(os, "pwrite", write)
        monkeypatch.setattr(os, "fsync", sync)
        joined(parts, tmp_path / "joined")
        assert marked_complete_with == [0]
        assert unsynced == 0
        assert (tmp_path / "joined").read_bytes() == unsplit

    def test_what_parts_have_in_common_is_read_once(
        self, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """But for the bits that are counted, and those that are copied."""
        dump = Dump(Path(parts[0]))
        bitmaps = range(dump.descriptors_off - dump.bitmap_blocks * 4096, dump.descriptors_off)
        n_read = 0
        pread = os.pread

        def read(fd: int, size: int, off: int) -> bytes:
            nonlocal n_read
            n_read += max(0, min(off + size, bitmaps.stop) - max(off, bitmaps.start))
            return pread(fd, size, off)

        monkeypatch.setattr(os, "pread", read)
        joined(parts, tmp_path / "joined")
        # The start of each is read for its headers, whatever is behind them.
        in_start = max(0, min(65536 + 104, bitmaps.stop) - bitmaps.start)
        assert n_read <= len(parts) * (len(bitmaps) + in_start) + 3 * len(bitmaps) // 2 + 64


def damage_table(rng: random.Random, dump: Dump) -> tuple[int, bytes]:
    n = len([p for p in dump.pfns if dump.start_pfn_64 <= p < dump.end_pfn_64])
    off = dump.descriptors_off + 24 * rng.randrange(n)
    numbers = (rng.choice([-1, 0, 5, 1 << 62, 2**63 - 1]), rng.choice([0, 1, 4097, 2**32 - 1]))
    return off, struct.pack("<qI", *numbers)


def damage_headers(rng: random.Random, dump: Dump) -> tuple[int, bytes]:
    del dump
    off = rng.choice([*range(424, 444), *range(SUB_OFF, SUB_OFF + 104)])
    return off, bytes((rng.randrange(256),))


@pytest.mark.parametrize("damage", [damage_table, damage_headers])
@pytest.mark.parametrize("seed", range(20))
def test_damage_is_an_error_or_of_no_matter(
    parts: list[str], tmp_path: Path, unsplit: bytes, seed: int,
    damage: Callable[[random.Random, Dump], tuple[int, bytes]],
) -> None:  # fmt: skip
    rng = random.Random(seed)
    path = rng.choice(parts)
    off, data = damage(rng, Dump(Path(path)))
    change(path, off, data)
    try:
        incomplete = joined(parts, tmp_path / "joined")
    except PydumpfileError:
        assert not (tmp_path / "joined").exists() or Dump(tmp_path / "joined").incomplete
    else:
        assert incomplete or (tmp_path / "joined").read_bytes() == unsplit
