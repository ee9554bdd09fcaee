# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian 12 system in a directory, made once by debootstrap, and programs run inside it.

It has the kernel of the lab's cores, systemd, kdump-tools and dracut from Debian's archive, and
what building a wheel takes.  Nothing in it is patched; README.md of the lab says where it is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from ..cache import cache_dir, locked, require_program
from ..errors import LabError
from ..kernels import KernelPackage, resolve

SUITE = "bookworm"
PYTHON_VERSION = "3.11"  # of that suite
KERNEL = "6.1-cloud"
_MIRROR = "http://deb.debian.org"
_SOURCES = f"""\
deb {_MIRROR}/debian {SUITE} main
deb {_MIRROR}/debian {SUITE}-updates main
deb {_MIRROR}/debian-security {SUITE}-security main
"""
# What debootstrap installs, and what apt does afterwards from all three sources.
_FIRST_PACKAGES = ("ca-certificates", "dbus", "kmod", "procps", "systemd-sysv", "udev")
_PACKAGES = (
    *("initramfs-tools", "zstd", "busybox-static", "kexec-tools", "kdump-tools", "makedumpfile"),
    *("dracut-core", "iproute2", "python3", "python3-venv", "python3-dev", "gcc", "libc6-dev"),
    *("liblzo2-2", "libsnappy1v5", "libzstd1", "zlib1g"),
)
_PROJECT = Path(__file__).resolve().parents[3]
# What a source distribution holds, as far as building a wheel needs it.
_WHEEL_SOURCES = ("pydumpfile", "csrc", "pyproject.toml", "setup.py", "README.md", "MANIFEST.in")
_BUILD_REQUIREMENTS = ("setuptools", "wheel")


def service_cache() -> Path:
    """Where trees and images are kept."""
    directory = cache_dir() / "service"
    directory.mkdir(exist_ok=True)
    return directory


def kernel() -> KernelPackage:
    """The kernel the tree has."""
    return resolve(KERNEL)


def make_tree() -> Path:
    """The system's directory, from the cache or made now (minutes).

    Raises LabError without root, which chroot and device nodes take.
    """
    package = kernel()
    description = json.dumps([_FIRST_PACKAGES, _PACKAGES, _SOURCES, package.version])
    key = hashlib.sha256(description.encode()).hexdigest()[:12]
    directory = service_cache() / f"{SUITE}-{package.release}-{key}"
    if not directory.exists():
        with locked(f"service-{directory.name}"):
            if not directory.exists():
                _build(directory, package)
    return directory


def run_inside(
    tree: Path,
    command: Sequence[str],
    binds: Mapping[Path, str] | None = None,
    overlay: Path | None = None,
) -> str:
    """Run `command` with `tree` as its root and `binds` (host directory -> path) mounted in it.

    overlay: directory to make for what the command changes in the tree, which then stays as it is.

    The mounts are in a namespace of their own and go with the command.  Gives back what it
    printed; raises LabError if it fails.
    """
    if os.geteuid() != 0:
        raise LabError("a Debian tree needs root (chroot, mount)")
    root, lines = tree, ["mount --make-rprivate /"]
    if overlay:
        upper, work, root = (overlay / name for name in ("upper", "work", "root"))
        for place in (upper, work, root):
            place.mkdir(parents=True)
        lines.append(
            "mount -t overlay overlay "
            f"-o 'lowerdir={tree},upperdir={upper},workdir={work}' '{root}'"
        )
    lines += [f"mount -t proc proc '{root}/proc'", f"mount --rbind /dev '{root}/dev'"]
    for source, target in (binds or {}).items():
        place = root / target.lstrip("/")
        lines += [f"mkdir -p '{place}'", f"mount --bind '{source}' '{place}'"]
    lines.append(f"exec chroot '{root}' \"$@\"")
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", "\n".join(lines), "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        env={"PATH": path, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/"},
    )
    if run.returncode:
        raise LabError(f"{' '.join(command)} (in {tree}) failed:\n{run.stdout[-4000:]}")
    return run.stdout


def make_wheels(tree: Path, directory: Path) -> Path:
    """Build this source tree's wheel with the tree's own Python, into `directory`.

    The packages it needs come along, so that it can be installed without a network.
    """
    directory.mkdir(parents=True, exist_ok=True)
    needed = [re.split(r"[;\s]", line)[0] for line in _requirements()]
    _download_wheels([*needed, *_BUILD_REQUIREMENTS], directory)
    sources = directory / "source"
    sources.mkdir()
    for name in _WHEEL_SOURCES:
        path = _PROJECT / name
        if path.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.so", "_pagescan.c")
            shutil.copytree(path, sources / name, ignore=ignore)
        else:
            shutil.copy2(path, sources)
    run_inside(
        tree,
        ["sh", "-ec", "python3 -m venv /mnt/build && /mnt/build/bin/pip wheel --no-deps --no-index "
         "--find-links /mnt -w /mnt /mnt/source"],
        {directory: "/mnt"},
    )  # fmt: skip
    shutil.rmtree(directory / "build")
    shutil.rmtree(sources)
    return next(directory.glob("pydumpfile-*.whl"))


def _requirements() -> list[str]:
    """The packages pydumpfile needs to run, without those of its extras."""
    return [line for line in metadata.requires("pydumpfile") or [] if "extra ==" not in line]


def _download_wheels(names: Sequence[str], directory: Path) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"),
            *("--python-version", PYTHON_VERSION, "--implementation", "cp"),
            *("--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_28_x86_64"),
            *("--dest", str(directory), *names),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise LabError(f"pip download {' '.join(names)} failed:\n{run.stderr.strip()}")


def _build(directory: Path, package: KernelPackage) -> None:
    if os.geteuid() != 0:
        raise LabError("a Debian tree needs root (debootstrap, chroot, mount)")
    debootstrap = require_program("debootstrap")
    building = directory.with_name(f"{directory.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    include = ",".join(_FIRST_PACKAGES)
    command = [debootstrap, "--variant=minbase", f"--include={include}", SUITE, str(building)]
    run = subprocess.run(
        [*command, f"{_MIRROR}/debian"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if run.returncode:
        raise LabError(f"debootstrap failed:\n{run.stdout[-2000:]}")
    finish_tree(building, package)
    building.rename(directory)


def finish_tree(tree: Path, package: KernelPackage) -> None:
    """Install the other packages into what debootstrap made."""
    (tree / "etc/apt/sources.list").write_text(_SOURCES, "utf-8")
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    # Nothing is to be started in a tree.
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n", "utf-8")
    policy.chmod(0o755)
    run_inside(tree, ["apt-get", "-qq", "update"])
    image = f"{package.package}={package.version}"
    run_inside(
        tree,
        ["apt-get", "-qq", "-y", "--no-install-recommends", "install", image, *_PACKAGES],
    )
    run_inside(tree, ["apt-get", "clean"])
    policy.unlink()
