# SPDX-License-Identifier: GPL-2.0-or-later
"""Write initramfs images: cpio archives in the "newc" format the kernel unpacks.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import re
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .cache import require_program
from .errors import LabError

_HEADER_FIELDS = 13


class Cpio:
    """A cpio archive in memory; parent directories are added by themselves."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._directories: set[str] = set()
        self._last_inode = 0

    def add_file(self, name: str, content: bytes | Path, mode: int = 0o755) -> None:
        """Add a regular file called `name` (an absolute path in the guest)."""
        data = content.read_bytes() if isinstance(content, Path) else content
        self._add(name, stat.S_IFREG | mode, data)

    def add_symlink(self, name: str, target: str) -> None:
        """Add a symbolic link called `name` that points to `target`."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def add_directory(self, name: str) -> None:
        """Add a directory and its parents; one that is there already is left alone."""
        name = name.strip("/")
        if not name or name in self._directories:
            return
        self._directories.add(name)
        self._add(name, stat.S_IFDIR | 0o755, b"")

    def add_device(self, name: str, mode: int, major: int, minor: int) -> None:
        """Add a device node; `mode` includes the type (S_IFCHR or S_IFBLK)."""
        self._add(name, mode, b"", (major, minor))

    def to_bytes(self) -> bytes:
        """The finished archive."""
        end = _entry("TRAILER!!!", 0, 0, b"", (0, 0))
        return b"".join([*self._chunks, end])

    def _add(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = name.strip("/")
        parent = name.rpartition("/")[0]
        if parent:
            self.add_directory(parent)
        self._last_inode += 1
        self._chunks.append(_entry(name, self._last_inode, mode, data, device))


def _entry(name: str, inode: int, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    encoded = name.encode() + b"\0"
    n_links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, n_links, 0, len(data), 0, 0, *device, len(encoded), 0)
    assert len(fields) == _HEADER_FIELDS
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def add_program(cpio: Cpio, path: Path, name: str) -> None:
    """Add a host program as `name`, with the shared libraries it is linked to (see ldd(1))."""
    cpio.add_file(name, path)
    for guest_path, host_path in shared_libraries(path).items():
        cpio.add_file(guest_path, host_path)


def shared_libraries(path: Path) -> dict[str, Path]:
    """Libraries and dynamic loader `path` needs: name in the guest -> file on the host."""
    ldd = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
    if "not found" in ldd.stdout:
        raise LabError(f"{path}: shared libraries are missing:\n{ldd.stdout}")
    found = re.findall(r"(?:=> )?(/\S+) \(0x", ldd.stdout)
    return {name: Path(name).resolve() for name in found}


def busybox_base() -> Cpio:
    """An archive with busybox and the directories every init mounts something on."""
    busybox = Path(require_program("busybox", "busybox-static"))
    if shared_libraries(busybox):
        raise LabError(f"{busybox} is not static: apt-get install busybox-static")
    listing = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True)
    cpio = Cpio()
    for directory in ("proc", "sys", "dev", "tmp", "mnt", "sbin"):
        cpio.add_directory(directory)
    cpio.add_device("dev/console", stat.S_IFCHR | 0o600, 5, 1)
    cpio.add_file("bin/busybox", busybox)
    for applet in listing.stdout.split():
        if applet != "busybox":
            cpio.add_symlink(f"bin/{applet}", "busybox")
    return cpio


def add_modules(cpio: Cpio, modules: Sequence[Path]) -> None:
    """Add kernel modules, and the order that an init script loads them in."""
    for module in modules:
        cpio.add_file(f"modules/{module.name}", module, 0o644)
    cpio.add_file("modules/order", "".join(f"{m.stem}\n" for m in modules).encode(), 0o644)


def compiled(name: str, sources: Sequence[Path]) -> bytes:
    """A static program made of C `sources`."""
    gcc = require_program("gcc")
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / name
        run = subprocess.run(
            [gcc, "-static", "-O2", "-pthread", "-o", str(program), *map(str, sources)],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise LabError(f"{name} does not compile (libc6-dev installed?):\n{run.stderr}")
        return program.read_bytes()
