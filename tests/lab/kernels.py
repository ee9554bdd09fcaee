# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian kernel packages: find, fetch and unpack what a guest and a debugger need of them.

A kernel lives in the cache as `kernels/<package>_<version>/`: `vmlinuz`, `config`, `modules/*.ko`
(decompressed, only the wanted ones and what they depend on), `modules.json` (load order) and, once
asked for, `vmlinux` with its debugging information.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_dir, locked, require_program
from .errors import LabError

# Short name -> the metapackage that depends on the newest kernel of its kind.
ALIASES = {
    "6.1-cloud": "linux-image-cloud-amd64",
    "6.12-cloud": "linux-image-6.12-cloud-amd64",
    "6.1": "linux-image-amd64",
    "6.12": "linux-image-6.12-amd64",
}

# ext4 finds crc32c_generic by name only, so no dependency says that it is needed.
EXT4_MODULES = ("crc32c_generic", "ext4")
# What a guest loads, in this order; each kernel has some of them built in and lacks others.
WANTED_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_balloon",
    *EXT4_MODULES,
    "qemu_fw_cfg",  # hands VMCOREINFO to QEMU for dump-guest-memory
    "hwpoison_inject",
)
# What the crash kernel loads to copy /proc/vmcore.
CRASH_MODULES = ("virtio_pci", "virtio_blk")


@dataclass(frozen=True)
class KernelPackage:
    """One kernel image package of one version, unpacked in the cache."""

    package: str
    version: str
    release: str  # as in uname -r

    @property
    def directory(self) -> Path:
        """Where it is unpacked."""
        return cache_dir() / "kernels" / f"{self.package}_{self.version.replace(':', '%3a')}"

    @property
    def vmlinuz(self) -> Path:
        """The bootable image."""
        return self.directory / "vmlinuz"

    def module_files(self, wanted: Sequence[str]) -> list[Path]:
        """The `wanted` modules with their dependencies, in the order to load them."""
        depends: dict[str, list[str]] = json.loads(
            (self.directory / "modules.json").read_text("utf-8")
        )["depends"]
        order = load_order(wanted, depends)
        return [self.directory / "modules" / f"{name}.ko" for name in order]

    def has_config(self, option: str) -> bool:
        """Whether the kernel was built with `CONFIG_<option>` set to y or m."""
        pattern = rf"^CONFIG_{option}=[ym]$"
        return bool(re.search(pattern, (self.directory / "config").read_text("utf-8"), re.M))

    def vmlinux(self) -> Path:
        """The kernel with debugging information, fetched at the first call (hundreds of MB)."""
        vmlinux = self.directory / "vmlinux"
        if not vmlinux.exists():
            with locked(f"vmlinux-{self.directory.name}"):
                if not vmlinux.exists():
                    self._fetch_vmlinux(vmlinux)
        return vmlinux

    def _fetch_vmlinux(self, vmlinux: Path) -> None:
        name = f"{self.package.replace('-unsigned', '')}-dbg"
        member = f"./usr/lib/debug/boot/vmlinux-{self.release}"
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            deb = _download(name, self.version, Path(scratch))
            out = Path(scratch) / "vmlinux"
            with out.open("wb") as file:
                tar = subprocess.Popen(
                    ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE
                )
                extract = subprocess.run(
                    ["tar", "-xO", member], stdin=tar.stdout, stdout=file, check=False
                )
                if tar.stdout:
                    tar.stdout.close()
                tar.wait()
            if extract.returncode or tar.returncode:
                raise LabError(f"{deb.name} holds no {member}")
            out.rename(vmlinux)


def resolve(name: str) -> KernelPackage:
    """Turn an alias (see ALIASES) or an exact package name into a package apt can fetch.

    Raises LabError if apt does not know it.
    """
    package, version = _newest(name)
    release = package[len("linux-image-") :]
    if release.endswith("-unsigned"):
        release = release[: -len("-unsigned")]
    return KernelPackage(package, version, release)


def fetch(kernel: KernelPackage) -> KernelPackage:
    """Download and unpack `kernel` unless the cache has it; gives it back."""
    if not _is_complete(kernel):
        with locked(f"kernel-{kernel.directory.name}"):
            if not _is_complete(kernel):
                _unpack(kernel)
    return kernel


def load_order(wanted: Sequence[str], depends: dict[str, list[str]]) -> list[str]:
    """`wanted` and what they need, dependencies first; names not in `depends` are left out."""
    order: list[str] = []

    def add(name: str) -> None:
        if name in depends and name not in order:
            for dependency in depends[name]:
                add(dependency)
            order.append(name)

    for name in wanted:
        add(name)
    return order


def _newest(name: str) -> tuple[str, str]:
    """(package, version) of the image package behind an alias or a package name."""
    if name in ALIASES:
        depends = _apt_field(ALIASES[name], "Depends")
        match = re.search(r"(linux-image-\S+) \(= ([^)]+)\)", depends)
        if not match:
            raise LabError(f"{ALIASES[name]} depends on no kernel image: {depends!r}")
        return match.group(1), match.group(2)
    if not name.startswith("linux-image-"):
        known = ", ".join(ALIASES)
        raise LabError(f"unknown kernel {name!r}: use one of {known}, or a linux-image-* package")
    return name, _apt_field(name, "Version")


def _apt_field(package: str, field: str) -> str:
    show = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", package],
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(rf"^{field}: (.*)$", show.stdout, re.M)
    if not match:
        raise LabError(f"apt knows no package {package} with a {field} (run apt-get update?)")
    return match.group(1)


def _download(package: str, version: str, directory: Path) -> Path:
    run = subprocess.run(
        ["apt-get", "download", f"{package}={version}"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    found = list(directory.glob(f"{package}_*.deb"))
    if run.returncode or not found:
        raise LabError(f"apt-get download {package}={version} failed:\n{run.stderr.strip()}")
    return found[0]


def _is_complete(kernel: KernelPackage) -> bool:
    try:
        listing = json.loads((kernel.directory / "modules.json").read_text("utf-8"))
    except FileNotFoundError:
        return False
    return bool(listing["wanted"] == list(WANTED_MODULES))


def _unpack(kernel: KernelPackage) -> None:
    require_program("dpkg-deb", "dpkg")
    kernel.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kernel.directory) as scratch:
        deb = _download(kernel.package, kernel.version, Path(scratch))
        tree = Path(scratch) / "tree"
        subprocess.run(["dpkg-deb", "-x", str(deb), str(tree)], check=True)
        for file in ("vmlinuz", "config", "System.map"):
            shutil.move(
                str(tree / "boot" / f"{file}-{kernel.release}"), str(kernel.directory / file)
            )
        modules = _module_tree(tree, kernel.release)
        depends = _unpack_modules(modules, kernel.directory / "modules")
    listing = {"wanted": list(WANTED_MODULES), "depends": depends}
    new = kernel.directory / "modules.json.new"
    new.write_text(json.dumps(listing, indent=1), "utf-8")
    new.rename(kernel.directory / "modules.json")  # last: it says that the rest is there


def _module_tree(tree: Path, release: str) -> dict[str, Path]:
    """Module name -> file, of an unpacked package."""
    root = tree / "lib" / "modules" / release
    if not root.exists():
        root = tree / "usr" / "lib" / "modules" / release
    found: dict[str, Path] = {}
    for directory, _, names in os.walk(root):
        for name in names:
            match = re.match(r"(.+)\.ko(\.xz|\.zst|\.gz)?$", name)
            if match:
                found[match.group(1).replace("-", "_")] = Path(directory) / name
    return found


def _unpack_modules(modules: dict[str, Path], directory: Path) -> dict[str, list[str]]:
    """Decompress the wanted modules and all they need; gives name -> dependencies."""
    directory.mkdir(exist_ok=True)
    depends: dict[str, list[str]] = {}
    todo: set[str] = set(WANTED_MODULES)
    while todo:
        name = todo.pop()
        if name in depends or name not in modules:
            continue
        content = _decompressed(modules[name])
        (directory / f"{name}.ko").write_bytes(content)
        depends[name] = module_depends(content)
        todo.update(depends[name])
    return depends


def module_depends(module: bytes) -> list[str]:
    """Names in the `depends=` entry that modpost writes to a module's .modinfo section."""
    match: re.Match[bytes] | None = re.search(rb"\0depends=([^\0]*)\0", module)
    names = match.group(1).decode() if match else ""
    return [name.replace("-", "_") for name in names.split(",") if name]


def _decompressed(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix in (".zst", ".gz"):
        program = require_program({".zst": "zstd", ".gz": "gzip"}[path.suffix])
        return subprocess.run([program, "-dc", str(path)], capture_output=True, check=True).stdout
    return path.read_bytes()
