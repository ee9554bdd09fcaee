# SPDX-License-Identifier: GPL-2.0-or-later
"""Build kernels from Debian's source packages, and find them again by what they were made from.

`kernels-built/<package>_<version>/` in the cache has `source/`, unpacked once, `build/`, in which
make leaves what it can reuse, `build-<variant>/`, the same for VARIANTS, and `images/<key>/`, the
finished kernels.  A tree is built where it stays: objtool keeps absolute paths, a copied tree
builds in full.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cache import cache_dir, locked, require_program
from tests.lab.errors import LabError

from .series import BASES, Tree, series

HERE = Path(__file__).parent
CONFIG = HERE / "lab.config"
KINDS = HERE / "kinds.config"
SANITIZED = HERE / "sanitized.config"
MODULE = HERE / "module"
# What the series adds or changes that is compiled.
TOUCHED_OBJECTS = (
    "fs/proc/vmcore.o",
    "fs/proc/oldmem_ranges.o",
    "arch/x86/mm/oldmem.o",
    "arch/x86/mm/init_64.o",
)
# What the series on top of it adds.
PFN_LISTS_OBJECT = "fs/proc/vmcore_pfn_lists.o"
# Configurations that are compiled, not booted: variants/<name>.config, make's ARCH, what to build.
_VMCORE_OBJECTS = ("fs/proc/vmcore.o", "fs/proc/oldmem_ranges.o")
VARIANTS = {
    "i386": ("i386", (*_VMCORE_OBJECTS, "arch/x86/mm/init_32.o")),
    "no-vmcore": ("x86", ("arch/x86/mm/init_64.o",)),
    "no-hotplug": ("x86", TOUCHED_OBJECTS),
}
_STRICT = ("W=1", "KCFLAGS=-Werror")
# Without this 6.1 sanitizes no file that does not ask for it; 6.12 has no such option, and all are.
_NOT_EVERYWHERE = {"CONFIG_UBSAN_SANITIZE_ALL=y"}
# Programs make calls, by the Debian package that has them; packages.txt lists all of them.
_TOOLS = ("make", "flex", "bison", "bc", "perl")
_NICENESS = 5


@dataclass(frozen=True)
class Image:
    """A kernel that can be booted, with the lab's module for it."""

    directory: Path

    @property
    def bzimage(self) -> Path:
        """The bootable image."""
        return self.directory / "bzImage"

    @property
    def module(self) -> Path:
        """module/oldmem_lab.c, built."""
        return self.directory / "oldmem_lab.ko"


@dataclass(frozen=True)
class KernelSource:
    """Debian's source of one base, unpacked in the cache."""

    base: str
    directory: Path

    @property
    def tree(self) -> Tree:
        """The source tree; hold the lock (see `building`) to change it."""
        return Tree(self.directory / "source")

    @property
    def build(self) -> Path:
        """Where make works."""
        return self.directory / "build"


def fetch_source(base: str) -> KernelSource:
    """Debian's newest linux-source package for a base, unpacked; a minute or two at first."""
    if base not in BASES:
        raise LabError(f"no series for {base!r}: there are {', '.join(BASES)}")
    package = f"linux-source-{base}"
    directory = cache_dir() / "kernels-built" / f"{package}_{_candidate(package)}"
    if not (directory / "source").exists():
        with locked(f"source-{directory.name}"):
            if not (directory / "source").exists():
                _unpack(package, directory)
    return KernelSource(base, directory)


def build_image(
    base: str,
    extra_patches: Sequence[Path] = (),
    *,
    first: int | None = None,
    extra_configs: Sequence[Path] = (),
) -> Image:
    """The kernel of `base` with the series and `extra_patches`; from the cache or built now.

    first: take only so many patches of the series.
    extra_configs: options besides lab.config's; built in a directory of their own.
    """
    source = fetch_source(base)
    patches = [*series(base, first=first), *extra_patches]
    key = image_key(source, patches, extra_configs)
    image = Image(source.directory / "images" / key)
    if not image.directory.exists():
        with locked(f"build-{source.directory.name}"):
            if not image.directory.exists():
                _build(source, patches, image, extra_configs)
    return image


def build_objects(base: str, patches: Sequence[Path]) -> str:
    """Build, with all warnings, what the series touches, with `patches` applied.

    Gives what make printed.  Objects that do not exist with only some of the patches are left out.
    """
    source = fetch_source(base)
    with locked(f"build-{source.directory.name}"):
        source.tree.set_patches(patches)
        _configure(source, source.build, CONFIG)
        objects = [
            name
            for name in (*TOUCHED_OBJECTS, PFN_LISTS_OBJECT)
            if (source.tree.source / name).with_suffix(".c").exists()
        ]
        return _make(source.build, *_STRICT, *objects)


def build_variant(base: str, name: str, extra_patches: Sequence[Path] = ()) -> str:
    """Build, with all warnings, what the series touches in one of VARIANTS; what make printed.

    With `extra_patches`, what they add as well.
    """
    source = fetch_source(base)
    arch, objects = VARIANTS[name]
    build = source.directory / f"build-{name}"
    with locked(f"build-{source.directory.name}"):
        source.tree.set_patches([*series(base), *extra_patches])
        if extra_patches:
            objects = (*objects, PFN_LISTS_OBJECT)
        _configure(source, build, HERE / "variants" / f"{name}.config", arch)
        return _make(build, f"ARCH={arch}", *_STRICT, *objects)


def image_key(
    source: KernelSource, patches: Sequence[Path], extra_configs: Sequence[Path] = ()
) -> str:
    """Hash over everything a kernel is made from; what a patch says of itself does not count."""
    digest = hashlib.sha256()
    compiler = subprocess.run(
        [require_program("gcc"), "--version"], capture_output=True, check=True
    ).stdout
    digest.update(source.directory.name.encode() + compiler + CONFIG.read_bytes())
    for extra_config in extra_configs:
        digest.update(extra_config.read_bytes())
    for patch in patches:
        digest.update(b"\0" + patch.read_bytes().partition(b"\ndiff --git ")[2])
    for path in sorted(MODULE.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _build(
    source: KernelSource, patches: Sequence[Path], image: Image, extra_configs: Sequence[Path]
) -> None:
    source.tree.set_patches(patches)
    build, config = source.build, CONFIG
    if extra_configs:
        build = source.directory / "-".join(["build", *(one.stem for one in extra_configs)])
        build.mkdir(exist_ok=True)
        config = build / "all.config"
        config.write_bytes(b"".join(one.read_bytes() for one in (CONFIG, *extra_configs)))
    _configure(source, build, config)
    _make(build, "bzImage", "modules")
    with tempfile.TemporaryDirectory(dir=source.directory) as scratch:
        module = source.directory / "module"
        shutil.rmtree(module, ignore_errors=True)
        shutil.copytree(MODULE, module)
        _make(build, f"M={module}", "modules")
        finished = Path(scratch) / "image"
        finished.mkdir()
        shutil.copy(build / "arch/x86/boot/bzImage", finished)
        shutil.copy(module / "oldmem_lab.ko", finished)
        shutil.copy(build / ".config", finished / "config")
        shutil.copy(build / "System.map", finished)
        image.directory.parent.mkdir(exist_ok=True)
        finished.rename(image.directory)


def _configure(source: KernelSource, build: Path, config: Path, arch: str = "x86") -> None:
    """Make build/.config from `config`; LabError if the kernel has no such option."""
    _require_tools()
    build.mkdir(exist_ok=True)
    stamp = build / "lab.config"
    if stamp.exists() and stamp.read_bytes() == config.read_bytes():
        return
    all_config = f"KCONFIG_ALLCONFIG={config}"
    _make(source.tree.source, f"O={build}", f"ARCH={arch}", all_config, "allnoconfig")
    made = set((build / ".config").read_text("utf-8").splitlines())
    wanted = re.findall(r"^(?:CONFIG_|# CONFIG_.* is not set).*$", config.read_text("utf-8"), re.M)
    missing = [line for line in wanted if line not in made | _NOT_EVERYWHERE]
    if missing:
        raise LabError(f"{source.directory.name} does not take {', '.join(missing)}")
    shutil.copy(config, stamp)


def _require_tools() -> None:
    for tool in _TOOLS:
        require_program(tool)
    if not Path("/usr/include/libelf.h").exists():
        raise LabError("libelf.h is missing: apt-get install libelf-dev")


def _make(where: Path, *arguments: str) -> str:
    jobs = len(os.sched_getaffinity(0))
    words = ["nice", f"-n{_NICENESS}", require_program("make"), "-s", f"-j{jobs}"]
    run = subprocess.run(
        [*words, *arguments],
        cwd=where,
        # Nothing of the caller's: a kernel depends on what its key says only.
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        tail = "\n".join(run.stderr.splitlines()[-30:])
        raise LabError(f"make {' '.join(arguments)} failed in {where}:\n{tail}")
    return run.stdout + run.stderr


def _candidate(package: str) -> str:
    policy = subprocess.run(
        ["apt-cache", "policy", package], capture_output=True, text=True, check=False
    )
    match = re.search(r"^ +Candidate: (\S+)$", policy.stdout, re.M)
    if not match or match.group(1) == "(none)":
        raise LabError(f"apt knows no package {package} (run apt-get update?)")
    return match.group(1)


def _unpack(package: str, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        fetch = subprocess.run(
            ["apt-get", "download", package],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        debs = list(Path(scratch).glob("*.deb"))
        if fetch.returncode or not debs:
            raise LabError(f"apt-get download {package} failed:\n{fetch.stderr.strip()}")
        subprocess.run(["dpkg-deb", "-x", str(debs[0]), scratch], check=True)
        tarball = Path(scratch) / "usr/src" / f"{package}.tar.xz"
        tree = Path(scratch) / "tree"
        tree.mkdir()
        subprocess.run(
            ["tar", "-C", str(tree), "--strip-components=1", "-xf", str(tarball)], check=True
        )
        tree.rename(directory / "source")
