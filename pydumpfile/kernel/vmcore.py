# SPDX-License-Identifier: GPL-2.0-or-later
"""A dead kernel, opened: its memory, its description of itself, its mem_map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from pydumpfile.errors import FaultError, FormatError, MissingFactError, UnsupportedError
from pydumpfile.kernel.facts import Facts
from pydumpfile.kernel.memmap import MemMap, find_mem_map
from pydumpfile.memory import x86_64
from pydumpfile.memory.space import AddressSpace
from pydumpfile.memory.x86_64 import PageTables
from pydumpfile.sources import Source, open_source

if TYPE_CHECKING:
    from pydumpfile.kernel.description import Description
    from pydumpfile.kernel.gather import Contradiction, Gathered

_UTSNAME_FIELD_SIZE = 65
_LAST_SECOND = 253402300799  # of the year 9999
_UTSNAME_OFF = 4  # of uts_namespace.name, where the description lacks it: behind a refcount


class Utsname(NamedTuple):
    """``struct new_utsname`` as text."""

    sysname: str
    nodename: str
    release: str
    version: str
    machine: str
    domainname: str


class Vmcore:
    """One open memory image. Everything that costs reads is found when first asked for.

    :param given: a description of the kernel, beside its own or in its place.
    """

    def __init__(self, source: Source, given: Optional[Description] = None) -> None:
        if source.machine != "x86_64":
            raise UnsupportedError(
                f"{source.path}: a core of a {source.machine} machine", "only x86_64 is, so far"
            )
        self.source = source
        self._given = given
        self.page_shift = x86_64.PAGE_SHIFT
        self._check_page_size()

    @classmethod
    def open(
        cls,
        path: Union[str, Sequence[str]],
        use_mmap: bool = True,
        given: Optional[Description] = None,
    ) -> Vmcore:
        """Open the image at ``path``: see :func:`pydumpfile.sources.open_source`."""
        source = open_source(path, use_mmap)
        try:
            return cls(source, given)
        except BaseException:
            source.close()
            raise

    @property
    def files(self) -> tuple[str, ...]:
        """All that is read, none of which may be written over."""
        given = (self._given.path,) if self._given is not None and self._given.path else ()
        return *self.source.files, *given

    def close(self) -> None:
        """Let go of the file."""
        self.source.close()

    def __enter__(self) -> Vmcore:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    @cached_property
    def facts(self) -> Optional[Facts]:
        """What is known of the kernel; None if there is neither VMCOREINFO nor a description.

        :raises MismatchError: the description given is of another kernel.
        :raises MissingFactError: there is no VMCOREINFO, and the kernel described is not in memory.
        """
        if self._gathered is not None:
            return self._gathered.facts
        if self.source.vmcoreinfo is None:
            return None
        return Facts.from_vmcoreinfo(self.source.vmcoreinfo, self.source.path)

    @property
    def contradictions(self) -> list[Contradiction]:
        """What the kernel and the description given do not agree on."""
        return self._gathered.contradictions if self._gathered else []

    @cached_property
    def _gathered(self) -> Optional[Gathered]:
        """Facts of several sources; None if there is but the kernel's own."""
        if self._given is None:
            return None
        from pydumpfile.kernel.gather import gather  # noqa: PLC0415

        return gather(self.source, self._given)

    def need_facts(self) -> Facts:
        """:attr:`facts`, where there is no going on without.

        :raises MissingFactError: there are none.
        """
        if self.facts is None:
            raise MissingFactError(
                "VMCOREINFO", f"the notes of {self.source.path}",
                "nothing is known about this kernel, so only -d 0 and -d 1 work; give its vmlinux "
                "with -x, or -i; for QEMU's dump-guest-memory there is '-device vmcoreinfo'",
            )  # fmt: skip
        return self.facts

    @cached_property
    def levels(self) -> int:
        """Page-table levels of the dead kernel: 4 or 5."""
        return 5 if self.facts and self.facts.number("pgtable_l5_enabled") else 4

    @cached_property
    def phys_base(self) -> int:
        """Physical address of the kernel image less its link-time place; may be negative.

        From the description, else from the PT_LOAD of the kernel image, else 0.
        """
        said = self.facts.number("phys_base") if self.facts else None
        if said is not None:
            return said - (1 << 64) if said >> 63 == 1 else said
        return self.source.phys_base_hint or 0

    @cached_property
    def memory(self) -> AddressSpace:
        """Virtual memory of the kernel.

        :raises MissingFactError: nothing says where its page tables are.
        """
        facts = self.need_facts()
        root_vaddr = facts.find_symbol("init_level4_pgt")
        if root_vaddr is None:  # renamed in Linux 4.13 (65ade2f872b4)
            root_vaddr = facts.symbol("init_top_pgt")
        root_paddr = root_vaddr - x86_64.START_KERNEL_MAP + self.phys_base
        sme_mask = facts.number("sme_mask") or 0
        return AddressSpace(self.source, PageTables(self.source, root_paddr, self.levels, sme_mask))

    @cached_property
    def mem_map(self) -> MemMap:
        """Where the struct pages are; raises as :func:`pydumpfile.kernel.memmap.find_mem_map`."""
        facts = self.need_facts()
        max_pfn = self.source.exists.pages(self.page_shift).end
        return find_mem_map(
            facts, self.memory, max_pfn, self.page_shift, self.levels, self.source.only_system_ram
        )

    @cached_property
    def utsname_bytes(self) -> Optional[bytes]:
        """``struct new_utsname`` as it lies in memory, else as the file has it; None without."""
        return self._utsname_in_memory() or self.source.utsname_bytes

    def _utsname_in_memory(self) -> Optional[bytes]:
        vaddr = self.facts.find_symbol("init_uts_ns") if self.facts else None
        if self.facts is None or vaddr is None:
            return None
        offset = self.facts.find_offset("uts_namespace", "name")
        try:
            return self.memory.read(
                vaddr + (_UTSNAME_OFF if offset is None else offset),
                len(Utsname._fields) * _UTSNAME_FIELD_SIZE,
            )
        except (FaultError, MissingFactError):
            return None

    @cached_property
    def utsname(self) -> Optional[Utsname]:
        """:attr:`utsname_bytes` as text."""
        raw = self.utsname_bytes
        if raw is None:
            return None
        fields = range(0, len(raw), _UTSNAME_FIELD_SIZE)
        return Utsname(*(raw[i : i + _UTSNAME_FIELD_SIZE].split(b"\0")[0].decode("utf-8", "replace")
                         for i in fields))  # fmt: skip

    @cached_property
    def crash_time(self) -> int:
        """When the kernel panicked, in seconds since the epoch; 0 if nothing says."""
        said = self.facts.within("CRASHTIME", 0, _LAST_SECOND) if self.facts else None
        return said or min(self.source.crash_time, _LAST_SECOND)

    def _check_page_size(self) -> None:
        said = self.facts.find("PAGESIZE") if self.facts else None
        if said is not None and said != 1 << self.page_shift:
            raise FormatError(
                f"VMCOREINFO of {self.source.path}", self.source.vmcoreinfo_off,
                f"PAGESIZE={1 << self.page_shift}, the only page size of x86_64",
                f"PAGESIZE={said}", "the note is damaged",
            )  # fmt: skip
