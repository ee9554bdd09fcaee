# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a crash of this system would be dumped: one function a question, asked before the crash.

Nothing here changes anything. Where a question cannot be answered the finding says so, and why; it
is never taken for a good one.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from typing import NamedTuple, Optional

from pydumpfile import codecs
from pydumpfile.errors import FormatError, MissingFactError, PydumpfileError
from pydumpfile.filter.level import MAX_LEVEL, Level
from pydumpfile.filter.plan import NEVER, make_plan, marks_free_pages
from pydumpfile.formats import elf
from pydumpfile.kernel.facts import Facts
from pydumpfile.service import specimen, tree
from pydumpfile.service.initramfs import choose_codecs
from pydumpfile.service.initrd import Contents, look_into
from pydumpfile.service.system import NO_SERVICE, Kdump, System, find_kdump
from pydumpfile.service.trace import trace

OK, WARN, FAIL, UNKNOWN = "ok", "warn", "fail", "unknown"

DUMPER_SIZE = 40 << 20
"""Memory that a dump takes, with all of the interpreter."""
_KERNEL_SIZE = 48 << 20
"""Memory that a crash kernel takes for itself and the processes that start the dump, at least."""
_VMEMMAP_SHARE = 64 / 4096
_KERNEL_IMAGE_SIZE = 64 << 20
_BEST_RATIO = 4
"""Nobody's kernel memory gets smaller than a quarter."""
_NOTES_LIMIT = 16 << 20


class Finding(NamedTuple):
    """The answer to one question."""

    name: str
    state: str
    """:data:`OK`, :data:`WARN` (a dump may fail), :data:`FAIL` (it would), or :data:`UNKNOWN`."""
    found: str
    advice: str = ""


def examine_system(
    system: System, initrd: Optional[str] = None, target: Optional[str] = None
) -> Iterator[Finding]:
    """Ask everything.

    :param initrd: the crash kernel's initramfs, if it is not that of the kdump service.
    :param target: the folder for dumps, likewise.
    """
    kdump = find_kdump(system)
    if initrd or target:
        kdump = kdump or NO_SERVICE
    if kdump and initrd:
        kdump = kdump._replace(initrd=initrd, folders=())
    if kdump and target:
        kdump = kdump._replace(directory=target, elsewhere="")
    yield reservation(system)
    yield loaded(system, kdump)
    yield kernel_support(system)
    yield panics(system)
    yield description(system)
    yield codec_libraries()
    yield rehearsal()
    contents, finding = image(system, kdump)
    yield finding
    yield memory(system, kdump, contents)
    yield kept(system)
    yield space(system, kdump)


def reservation(system: System) -> Finding:
    """Whether memory is set aside for a crash kernel."""
    name = "memory reserved"
    size = system.number("/sys/kernel/kexec_crash_size")
    parameters = re.findall(r"(?:^|\s)(crashkernel=\S+)", system.text("/proc/cmdline") or "")
    asked = " ".join(parameters) or "no crashkernel= on the kernel's command line"
    if size:
        return Finding(name, OK, f"{_mib(size)} ({asked})")
    if size is None:
        return Finding(name, UNKNOWN, f"no /sys/kernel/kexec_crash_size; {asked}",
                       "this takes a kernel with CONFIG_KEXEC_CORE, and no container")  # fmt: skip
    if parameters:
        return Finding(name, FAIL, f"nothing, in spite of {asked}",
                       "look for 'crashkernel' in dmesg; ask for less, or add ,high")  # fmt: skip
    return Finding(name, FAIL, f"nothing: {asked}",
                   "add crashkernel=256M to the boot loader's configuration, and boot")  # fmt: skip


def loaded(system: System, kdump: Optional[Kdump]) -> Finding:
    """Whether there is a crash kernel to start."""
    name = "crash kernel"
    state = system.number("/sys/kernel/kexec_crash_loaded")
    service = kdump.service if kdump else "no kdump service is configured"
    if state is None:
        return Finding(name, UNKNOWN, f"no /sys/kernel/kexec_crash_loaded; {service}")
    if state:
        return Finding(name, OK, f"loaded; {service}")
    how = kdump.reload if kdump else "install kdump-tools, kdump-utils or kdump"
    return Finding(name, FAIL, f"none is loaded; {service}", how)


def kernel_support(system: System) -> Finding:
    """Whether the kernel can be a crash kernel and show the memory of the one that died."""
    name = "kernel support"
    where, config = _kernel_config(system)
    if config is None:
        return Finding(name, UNKNOWN, "the configuration of the running kernel is nowhere",
                       "see that it has CONFIG_CRASH_DUMP and CONFIG_PROC_VMCORE")  # fmt: skip
    lacking = [key for key in ("CONFIG_CRASH_DUMP", "CONFIG_PROC_VMCORE")
               if f"\n{key}=y" not in f"\n{config}"]  # fmt: skip
    if not re.search(r"^CONFIG_KEXEC(_FILE)?=y", config, re.MULTILINE):
        lacking.append("CONFIG_KEXEC or CONFIG_KEXEC_FILE")
    if lacking:
        return Finding(name, FAIL, f"{where} lacks {', '.join(lacking)}",
                       "boot a kernel that has them")  # fmt: skip
    return Finding(name, OK, f"kexec, crash dumps and /proc/vmcore, says {where}")


def _kernel_config(system: System) -> tuple[str, Optional[str]]:
    release = system.release
    for where in (f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        text = system.text(where)
        if text is not None:
            return where, text
    try:
        with gzip.open(system.path("/proc/config.gz"), "rt", encoding="utf-8") as file:
            return "/proc/config.gz", file.read()
    except (OSError, EOFError):
        return "", None


def panics(system: System) -> Finding:
    """Whether an oops is a crash."""
    name = "panic on oops"
    value = system.number("/proc/sys/kernel/panic_on_oops")
    if value is None:
        return Finding(name, UNKNOWN, "no /proc/sys/kernel/panic_on_oops")
    if value:
        return Finding(name, OK, "yes")
    return Finding(name, WARN, "no: after an oops the kernel goes on, and nothing is dumped",
                   "sysctl kernel.panic_on_oops=1, if that is not what is wanted")  # fmt: skip


def description(system: System) -> Finding:
    """Whether the kernel says of itself what each dump level needs."""
    name = "VMCOREINFO"
    try:
        text = _vmcoreinfo(system.path("/proc/kcore"))
    except OSError as error:
        exported = system.exists("/sys/kernel/vmcoreinfo")
        return Finding(
            name, UNKNOWN,
            f"the kernel {'has' if exported else 'does not show'} it; /proc/kcore cannot be read: "
            f"{error.strerror}", _advice(error),
        )  # fmt: skip
    if text is None:
        return Finding(name, UNKNOWN, "/proc/kcore does not have it, as before Linux 4.19")
    facts = Facts.from_vmcoreinfo(text, "/proc/kcore")
    try:
        _need_one(facts, "init_top_pgt", "init_level4_pgt")
        _need_one(facts, "mem_section", "mem_map")
        plans = [make_plan(facts, Level.of(level)) for level in range(MAX_LEVEL + 1)]
    except (MissingFactError, FormatError) as error:
        return Finding(name, FAIL, str(error), "dump with -d 1 on this kernel")
    found = f"{len(facts.lines)} lines of {facts.release}: all levels"
    if not marks_free_pages(facts):
        found += ", free pages by the free lists"
    if plans[Level.USER].hugetlb == NEVER:
        return Finding(name, WARN, f"{found}, but huge pages cannot be told, and are kept")
    return Finding(name, OK, found)


def _need_one(facts: Facts, *symbols: str) -> None:
    if all(facts.find_symbol(symbol) is None for symbol in symbols):
        raise MissingFactError(f"SYMBOL({symbols[0]})", facts.looked_in)


def _vmcoreinfo(path: str) -> Optional[bytes]:
    """The VMCOREINFO note of an ELF core; None if there is none."""
    with open(path, "rb") as file:
        raw = file.read(elf.EHDR.size)
        if len(raw) < elf.EHDR.size or raw[:4] != elf.ELFMAG:
            return None
        header = elf.Ehdr._make(elf.EHDR.unpack(raw))
        file.seek(header.e_phoff)
        table = file.read(header.e_phnum * elf.PHDR.size)
        for segment in elf.parse_phdrs(table[: len(table) - len(table) % elf.PHDR.size]):
            if segment.p_type == elf.PT_NOTE and segment.p_filesz <= _NOTES_LIMIT:
                file.seek(segment.p_offset)
                blob = file.read(segment.p_filesz)
                for note in elf.iter_notes(blob):
                    if note and note.name == b"VMCOREINFO":
                        return blob[note.desc_off : note.desc_off + note.desc_size]
    return None


def codec_libraries() -> Finding:
    """Which codecs work here."""
    reasons = codecs.available()
    have = [name for name, reason in reasons.items() if not reason]
    found = "; ".join([", ".join(have), *filter(None, reasons.values())])
    usual = set(have) & {"zlib", "lzo", "zstd"}
    if not usual:
        return Finding("codecs", WARN, found, "without one a dump is two to four times as large")
    return Finding("codecs", OK, found)


def rehearsal() -> Finding:
    """Whether the capture path of this installation works."""
    name = "rehearsal"
    try:
        chosen = choose_codecs(None)
        path, _ = trace(chosen)
    except PydumpfileError as error:
        return Finding(name, FAIL, str(error), "install pydumpfile anew, or report this")
    machine = os.uname().machine
    if machine != specimen.MACHINE:
        return Finding(name, FAIL, f"works, but crashes of {machine} machines cannot be dumped yet")
    return Finding(name, OK, f"dumps with {', '.join(chosen) or 'no codec'}, by {path.interpreter}")


def image(system: System, kdump: Optional[Kdump]) -> tuple[Optional[Contents], Finding]:
    """Whether the crash kernel's initramfs has a dumper; and what is in it."""
    name = "crash initramfs"
    if kdump is None:
        return None, Finding(name, UNKNOWN, "no kdump service is configured",
                             "name the file with --initrd")  # fmt: skip
    path, reload = kdump.initrd, f"then {kdump.reload}"
    if not path:
        return None, Finding(name, FAIL, f"{kdump.service} has none", kdump.reload)
    try:
        contents = look_into(system.path(path))
    except FileNotFoundError:
        return None, Finding(name, FAIL, f"{path} is not there", reload[5:])
    except OSError as error:
        return None, Finding(name, UNKNOWN, f"{path}: {error.strerror}", _advice(error))
    if kdump.folders:
        return contents, _dumper_of_root(system, kdump)
    if f"{tree.HOME}/bin/python3" in contents.names:
        names = [n for n in ("pydumpfile", tree.ALIAS) if f"usr/bin/{n}" in contents.names]
        found = f"{path} has pydumpfile, as {' and '.join(names)}"
        if os.path.getmtime(system.path(path)) < os.path.getmtime(specimen.__file__):
            return contents, Finding(name, WARN, f"{found}, but an older one", reload[5:])
        return contents, Finding(name, OK, found)
    if contents.obstacle:
        return contents, Finding(name, UNKNOWN, f"{path}: {contents.obstacle}",
                                 f"look for {tree.HOME} with lsinitrd")  # fmt: skip
    others = sorted(n for n in contents.names if os.path.basename(n) == tree.ALIAS)
    return contents, Finding(
        name, FAIL, f"{path} has no pydumpfile" + (f", but {others[0]}" if others else ""),
        f"pydumpfile initramfs --install dracut|initramfs-tools, {reload}",
    )  # fmt: skip


def _dumper_of_root(system: System, kdump: Kdump) -> Finding:
    """kdump-tools calls makedumpfile, on the root file system, by a PATH of its own."""
    found = f"{kdump.initrd} boots the root file system; makedumpfile there"
    advice = "make it pydumpfile: see docs/kdump-service.md"
    for folder in kdump.folders:
        program = f"{folder}/{tree.ALIAS}"
        if system.exists(program):
            if not _is_ours(system.path(program)):
                return Finding("crash initramfs", WARN, f"{found} is another ({program})", advice)
            found = f"{found} is pydumpfile ({program})"
            if kdump.hides_failures:
                return Finding("crash initramfs", WARN, f"{found}, in a pipe that hides failures",
                               "set pipefail, or a dump that was cut off gets the name of a good "
                               "one: see docs/kdump-service.md")  # fmt: skip
            return Finding("crash initramfs", OK, found)
    return Finding("crash initramfs", FAIL, f"{found} is missing", advice)


def _is_ours(path: str) -> bool:
    """Whether a program is pydumpfile's script, whatever it is called."""
    with open(path, "rb") as file:
        start = file.read(2048)
    return start.startswith(b"#!") and b"pydumpfile" in start


def memory(system: System, kdump: Optional[Kdump], contents: Optional[Contents]) -> Finding:
    """Whether the reservation is large enough for the initramfs and a dump."""
    name = "crash memory"
    size = system.number("/sys/kernel/kexec_crash_size")
    if not size or kdump is None or contents is None:
        return Finding(name, UNKNOWN, "the reservation or the initramfs is not known")
    packed = os.path.getsize(system.path(kdump.initrd))
    need = _KERNEL_SIZE + packed + contents.unpacked + DUMPER_SIZE
    found = (
        f"{_mib(size)} for a kernel (about {_mib(_KERNEL_SIZE)}), its initramfs ({_mib(packed)}, "
        f"unpacked {_mib(contents.unpacked)}) and a dump ({_mib(DUMPER_SIZE)})"
    )
    if need > size:
        advice = f"reserve {_mib(need)} or more: crashkernel={-(-need // (64 << 20)) * 64}M"
        return Finding(name, WARN, found, advice)
    return Finding(name, OK, found)


class Estimate(NamedTuple):
    """What a dump of level 31 would be made of, if the crash were now. Bytes."""

    total: int
    free: int
    cache_and_user: int
    kernel: int
    """Not compressed."""


def estimate(system: System) -> Optional[Estimate]:
    """From /proc/meminfo; None without."""
    said = system.memory()
    try:
        total, free = said["MemTotal"], said["MemFree"]
        lists = said["Active"] + said["Inactive"] + said.get("Unevictable", 0)
    except KeyError:
        return None
    huge = said.get("Hugetlb", 0)
    # The struct pages and the image were taken away before MemTotal was counted.
    beyond = int(total * _VMEMMAP_SHARE) + _KERNEL_IMAGE_SIZE
    kernel = max(0, total - free - lists - huge) + beyond
    return Estimate(total, free, lists + huge, kernel)


def kept(system: System) -> Finding:
    """What level 31 would keep and leave out, now."""
    name = "would be kept"
    now = estimate(system)
    if now is None:
        return Finding(name, UNKNOWN, "no /proc/meminfo")
    return Finding(
        name, OK,
        f"about {_mib(now.kernel)} of the kernel, before compression; left out by -d 31: free "
        f"{_mib(now.free)}, cache and user data {_mib(now.cache_and_user)} of {_mib(now.total)}",
    )  # fmt: skip


def space(system: System, kdump: Optional[Kdump]) -> Finding:
    """Whether a dump of now would fit where it is to go."""
    name = "target space"
    if kdump and kdump.elsewhere:
        return Finding(name, UNKNOWN, f"dumps go to {kdump.elsewhere}", "look there")
    directory = kdump.directory if kdump else NO_SERVICE.directory
    now = estimate(system)
    path = directory
    while not system.exists(path) and path.strip("/"):
        path = os.path.dirname(path)
    if not os.path.isdir(system.path(path)):
        return Finding(name, FAIL, f"{path} is not a folder", "name another target")
    status = os.statvfs(system.path(path))
    free = status.f_bavail * status.f_frsize
    found = f"{_mib(free)} free at {directory}"
    if path != directory:
        found += f", which is not there yet ({path} is)"
    if now is None:
        return Finding(name, UNKNOWN, found)
    found += f", for a dump of up to {_mib(now.kernel)}"
    if free < now.kernel // _BEST_RATIO:
        return Finding(name, FAIL, found, "make room, or name another target")
    if free < now.kernel:
        return Finding(name, WARN, found, "compressed it may fit; better make room")
    return Finding(name, OK, found)


def _advice(error: OSError) -> str:
    return "run this as root" if isinstance(error, PermissionError) else ""


def _mib(n_bytes: int) -> str:
    return f"{-(-n_bytes // (1 << 20))} MiB"
