# SPDX-License-Identifier: GPL-2.0-or-later
"""A rehearsal: the whole capture path, run for real on a machine of 4 MiB that never was.

It proves that an installation works (the compiled module loads, the codecs are found, threads and
pipes do what they should), and running it is how :mod:`pydumpfile.service.trace` finds out what the
capture path uses. Every act is a process of its own, as in the crash kernel; who rehearses says how
to start it: on this system, under a trace, or inside the tree of an initramfs.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Callable

from pydumpfile.errors import PydumpfileError
from pydumpfile.service import specimen

Run = Callable[[str, Sequence[str]], "subprocess.CompletedProcess[bytes]"]
"""Starts the command under a name (``pydumpfile``, ``makedumpfile``) with these arguments."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""What a program finds in a crash kernel: next to nothing."""
TIME_LIMIT_S = 120
_SIGNATURE = b"KDUMP   "

OPTIONS = {"none": (), "zlib": ("-c",), "lzo": ("-l",), "snappy": ("-p",), "zstd": ("-z",)}
_FLAGS = {"none": 0, "zlib": 0x1, "lzo": 0x2, "snappy": 0x4, "zstd": 0x20}
"""Of the page descriptors and, for a dump that is complete, the header's status."""
_WITHOUT_STRUCT_PAGES = 0x10
"""Likewise, of a dump made with ``-e``."""
_LEVEL = ("-d", "31")
_STATUS = Struct("<IiiI")
_STATUS_OFF = 424  # of status, block_size, sub_hdr_size, bitmap_blocks in the header
_DESCRIPTOR = Struct("<qIIQ")
_FLATTENED_SIGNATURE = b"makedumpfile\0"
_FLATTENED_HEADER_SIZE = 4096
_RECORD = Struct(">qq")
_ELF_SIGNATURE = b"\x7fELF"
_E_FLAGS_OFF = 48  # of the byte that says whether it is incomplete


class RehearsalError(PydumpfileError):
    """The capture path of this installation does not work; says what it did instead."""

    exit_code = 1


def rehearse(
    run: Run, directory: str, codecs: Iterable[str], seen_as: str = "", compares: bool = False
) -> dict[str, str]:
    """Play all acts, with a core in ``directory``, an existing and empty one.

    :param codecs: the codecs that have to work.
    :param seen_as: where ``directory`` is for the processes that ``run`` starts, if elsewhere.
    :param compares: `pydumpfile compare` has to work as well.
    :return: the SHA-256 of each dump, by the name of the act; the same on every system.
    :raises RehearsalError: an act did not end as it should.
    """
    stage = _Stage(run, directory, seen_as or directory)
    for codec in codecs:
        stage.dump(codec)
        stage.dump(codec, "--num-threads", "2")
        stage.stream(codec)
        stage.parts(codec)
    stage.fewer_pages()
    stage.other_judge()
    stage.estimate()
    stage.elf()
    stage.log()
    stage.silence()
    stage.help()
    stage.failure()
    if compares:
        stage.compare()
    return stage.digests


class _Stage:
    """The acts, each a method that checks what came of it."""

    def __init__(self, run: Run, directory: str, seen_as: str) -> None:
        self._run = run
        self._directory = directory
        self._seen_as = seen_as
        self.digests: dict[str, str] = {}
        specimen.write(os.path.join(directory, "vmcore"))

    def dump(self, codec: str, *more: str) -> None:
        """A dump to a file, which has to keep what the machine says."""
        act = " ".join((codec, *more))
        arguments = (*_LEVEL, *OPTIONS[codec], *more, self._name("vmcore"), self._name("dump"))
        self._play(act, "pydumpfile", arguments)
        dump = self._taken(act, "dump")
        _check_dump(act, dump, _FLAGS[codec])
        self._remember(act, codec, dump)

    def stream(self, codec: str) -> None:
        """The same dump through a pipe, called as the kdump services of distributions call it."""
        act = f"{codec} -F"
        arguments = (*OPTIONS[codec], *_LEVEL, "-F", self._name("vmcore"))
        done = self._play(act, "makedumpfile", arguments)
        self._remember(act, codec, _rearranged(act, done.stdout))

    def parts(self, codec: str) -> None:
        """The same dump in two files, joined again."""
        act = f"{codec} --split"
        parts = [self._name(name) for name in ("part 1", "part 2")]
        split = ("--split", "--splitblock-size", "1024", self._name("vmcore"), *parts)
        self._play(act, "makedumpfile", (*OPTIONS[codec], *_LEVEL, *split))
        self._play(act, "makedumpfile", ("--reassemble", *parts, self._name("dump")))
        for name in ("part 1", "part 2"):
            self._taken(act, name)
        self._remember(act, codec, self._taken(act, "dump"))

    def fewer_pages(self) -> None:
        """Without the struct pages that nobody needs; and a page-table walk."""
        act = "-e"
        options = ("-e", "--vtop", f"{specimen.MAPPED_VADDR:#x}", *_LEVEL)
        arguments = (*options, self._name("vmcore"), self._name("dump"))
        done = self._play(act, "makedumpfile", arguments)
        if b"\nVIRTUAL " not in done.stdout:
            raise RehearsalError(f"rehearsal of {act}: no walk, but {_words(done.stdout)}")
        dump = self._taken(act, "dump")
        status = _STATUS.unpack_from(dump.ljust(4096, b"\0"), _STATUS_OFF)[0]
        if not dump.startswith(_SIGNATURE) or status != _WITHOUT_STRUCT_PAGES:
            raise RehearsalError(f"rehearsal of {act}: no such dump: {dump[:8]!r}, {status:#x}")
        self.digests[act] = hashlib.sha256(dump).hexdigest()

    def other_judge(self) -> None:
        """Pages judged in the kernel, if it can; it cannot those of this machine."""
        act = "--filter-in auto"
        arguments = ("--filter-in", "auto", *_LEVEL, self._name("vmcore"), self._name("dump"))
        done = self._play(act, "pydumpfile", arguments)
        if b"\nPages were judged in user space: " not in done.stdout:
            raise RehearsalError(f"rehearsal of {act}: not told: {_words(done.stdout)}")
        self._remember(act, "none", self._taken(act, "dump"))

    def estimate(self) -> None:
        """A dry run: nothing is written, and the report is made."""
        act = "--dry-run"
        arguments = ("--dry-run", "--show-stats", *_LEVEL, self._name("vmcore"), self._name("dump"))
        done = self._play(act, "makedumpfile", arguments)
        if b"\nWrite bytes     : " not in done.stdout:
            raise RehearsalError(f"rehearsal of {act}: no report, but {_words(done.stdout)}")
        if os.path.exists(os.path.join(self._directory, "dump")):
            raise RehearsalError(f"rehearsal of {act}: something was written")

    def elf(self) -> None:
        """An ELF core."""
        act = "-E"
        arguments = ("-E", *_LEVEL, self._name("vmcore"), self._name("dump"))
        self._play(act, "makedumpfile", arguments)
        core = self._taken(act, "dump")
        if not core.startswith(_ELF_SIGNATURE) or core[_E_FLAGS_OFF]:
            raise RehearsalError(f"rehearsal of {act}: no complete ELF core: {core[:52]!r}")
        self.digests[act] = hashlib.sha256(core).hexdigest()

    def log(self) -> None:
        """The dead kernel's messages."""
        arguments = ("--dump-dmesg", self._name("vmcore"), self._name("log"))
        self._play("the kernel log", "makedumpfile", arguments)
        path = os.path.join(self._directory, "log")
        with open(path, encoding="utf-8") as file:
            log = file.read()
        os.unlink(path)
        if specimen.LOG_LINE not in log:
            raise RehearsalError(f"rehearsal of the kernel log: it is {log!r}")

    def silence(self) -> None:
        """Nothing is said that was not asked for, by the interpreter for one.

        Not asked for its version, as it looks for all codecs then, those that nobody chose too.
        """
        arguments = ("--check-params", *_LEVEL, self._name("vmcore"), self._name("dump"))
        done = self._play("--check-params", "makedumpfile", arguments)
        if done.stdout or done.stderr:
            words = _words(done.stdout + done.stderr)
            raise RehearsalError(f"rehearsal of --check-params: unexpected words: {words}")

    def help(self) -> None:
        """For whoever has nothing but a shell in the crash kernel."""
        self._play("--help", "pydumpfile", ("--help",))

    def compare(self) -> None:
        """For whoever wants to know in the crash kernel which way is the fastest."""
        act = "compare"
        options = ("--quiet", "--rounds", "1", "--json", "-", "--no-dumps")  # which take /proc
        done = self._play(act, "pydumpfile", ("compare", *options, self._name("vmcore")))
        if not done.stdout.startswith(b"{"):
            raise RehearsalError(f"rehearsal of {act}: no figures, but {_words(done.stdout)}")

    def failure(self) -> None:
        """A core that is not there: the message has to name it."""
        missing = self._name("nothing")
        done = self._run("pydumpfile", (*_LEVEL, missing, self._name("dump")))
        if done.returncode <= 0 or missing.encode() not in done.stderr:
            raise RehearsalError(
                f"rehearsal of a missing core: exit status {done.returncode}, and it says: "
                + _words(done.stderr)
            )

    def _taken(self, act: str, name: str) -> bytes:
        """What an act wrote to a file, which is there no more then."""
        path = os.path.join(self._directory, name)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise RehearsalError(f"rehearsal of {act}: no {name} was written ({error})") from error
        os.unlink(path)
        return data

    def _name(self, name: str) -> str:
        return os.path.join(self._seen_as, name)

    def _play(
        self, act: str, program: str, arguments: Sequence[str]
    ) -> subprocess.CompletedProcess[bytes]:
        done = self._run(program, arguments)
        if done.returncode != 0:
            raise RehearsalError(
                f"rehearsal of {act}: {program} {' '.join(arguments)} ended with exit status "
                f"{done.returncode}: {_words(done.stderr)}"
            )
        return done

    def _remember(self, act: str, codec: str, dump: bytes) -> None:
        digest = hashlib.sha256(dump).hexdigest()
        if self.digests.get(codec, digest) != digest:
            raise RehearsalError(f"rehearsal of {act}: not the same dump as without")
        self.digests[act] = digest


def _words(output: bytes) -> str:
    """The end of what a process said, on one line."""
    lines = output.decode("utf-8", "replace").split("\n")
    return " / ".join(line.strip() for line in lines if line.strip())[-2000:] or "(nothing)"


def _check_dump(act: str, dump: bytes, flag: int) -> None:
    """Whether ``dump`` is complete and keeps exactly the pages that level 31 keeps."""
    try:
        status, block_size, sub_hdr_size, blocks = _STATUS.unpack_from(dump, _STATUS_OFF)
        bitmap2_off = (1 + sub_hdr_size + blocks // 2) * block_size
        n_pages = specimen.N_PAGES - sum(specimen.LEFT_OUT.values())
        table_off = (1 + sub_hdr_size + blocks) * block_size
        table = [_DESCRIPTOR.unpack_from(dump, table_off + 24 * i) for i in range(n_pages)]
    except struct.error as error:
        raise RehearsalError(f"rehearsal of {act}: no dump but {len(dump)} bytes") from error
    kept = dump[bitmap2_off : bitmap2_off + specimen.N_PAGES // 8]
    found = (
        (dump[:8] == _SIGNATURE, "its signature"),
        (status == flag, f"status {status:#x}, not {flag:#x}"),
        (kept == specimen.kept_bitmap(), "it keeps other pages than it should"),
        (
            all(off > 0 and off + size <= len(dump) for off, size, _, _ in table),
            "pages are missing",
        ),
        (any(how == flag for _, _, how, _ in table), "no page is compressed"),
    )
    wrong = [what for good, what in found if not good]
    if wrong:
        raise RehearsalError(f"rehearsal of {act}: the dump is wrong: {'; '.join(wrong)}")


def _rearranged(act: str, stream: bytes) -> bytes:
    """The file that a flattened ``stream`` describes."""
    dump = bytearray()
    at = _FLATTENED_HEADER_SIZE
    if not stream.startswith(_FLATTENED_SIGNATURE):
        raise RehearsalError(f"rehearsal of {act}: the stream starts with {stream[:16]!r}")
    while at + _RECORD.size <= len(stream):
        off, size = _RECORD.unpack_from(stream, at)
        at += _RECORD.size
        if off < 0:
            return bytes(dump)
        dump.extend(bytes(max(0, off + size - len(dump))))
        dump[off : off + size] = stream[at : at + size]
        at += size
    raise RehearsalError(f"rehearsal of {act}: the stream has no end")
