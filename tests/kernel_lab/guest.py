# SPDX-License-Identifier: GPL-2.0-or-later
"""One boot of the kernel lab: a machine, two kernels, and what the crash kernel is to do.

What the crash kernel does is a few lines of shell (`steps`) made of the functions in
programs/init.sh; what they print comes back as a `Console`.
"""

from __future__ import annotations

import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydumpfile.service.initramfs import add_to_tree
from tests.lab.cache import require_program
from tests.lab.errors import LabError
from tests.lab.initramfs import Cpio, add_program
from tests.lab.qemu import Machine

from .builder import Image

PROGRAMS = Path(__file__).parent / "programs"
_COMMON = "console=ttyS0 loglevel=4 panic=-1 log_buf_len=1M"
_TIMEOUT_SECONDS = 1500.0
# A DIMM goes where no other memory is: beyond 512 GiB, which an entry of the top level of 4-level
# page tables covers.
DIMM_PADDR = 576 << 30
_HIGHEST_MEMORY_GIB = 640


@dataclass(frozen=True)
class Boot:
    """A machine and what its crash kernel does.

    cpu: a QEMU CPU model: "max" has 5-level paging and 1G pages, "max,-la57" 4-level paging,
        "qemu64" 4-level paging and no 1G pages.
    machine: more of QEMU's -machine ("max-ram-below-4g=512M" puts the rest above 4 GiB).
    fill_percent: how much of the free memory of the first kernel gets content.
    holes: free pages are here and there among it.
    cache_percent: how much of the free memory is page cache before that, of a file in memory that
        nobody ever wrote to: with init_on_alloc=0 the host need not have that memory.
    kinds: the first kernel makes pages of the kinds that do not come of themselves, and counts all
        (programs/kinds.c); it takes kinds.config.
    dimm_mib: the size of a DIMM at DIMM_PADDR, which the first kernel hot-adds; it takes
        `memhp_default_state=online` to use it.
    kexec_file: load the crash kernel by kexec_file_load(), not by kexec_load(), as Debian's
        `kexec -p` does.
    icount: one nanosecond of guest time is one instruction.
    python: the crash kernel has pydumpfile, as `pydumpfile initramfs` puts it into one, and
        programs/pfn_lists.py with what that imports.
    dumpers: it has pydumpfile, `pydumpfile compare` included, and makedumpfile.
    timeout_seconds: how long all of it may take.
    """

    steps: str
    memory_mib: int = 768
    cpu: str = "max"
    machine: str = ""
    numa: int = 1
    crashkernel_mib: int = 160
    first_parameters: str = ""
    crash_parameters: str = ""
    fill_percent: int = 40
    holes: bool = False
    cache_percent: int = 0
    kinds: bool = False
    dimm_mib: int = 0
    kexec_file: bool = False
    icount: bool = False
    python: bool = False
    dumpers: bool = False
    timeout_seconds: float = _TIMEOUT_SECONDS

    def qemu_arguments(self, image: Image, directory: Path) -> list[str]:
        """QEMU's arguments; the initrd is in `directory`."""
        # TCG runs `rep movsb` a byte at a time; without these flags kernels use words.
        cpu = f"{self.cpu},-erms,-fsrm"
        accel = ["-accel", "tcg,thread=multi"]
        if self.icount:
            accel = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]
        append = f"{_COMMON} crashkernel={self.crashkernel_mib}M {self.first_parameters}"
        machine = ["pc", *self.machine.split()]
        if self.numa == 1:
            machine.append("memory-backend=ram")
        arguments = [
            *accel,
            *("-machine", ",".join(machine)),
            *("-cpu", cpu, "-smp", "1", "-m", self._memory()),
            *("-kernel", str(image.bzimage), "-initrd", str(directory / "initrd")),
            *("-append", append),
        ]
        if self.dimm_mib:
            arguments += ["-object", f"{_backend(self.dimm_mib)},id=dimm"]
            arguments += ["-device", f"pc-dimm,memdev=dimm,addr={DIMM_PADDR:#x}"]
        backend = _backend(self.memory_mib // self.numa)
        if self.numa == 1:
            return [*arguments, "-object", f"{backend},id=ram"]
        for node in range(self.numa):
            arguments += ["-object", f"{backend},id=node{node}"]
            arguments += ["-numa", f"node,nodeid={node},memdev=node{node}"]
        return arguments

    def _memory(self) -> str:
        size = f"{self.memory_mib}M"
        return f"{size},slots=1,maxmem={_HIGHEST_MEMORY_GIB}G" if self.dimm_mib else size


class Console:
    """What a boot printed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def section(self, name: str) -> str:
        """The text between LAB-BEGIN and LAB-END of the first section called `name`."""
        found = next(self.sections(re.escape(name)), None)
        if found is None:
            raise LabError(f"the crash kernel printed no {name}")
        return found[1]

    def sections(self, pattern: str) -> Iterator[tuple[str, str]]:
        """(name, text) of each section whose name matches, in order."""
        for match in re.finditer(
            rf"^LAB-BEGIN ({pattern})\n(.*?)^LAB-END \1$", self.text, re.M | re.S
        ):
            yield match.group(1), match.group(2)


def _backend(size_mib: int) -> str:
    # Without a reservation a guest can have more memory than the host, if it does not use it.
    return f"memory-backend-ram,size={size_mib}M,reserve=off"


def run_boot(boot: Boot, image: Image, log: Path) -> Console:
    """Boot, crash, run the steps; the console goes to `log`.  LabError if the guest failed."""
    with tempfile.TemporaryDirectory(prefix="kernel-lab-") as scratch:
        directory = Path(scratch)
        (directory / "initrd").write_bytes(_initrd(boot, image))
        machine = _Machine(boot.qemu_arguments(image, directory), directory, {})
        try:
            machine.run(boot.timeout_seconds)
        finally:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(machine.text, "utf-8")
    return Console(machine.text)


class _Machine(Machine):
    """A machine whose console is taken from the socket: QEMU's own log repeats what it retries."""

    @property
    def text(self) -> str:
        """All lines so far."""
        return "".join(f"{line}\n" for line in self._lines)


def _initrd(boot: Boot, image: Image) -> bytes:
    """Initramfs of the first kernel; the crash kernel's lies in it as a file."""
    settings = {
        "FILL": f"{boot.fill_percent}{' holes' if boot.holes else ''}",
        "KINDS": "yes" if boot.kinds else "",
        "CACHE": str(boot.cache_percent or ""),
        "KEXEC_OPTION": "--kexec-file-syscall" if boot.kexec_file else "--kexec-syscall",
        "CRASH_COMMAND_LINE": f"{_COMMON} nr_cpus=1 reset_devices {boot.crash_parameters}",
        "STEPS": boot.steps,
    }
    for value in settings.values():
        if "'" in value:
            raise LabError(f"a setting cannot hold a quote: {value}")
    conf = "".join(f"{name}='{value}'\n" for name, value in settings.items()).encode()
    cpio, crash = _base(conf), _base(conf)
    for initramfs in (cpio, crash):
        initramfs.add_file("oldmem_lab.ko", image.module)
    if boot.kinds:
        cpio.add_file("bin/kinds", _compiled("kinds"))
    # busybox's dd does not say how long it took.
    add_program(crash, Path(require_program("dd", "coreutils")), "bin/gnu-dd")
    if boot.python or boot.dumpers:
        _add_python(crash, compares=boot.dumpers)
    if boot.dumpers:
        add_program(crash, Path(require_program("makedumpfile")), "bin/makedumpfile")
    cpio.add_file("bzImage", image.bzimage)
    cpio.add_file("crash-initrd", crash.to_bytes())
    add_program(cpio, Path(require_program("kexec", "kexec-tools")), "sbin/kexec")
    return cpio.to_bytes()


def _add_python(cpio: Cpio, compares: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        add_to_tree(scratch, ("lzo",), as_makedumpfile=False, compares=compares)
        for path in sorted(tree.rglob("*")):
            if path.is_symlink():
                cpio.add_symlink(str(path.relative_to(tree)), str(path.readlink()))
            elif path.is_file():
                mode = stat.S_IMODE(path.stat().st_mode)
                cpio.add_file(str(path.relative_to(tree)), path, mode)
    for program in sorted(PROGRAMS.glob("*.py")):
        cpio.add_file(f"lab/{program.name}", program)


def _base(conf: bytes) -> Cpio:
    busybox = Path(require_program("busybox", "busybox-static"))
    listing = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True)
    cpio = Cpio()
    for directory in ("proc", "sys", "dev", "tmp", "mnt", "sbin"):
        cpio.add_directory(directory)
    cpio.add_device("dev/console", stat.S_IFCHR | 0o600, 5, 1)
    cpio.add_file("bin/busybox", busybox)
    for applet in listing.stdout.split():
        if applet != "busybox":
            cpio.add_symlink(f"bin/{applet}", "busybox")
    cpio.add_file("bin/vmtool", _compiled("vmtool"))
    cpio.add_file("init", PROGRAMS / "init.sh")
    cpio.add_file("lab.conf", conf, 0o644)
    return cpio


def _compiled(name: str) -> bytes:
    """A program of programs/."""
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / name
        run = subprocess.run(
            [
                *(require_program("gcc"), "-static", "-O3", "-o", str(program)),
                str(PROGRAMS / f"{name}.c"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise LabError(f"{name} does not compile (libc6-dev installed?):\n{run.stderr}")
        return program.read_bytes()
