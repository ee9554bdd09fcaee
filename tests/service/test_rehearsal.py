# SPDX-License-Identifier: GPL-2.0-or-later
"""The rehearsal: it passes here, and a capture path that does something else does not."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import pytest

import pydumpfile
from pydumpfile.service import specimen
from pydumpfile.service.rehearsal import RehearsalError, Run, rehearse
from tests.sinks.kdump_reader import Dump


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("specimen") / "vmcore"
    specimen.write(str(path))
    return path


def test_the_specimen_is_what_it_says(core: Path) -> None:
    with pydumpfile.open(core) as vmcore:
        assert vmcore.utsname is not None
        assert vmcore.utsname.release == specimen.RELEASE
        assert vmcore.mem_map.model == "SPARSEMEM_EXTREME"
    assert core.stat().st_size < 5 << 20


@pytest.mark.parametrize("level", range(32))
def test_the_specimen_has_every_kind_of_page(core: Path, tmp_path: Path, level: int) -> None:
    said = pydumpfile.dump(core, tmp_path / "dump", level, "none")
    left_out = {kind: n for kind, n in said.left_out.items() if n}
    kinds = {
        pydumpfile.Kind.CACHE: level & 6,
        pydumpfile.Kind.CACHE_PRIVATE: level & 4,
        pydumpfile.Kind.USER: level & 8,
        pydumpfile.Kind.FREE: level & 16,
    }
    assert left_out == {kind: specimen.LEFT_OUT[kind] for kind, goes in kinds.items() if goes}


class Actor:
    """Stands in for the command: does it as a library, and spoils one thing if told so."""

    def __init__(self, spoil: Callable[[str, bytes], bytes] = lambda _, dump: dump) -> None:
        self.spoil = spoil
        self.status = 0

    def __call__(  # noqa: PLR0912  one branch an act
        self, program: str, arguments: Sequence[str]
    ) -> subprocess.CompletedProcess[bytes]:
        codec = next((OPTIONS[a] for a in arguments if a in OPTIONS), "none")
        out = err = b""
        status = self.status
        if arguments[0] == "compare":
            out = self.spoil("comparison", b'{"version": 1}')
        elif "--dump-dmesg" in arguments:
            Path(arguments[-1]).write_bytes(self.spoil("log", specimen.LOG_LINE.encode()))
        elif "--check-params" in arguments:
            err = self.spoil("words", b"")
        elif "--help" in arguments:
            out = b"use it like this"
        elif "--split" in arguments:
            for path in arguments[-2:]:
                Path(path).write_bytes(self.dump(arguments[-3], codec))
        elif "--reassemble" in arguments:
            Path(arguments[-1]).write_bytes(self.spoil("joined", Path(arguments[-2]).read_bytes()))
        elif "--dry-run" in arguments:
            out = self.spoil("report", b"a\nWrite bytes     : 5\n")
        elif "-E" in arguments:
            Path(arguments[-1]).write_bytes(self.spoil("elf", b"\x7fELF".ljust(64, b"\0")))
        elif "-F" in arguments:
            out = self.spoil("stream", self.flattened(self.dump(arguments[-1], codec)))
        elif "nothing" in arguments[-2]:
            status, err = 12, self.spoil("message", arguments[-2].encode())
        else:
            acts = {"-e": "fewer pages", "--num-threads": "threads", "--filter-in": "judged"}
            act = next((act for option, act in acts.items() if option in arguments), "dump")
            out = self.spoil("walk", b"a\nVIRTUAL  PHYSICAL\n")
            out += self.spoil("judge", b"Pages were judged in user space: why\n")
            dump = self.spoil(act, self.dump(arguments[-2], codec, "-e" in arguments))
            if dump:
                Path(arguments[-1]).write_bytes(dump)
        return subprocess.CompletedProcess([program, *arguments], status, out, err)

    @staticmethod
    def dump(core: str, codec: str, without_unused_mem_map: bool = False) -> bytes:
        target = Path(core).with_name("made")
        pydumpfile.dump(
            core, target, 31, codec, overwrite=True, without_unused_mem_map=without_unused_mem_map
        )
        return target.read_bytes()

    @staticmethod
    def flattened(dump: bytes) -> bytes:
        records = b"".join(
            off.to_bytes(8, "big") + len(dump[off : off + 1000]).to_bytes(8, "big")
            + dump[off : off + 1000]
            for off in reversed(range(0, len(dump), 1000))
        )  # fmt: skip
        header = b"makedumpfile".ljust(16, b"\0") + (1).to_bytes(8, "big") * 2
        return header.ljust(4096, b"\0") + records + b"\xff" * 16


OPTIONS = {"-c": "zlib", "-z": "zstd", "-l": "lzo"}


def play(run: Run, tmp_path: Path) -> dict[str, str]:
    return rehearse(run, str(tmp_path), ["none", "zlib"])


def test_a_good_actor_passes(tmp_path: Path) -> None:
    digests = play(Actor(), tmp_path)
    assert set(digests) == {
        "none", "none --num-threads 2", "none -F", "none --split",
        "zlib", "zlib --num-threads 2", "zlib -F", "zlib --split", "-e", "-E",
        "--filter-in auto",
    }  # fmt: skip
    assert len(set(digests.values())) == 4


def test_comparing_is_rehearsed_if_asked_for(tmp_path: Path) -> None:
    spoilt = Actor(lambda what, out: b"no" if what == "comparison" else out)
    for name in ("unasked", "spoilt", "good"):
        (tmp_path / name).mkdir()
    rehearse(spoilt, str(tmp_path / "unasked"), [])
    with pytest.raises(RehearsalError, match="no figures, but no"):
        rehearse(spoilt, str(tmp_path / "spoilt"), [], compares=True)
    rehearse(Actor(), str(tmp_path / "good"), [], compares=True)


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda dump: dump[:at] + bytes((dump[at] ^ 8,)) + dump[at + 1 :]


@pytest.mark.parametrize(
    ("act", "change", "says"),
    [
        ("dump", lambda _: b"", "no dump was written"),
        ("dump", lambda dump: dump[:100], "no dump but 100 bytes"),
        ("dump", lambda dump: dump[:-1], "pages are missing"),
        ("dump", _flip(0), "its signature"),
        ("dump", _flip(424), "status 0x8, not 0x0"),
        ("dump", _flip(3 * 4096 + 20), "keeps other pages"),
        ("threads", _flip(300_000), "not the same dump"),
        ("stream", lambda stream: stream[:-16], "the stream has no end"),
        ("stream", lambda stream: stream[4096:], "the stream starts with"),
        ("stream", _flip(400_000), "not the same dump"),
        ("joined", _flip(400_000), "not the same dump"),
        ("report", lambda _: b"nothing", "no report, but nothing"),
        ("walk", lambda _: b"nothing", "no walk, but nothing"),
        ("fewer pages", lambda _: b"nothing", "no such dump"),
        ("fewer pages", _flip(424), "no such dump"),
        ("judge", lambda _: b"nothing", "--filter-in auto: not told: .*nothing"),
        ("judged", _flip(300_000), "--filter-in auto: not the same dump"),
        ("elf", lambda _: b"nothing", "no complete ELF core"),
        ("elf", lambda core: core[:48] + b"\1" + core[49:], "no complete ELF core"),
        ("log", lambda _: b"nothing", "the kernel log"),
        (
            "words",
            lambda _: b"Could not find <prefix>",
            "unexpected words: Could not find <prefix>",
        ),
        ("message", lambda _: b"failed", "it says: failed"),
    ],
)
def test_a_spoiled_act_is_noticed(
    tmp_path: Path, act: str, change: Callable[[bytes], bytes], says: str
) -> None:
    actor = Actor(lambda name, content: change(content) if name == act else content)
    with pytest.raises(RehearsalError, match=says):
        play(actor, tmp_path)


def test_an_exit_status_is_noticed(tmp_path: Path) -> None:
    actor = Actor()
    actor.status = 7
    with pytest.raises(RehearsalError, match="exit status 7"):
        play(actor, tmp_path)


def test_pages_that_are_not_compressed_are_noticed(tmp_path: Path) -> None:
    actor = Actor()
    actor.dump = lambda core, *_: Actor.dump(core, "none")  # type: ignore[method-assign]
    with pytest.raises(RehearsalError, match=r"status 0x0, not 0x1; no page is compressed"):
        play(actor, tmp_path)


def test_the_dump_of_the_specimen_is_what_was_in_it(core: Path, tmp_path: Path) -> None:
    pydumpfile.dump(core, tmp_path / "dump", 31, "zlib")
    memory = core.read_bytes()[2 * specimen.PAGE_SIZE :]
    dump = Dump(tmp_path / "dump")
    assert len(dump.pfns) == specimen.N_PAGES - sum(specimen.LEFT_OUT.values())
    for pfn in dump.pfns:
        assert dump.page(pfn) == memory[pfn * specimen.PAGE_SIZE : (pfn + 1) * specimen.PAGE_SIZE]
