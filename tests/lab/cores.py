# SPDX-License-Identifier: GPL-2.0-or-later
"""Make cores and keep them: a core that was made once is found again by what it was made from.

A core is a directory in the cache, `cores/<release>-<workload>-<memory>-<key>/`.  It is built under
another name and renamed when it is whole, under a lock, so a core that exists is complete.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable

from . import truth as ground_truth
from .cache import cache_dir, locked
from .errors import LabError
from .guest import DISKS, SOURCES, AfterCopy, Guest
from .kernels import CRASH_MODULES, WANTED_MODULES, KernelPackage, fetch, resolve
from .qemu import Machine, Monitor

# Raise it when the lab's Python changes what is in a guest or in the files of a core in a way that
# neither the sources below nor the command lines show: cores made before are then not found again.
_FORMAT = 1
_KEY_SOURCES = ("workload/*.[ch]", "vmcopy.c", "init.sh", "crash-init.sh")
_MEMINFO_FILES = ("proc/meminfo", "proc/zoneinfo", "proc/buddyinfo")


@dataclass(frozen=True)
class LabCore:
    """A core of a real kernel, with what the kernel said about itself before it died."""

    directory: Path
    guest: Guest
    kernel: KernelPackage

    @property
    def vmcore(self) -> Path:
        """/proc/vmcore as the crash kernel showed it, every byte; a sparse file."""
        return self.directory / "vmcore"

    def vmlinux(self) -> Path:
        """The kernel with its debugging information, fetched at the first call."""
        return self.kernel.vmlinux()

    @property
    def kpageflags(self) -> Path:
        """/proc/kpageflags at the panic: one little-endian u64 for each pfn from 0."""
        return self.directory / "kpageflags"

    @property
    def kpagecount(self) -> Path:
        """/proc/kpagecount a moment earlier, in the same form."""
        return self.directory / "kpagecount"

    @property
    def log(self) -> Path:
        """The serial console: the dying kernel, then the crash kernel."""
        return self.directory / "console.log"

    @property
    def meminfo(self) -> Path:
        """/proc/meminfo, zoneinfo, buddyinfo before the panic, each under "==> name <=="."""
        return self.directory / "meminfo.txt"

    @property
    def records(self) -> Path:
        """Directory of other files of /proc and /sys before the panic ("proc_iomem", ...)."""
        return self.directory / "records"

    @property
    def qemu_core(self) -> Path | None:
        """ELF core QEMU wrote just before the panic, if the guest asked for it."""
        path = self.directory / "qemu_core"
        return path if path.exists() else None

    @property
    def truth(self) -> dict[str, Any]:
        """What is known for certain, see README.md."""
        loaded: dict[str, Any] = json.loads((self.directory / "truth.json").read_text("utf-8"))
        return loaded


def make_core(guest: Guest) -> LabCore:
    """The core of `guest`, from the cache or made now (a minute to several).

    Raises LabError if a program or package is missing or the guest did not do as it should.
    """
    kernel = fetch(resolve(guest.kernel))
    directory = _directory_of(guest, kernel)
    core = LabCore(directory, guest, kernel)
    if directory.exists():
        return core
    with locked(f"core-{directory.name}"):
        if not directory.exists():
            _build(core)
    return core


def list_cores() -> list[LabCore]:
    """All cores in the cache, those of other versions of the lab as well."""
    found = []
    for path in sorted((cache_dir() / "cores").glob("*/guest.json")):
        saved = json.loads(path.read_text("utf-8"))
        found.append(
            LabCore(path.parent, Guest(**saved["guest"]), KernelPackage(**saved["kernel"]))
        )
    return found


def is_current(core: LabCore) -> bool:
    """Whether `make_core` would find this core, as far as the lab's own files decide."""
    return _directory_of(core.guest, core.kernel).name == core.directory.name


def cache_key(guest: Guest, kernel: KernelPackage, sources: Path = SOURCES) -> str:
    """Hash over everything a core depends on."""
    nowhere = Path("/")
    description = [
        _FORMAT,
        # By whichever name the kernel was asked for, it is the package that counts.
        asdict(replace(guest, kernel=kernel.package)),
        asdict(kernel),
        [word for word in guest.qemu_arguments(kernel, nowhere) if word != str(kernel.vmlinuz)],
        guest.crash_command_line(),
        WANTED_MODULES,
        CRASH_MODULES,
    ]
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for pattern in _KEY_SOURCES:
        for path in sorted(sources.glob(pattern)):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _directory_of(guest: Guest, kernel: KernelPackage) -> Path:
    name = f"{kernel.release}-{guest.workload}-{guest.memory}-{cache_key(guest, kernel)}"
    return cache_dir() / "cores" / name


def _build(core: LabCore) -> None:
    building = cache_dir() / "building" / core.directory.name
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        build(core.guest, core.kernel, building)
    except BaseException:
        _leave_only_logs(building)
        raise
    core.directory.parent.mkdir(exist_ok=True)
    building.rename(core.directory)


def build(
    guest: Guest, kernel: KernelPackage, building: Path, after_copy: AfterCopy | None = None
) -> None:
    """Crash a guest, with `building` as scratch, and leave there the files of a LabCore."""
    guest.make_disks(kernel, building, after_copy)
    (building / "initrd").write_bytes(guest.initrd(kernel))
    answers: dict[str, Callable[[Monitor, list[str]], None]] = {
        "balloon": lambda monitor, words: monitor.inflate_balloon(int(words[0])),
        "dump": lambda monitor, _: monitor.dump_guest_memory(building / "qemu_core"),
    }
    more_disks = after_copy.disks if after_copy else ()
    machine = Machine(guest.qemu_arguments(kernel, building, more_disks), building, answers)
    # Generous: emulated, and the machine may be busy with other things.
    machine.run(timeout_seconds=600 + guest.memory_mib * (0.6 if guest.workload == "full" else 0.2))
    _keep(guest, kernel, building)


def _keep(guest: Guest, kernel: KernelPackage, building: Path) -> None:
    """Leave in `building` what LabCore promises and nothing else."""
    records = ground_truth.read_records(building / "records")
    vmcore_of(building)
    for name in (*DISKS[1:], "initrd", "qemu.log"):
        (building / name).unlink()

    before = records.pop("kpageflags-before")
    facts = ground_truth.parse_truth(records.pop("truth"))
    buffer_runs = facts.pop("kpageflags_buffer")["pfns"]
    flags = ground_truth.read_pfns(building / "vmcore", buffer_runs)[: facts["kpageflags_size"]]
    raced = ground_truth.differing_runs(before, flags)
    _check_flags(flags, before, raced)
    facts["raced"] = raced
    facts["release"] = kernel.release
    facts["kpageflags_buffer_pfns"] = buffer_runs

    (building / "kpageflags").write_bytes(flags)
    (building / "kpagecount").write_bytes(records.pop("kpagecount"))
    (building / "truth.json").write_text(json.dumps(facts, indent=1), "utf-8")
    sections = [f"==> /{name} <==\n{records.pop(name).decode()}\n" for name in _MEMINFO_FILES]
    (building / "meminfo.txt").write_text("".join(sections), "utf-8")
    (building / "records").mkdir()
    for name, content in records.items():
        (building / "records" / name.replace("/", "_")).write_bytes(content)
    saved = {"guest": asdict(guest), "kernel": asdict(kernel), "made": time.time()}
    (building / "guest.json").write_text(json.dumps(saved, indent=1), "utf-8")


def vmcore_of(building: Path) -> Path:
    """The file that /proc/vmcore was copied to, cut to its size."""
    path = building / "vmcore"
    size = ground_truth.vmcore_size(path)
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def _check_flags(flags: bytes, before: bytes, raced: list[ground_truth.Run]) -> None:
    """The reading dug out of the vmcore must be much like the one that was written to disk."""
    changed = sum(end - first for first, end in raced)
    if len(flags) != len(before) or changed > len(before) // 8 // 20:
        raise LabError(
            f"kpageflags in the vmcore ({len(flags)} bytes) differ from those written before the "
            f"panic ({len(before)} bytes) for {changed} pages: the vmcore is damaged, or the guest "
            "did not come to rest"
        )


def _leave_only_logs(building: Path) -> None:
    """Keep the console of a failed attempt where its error message says it is."""
    for path in building.iterdir():
        if path.name not in ("console.log", "qemu.log"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
