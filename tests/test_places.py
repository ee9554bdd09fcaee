# SPDX-License-Identifier: GPL-2.0-or-later
"""Where memory comes from and dumps go to: devices, pipes, directories, links, files in the way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pydumpfile
from tests.builders import BuiltCore
from tests.conftest import MIB, Command

PRECIOUS = b"precious"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A block device of 64 MiB, where one may be made; without that nothing stands in for it."""
    (tmp_path / "image").write_bytes(b"")
    os.truncate(tmp_path / "image", 64 * MIB)
    try:
        made = subprocess.run(
            ["losetup", "--find", "--show", str(tmp_path / "image")],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no losetup to make a block device with")
    if made.returncode:
        pytest.skip(f"may not make a block device here: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """One that nobody will ever write into, or read from."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def put(content: bytes, device: Path) -> None:
    with device.open("r+b") as file:
        file.write(content)


def start_of(device: Path, size: int) -> bytes:
    with device.open("rb") as file:
        return file.read(size)


class TestInput:
    """What memory is read from."""

    @pytest.mark.parametrize(
        "arguments",
        ["PIPE dump", "-F PIPE", "--dump-dmesg PIPE log", "--mem-usage PIPE", "PIPE CORE dump",
         "--reassemble PIPE CORE dump", "-x PIPE CORE dump", "-i PIPE CORE dump",
         "--dump-dmesg -i PIPE CORE log", "-g dump -x PIPE", "--split PIPE one two"],
    )  # fmt: skip
    def test_a_pipe_is_not_waited_for(
        self, command: Command, small: BuiltCore, pipe: Path, tmp_path: Path, arguments: str
    ) -> None:
        names = {"PIPE": str(pipe), "CORE": str(small.path)}
        for name in ("dump", "log", "one", "two"):
            names[name] = str(tmp_path / name)
        done = command(*(names.get(word, word) for word in arguments.split()))
        if arguments == "PIPE CORE dump":
            assert (done.returncode, done.stdout) == (1, "")  # none of both is a part
        elif "-x" in arguments or "-i" in arguments:
            assert (done.returncode, done.stdout) == (1, "")
            assert f"{pipe} is a pipe, and only a regular file can describe a kernel" in done.stderr
        else:
            assert (done.returncode, done.stdout) == (12, "")
            assert f"{pipe}: opening " in done.stderr and "Illegal seek" in done.stderr
        assert not any((tmp_path / name).exists() for name in ("dump", "log", "one", "two"))

    @pytest.mark.parametrize("option", ["-x", "-i"])
    @pytest.mark.parametrize(
        ("path", "kind"),
        [("/dev/zero", "a character device"), ("/dev", "a directory"), ("DISK", "a block device")],
    )
    def test_what_describes_a_kernel_is_a_regular_file(
        self, command: Command, small: BuiltCore, tmp_path: Path, request: pytest.FixtureRequest,
        option: str, path: str, kind: str,
    ) -> None:  # fmt: skip
        if path == "DISK":
            path = str(request.getfixturevalue("disk"))
        done = command("-d", 31, option, path, small.path, tmp_path / "dump")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{path} is {kind}, and only a regular file can describe a kernel" in done.stderr
        assert not (tmp_path / "dump").exists()

    def test_a_pipe_that_is_written_into(self, tmp_path: Path) -> None:
        """As of ``<(zcat core.gz)``: it says what to do."""
        reading, writing = os.pipe()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pydumpfile", f"/dev/fd/{reading}", str(tmp_path / "dump")],
                check=False, pass_fds=[reading], capture_output=True, text=True, timeout=60,
            )  # fmt: skip
        finally:
            os.close(reading)
            os.close(writing)
        assert done.returncode == 12
        assert "a pipe can be read but once; save what comes out of it to a file" in done.stderr

    @pytest.mark.parametrize("kind", ["core", "dump", "stream"])
    def test_a_block_device(
        self, command: Command, small: BuiltCore, disk: Path, tmp_path: Path, kind: str
    ) -> None:
        """Which is longer than what is on it, and has no size of its own."""
        source = small.path
        if kind != "core":
            source = tmp_path / kind
            pydumpfile.dump(small.path, source, 1, flattened=kind == "stream")
        put(source.read_bytes(), disk)
        for path, name in ((source, "of the file"), (disk, "of the device")):
            done = command("-d", 31, path, tmp_path / name)
            assert done.returncode == 0, done.stderr
        assert (tmp_path / "of the file").read_bytes() == (tmp_path / "of the device").read_bytes()

    def test_parts_on_block_devices(
        self, command: Command, small: BuiltCore, disk: Path, tmp_path: Path
    ) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        pydumpfile.dump(small.path, [one, two], 31, splitblock_size=4 * MIB)
        pydumpfile.dump(small.path, tmp_path / "whole", 31)
        put(two.read_bytes(), disk)
        assert command("--reassemble", disk, one, tmp_path / "dump").returncode == 0
        assert (tmp_path / "dump").read_bytes() == (tmp_path / "whole").read_bytes()


class TestOutput:
    """What dumps are written to."""

    @pytest.mark.parametrize("force", ["", "-f"])
    @pytest.mark.parametrize("job", ["", "-E", "--dump-dmesg", "--split"])
    @pytest.mark.parametrize(
        ("kind", "told"),
        [("pipe", "is a pipe"), ("null", "is a character device"), ("directory", "is a directory"),
         ("link", "is a character device")],
    )  # fmt: skip
    def test_only_a_regular_file(
        self, command: Command, small: BuiltCore, pipe: Path, tmp_path: Path, kind: str, told: str,
        job: str, force: str,
    ) -> None:  # fmt: skip
        """By any job, and without waiting for a reader."""
        target = {"pipe": pipe, "null": Path("/dev/null"), "directory": tmp_path}.get(kind)
        if target is None:
            target = tmp_path / "link"
            target.symlink_to("/dev/null")
        first = [tmp_path / "first"] if job == "--split" else []
        options = [option for option in (job, force) if option]
        done = command(*options, small.path, *first, target)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{target} {told}" in done.stderr
        assert not (tmp_path / "first").exists()

    @pytest.mark.parametrize("force", ["", "-f"])
    def test_a_block_device_is_not_written_over(
        self, command: Command, small: BuiltCore, disk: Path, force: str
    ) -> None:
        put(PRECIOUS, disk)
        done = command(*filter(None, [force]), small.path, disk)
        assert done.returncode == 1
        assert f"{disk} is a block device, and only a regular file can be written" in done.stderr
        assert "a device or pipe takes a stream, of -F" in done.stderr
        assert start_of(disk, 8) == PRECIOUS

    def test_but_takes_a_stream(self, small: BuiltCore, disk: Path, tmp_path: Path) -> None:
        """There and back; behind it something else is left."""
        put(b"\xff" * 4096 * 100, disk)
        pydumpfile.dump(small.path, tmp_path / "dump", 31)
        with disk.open("r+b") as device:
            subprocess.run(
                [sys.executable, "-m", "pydumpfile", "-F", "-z", "-d", "31", str(small.path)],
                check=True, stdout=device, stderr=subprocess.DEVNULL, timeout=300,
            )  # fmt: skip
        with disk.open("rb") as device:
            subprocess.run(
                [sys.executable, "-m", "pydumpfile", "-R", str(tmp_path / "back")],
                check=True, stdin=device, stdout=subprocess.DEVNULL, timeout=300,
            )  # fmt: skip
        assert (tmp_path / "back").read_bytes() == (tmp_path / "dump").read_bytes()

    def test_never_the_device_that_is_read(self, small: BuiltCore, disk: Path) -> None:
        put(small.path.read_bytes(), disk)
        with disk.open("r+b") as device:
            done = subprocess.run(
                [sys.executable, "-m", "pydumpfile", "-F", str(disk)],
                check=False, stdout=device, stderr=subprocess.PIPE, text=True, timeout=300,
            )  # fmt: skip
        assert done.returncode == 1 and "STDOUT is the input itself" in done.stderr
        assert start_of(disk, 4) == b"\x7fELF"

    def test_a_device_that_is_full(self, small: BuiltCore, disk: Path) -> None:
        with disk.open("r+b") as device:
            device.seek(63 * MIB)
            done = subprocess.run(
                [sys.executable, "-m", "pydumpfile", "-F", "-d", "31", "-z", str(small.path)],
                check=False, stdout=device, stderr=subprocess.PIPE, text=True, timeout=300,
            )  # fmt: skip
        assert done.returncode == 10
        assert "No space left on device; make room, or give another target\n" in done.stderr

    def test_nothing_takes_a_stream_too(self, small: BuiltCore) -> None:
        with open(os.devnull, "wb") as nothing:
            done = subprocess.run(
                [sys.executable, "-m", "pydumpfile", "-F", "-d", "31", str(small.path)],
                check=False, stdout=nothing, stderr=subprocess.PIPE, text=True, timeout=300,
            )  # fmt: skip
        assert done.returncode == 0
        assert done.stderr.endswith("The dumpfile is saved to STDOUT.\n")

    def test_a_link_is_in_the_way(self, command: Command, small: BuiltCore, tmp_path: Path) -> None:
        """Where it leads to is written, if -f says so; the link stays what it is."""
        place, link = tmp_path / "place", tmp_path / "link"
        link.symlink_to(place)
        for there in (False, True):
            if there:
                place.write_bytes(PRECIOUS)
                place.chmod(0o644)
            done = command("-d", 31, small.path, link)
            assert done.returncode == 10 and "File exists; give -f" in done.stderr
            assert place.exists() == there
            assert not there or place.read_bytes() == PRECIOUS
            done = command("-f", "-d", 31, small.path, link)
            assert done.returncode == 0 and f"saved to {link}.\n" in done.stdout
            assert link.is_symlink() and stat.S_IMODE(place.stat().st_mode) == 0o600
            assert place.read_bytes()[:8] == b"KDUMP   "
            place.unlink()


class TestForce:
    """``-f``: a file in the way goes when there is something to come in its place, not before."""

    @pytest.mark.parametrize(
        "arguments",
        ["NONE TARGET", "TEXT TARGET", "CUT TARGET", "DIRECTORY TARGET", "PIPE TARGET",
         "-x NONE CORE TARGET", "-x TEXT CORE TARGET", "-i TEXT CORE TARGET",
         "-d 31 NAMELESS TARGET", "-E DUMP TARGET", "--dump-dmesg CORE TARGET",
         "--dump-dmesg TEXT TARGET", "--reassemble PART TARGET", "--reassemble DUMP PART TARGET",
         "--split TEXT TARGET other", "--split -d 31 NAMELESS TARGET other", "-R TARGET",
         "CORE TARGET/below", "--split CORE TARGET TARGET", "--split CORE TARGET NOWHERE"],
    )  # fmt: skip
    @pytest.mark.usefixtures("pipe")
    def test_what_is_there_survives(
        self, command: Command, small: BuiltCore, tmp_path: Path, arguments: str
    ) -> None:
        """Whatever is found wrong before the first byte could be written."""
        names = {
            name: tmp_path / name.lower()
            for name in ("NONE", "TEXT", "CUT", "DIRECTORY", "PIPE", "DUMP", "PART", "TARGET")
        }
        names.update(CORE=small.path, NAMELESS=tmp_path / "nameless", other=tmp_path / "other")
        names["NOWHERE"] = tmp_path / "none" / "part"
        names["TARGET/below"] = names["TARGET"] / "below"
        names["TEXT"].write_text("no core")
        names["CUT"].write_bytes(small.path.read_bytes()[:300])
        names["DIRECTORY"].mkdir()
        core = small.path.read_bytes()
        names["NAMELESS"].write_bytes(core.replace(b"VMCOREINFO\0", b"NOTHINGELS\0"))
        if "DUMP" in arguments or "PART" in arguments:
            pydumpfile.dump(small.path, names["DUMP"], 31)
            pydumpfile.dump(small.path, [names["PART"], names["other"]], splitblock_size=4 * MIB)
            names["other"].unlink()
        names["TARGET"].write_bytes(PRECIOUS)
        done = command("-f", *(names.get(word, word) for word in arguments.split()))
        assert done.returncode != 0
        assert names["TARGET"].read_bytes() == PRECIOUS
        assert not names["other"].exists()

    def test_what_comes_in_its_place_is_all_there_is(
        self, command: Command, small: BuiltCore, tmp_path: Path
    ) -> None:
        """Nothing of a larger one shows, and it is as private as a new one."""
        target, fresh = tmp_path / "target", tmp_path / "fresh"
        target.write_bytes(b"\xff" * (50 * MIB))
        target.chmod(0o666)
        assert command("-d", 31, small.path, fresh).returncode == 0
        assert command("-f", "-d", 31, small.path, target).returncode == 0
        assert target.read_bytes() == fresh.read_bytes()
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
