# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the kernel was loaded and how far KASLR moved it, where no VMCOREINFO says so.

The image lies at a multiple of 2 MiB in physical memory, and its name is at a known place of it.
So memory is looked at in steps of that for the name; a find counts if the page tables, at a known
place of the image as well, map the image to where it was found. That also tells how many levels
they have, and which bit of their entries says "encrypted". Sources: ``arch/x86/kernel/head64.c``,
``arch/x86/boot/compressed/kaslr.c``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, Optional

from pydumpfile.errors import FaultError, MismatchError, MissingFactError, PydumpfileError
from pydumpfile.kernel.description import Description
from pydumpfile.kernel.facts import Facts
from pydumpfile.memory.x86_64 import START_KERNEL_MAP, PageTables
from pydumpfile.pfn import align_up
from pydumpfile.sources import Source

_STEP = 2 << 20
"""MIN_KERNEL_ALIGN: by multiples of it the image is moved, in both kinds of address."""
_LARGEST_IMAGE = 1 << 30
_ROOTS = ("init_top_pgt", "init_level4_pgt")
_UTSNAME_OFF = 4  # of uts_namespace.name, where the description lacks it
_FIELD_SIZE = 65  # of struct new_utsname
_RELEASE, _MACHINE = 2, 4
_NAME_SIZE = (_MACHINE + 1) * _FIELD_SIZE
_LINUX = b"Linux".ljust(_FIELD_SIZE, b"\0")
_PIECE_SIZE = 1 << 20
# AMD's C-bit, which CPUID gives: 47 up to the second EPYC, 51 since the third.
_SME_MASKS = (0, 1 << 51, 1 << 47)
_ADVICE = (
    "the description is of another kernel, or the core lacks the memory that the kernel was in"
)


class Placement(NamedTuple):
    """One boot of a kernel."""

    phys_base: int
    """Physical address of the image less its virtual one, plus START_KERNEL_MAP."""
    kernel_offset: int
    """How far symbols are from where the linker put them."""
    levels: int
    """Of page tables: 4 or 5."""
    sme_mask: int

    @property
    def lines(self) -> dict[str, str]:
        """The same as VMCOREINFO has it."""
        return {
            "NUMBER(phys_base)": str(self.phys_base),
            "NUMBER(pgtable_l5_enabled)": str(int(self.levels == 5)),
            "NUMBER(sme_mask)": str(self.sme_mask),
            "KERNELOFFSET": f"{self.kernel_offset:x}",
        }


def find_placement(source: Source, description: Description) -> Placement:
    """Look for the kernel of ``description`` in the memory of ``source``.

    :raises MismatchError: a kernel of another release is there.
    :raises MissingFactError: none is there, or the description lacks what it is known by.
    :raises FormatError: what it says of that cannot be.
    """
    return _Search(source, description).find()


class _Search:
    """One look through memory."""

    def __init__(self, source: Source, description: Description) -> None:
        self._source = source
        self._description = description
        self._facts = Facts(description.lines, description.place, _ADVICE)
        self._uts_vaddr = self._symbol("init_uts_ns")
        name_off = self._facts.find_offset("uts_namespace", "name")
        self._name_off = _UTSNAME_OFF if name_off is None else name_off
        self._root_vaddr = self._symbol(*_ROOTS)

    def find(self) -> Placement:
        seen = 0
        for paddr in chain(self._likely(), self._possible()):
            if self._is_name(paddr + self._name_off):
                seen += 1
                placement = self._mapped(paddr)
                if placement is not None:
                    return placement
        raise self._not_found(seen)

    def _not_found(self, seen: int) -> PydumpfileError:
        """Why, as far as that can be told."""
        description, path = self._description, self._source.path
        release = self._release_in_memory()
        if release and description.release and release != description.release:
            return MismatchError("release", description.release, description.place, release, path)
        why = f"the kernel described by {description.place} is nowhere"
        if seen:
            why = f"the kernel described by {description.place} has no page tables that lead to it"
        elif release:
            why = f"a kernel {release} is elsewhere than {description.place} says"
        return MissingFactError(
            "KERNELOFFSET and phys_base", f"the notes and the memory of {path}, where {why}",
            _ADVICE,
        )  # fmt: skip

    def _release_in_memory(self) -> str:
        """The release in whatever ``struct new_utsname`` of Linux comes first in memory."""
        for start, end in self._source.data:
            for paddr in range(start, end, _PIECE_SIZE):
                size = min(_PIECE_SIZE + _NAME_SIZE, end - paddr)
                try:
                    piece = self._source.read(paddr, size)
                except FaultError:
                    continue
                at = piece.find(_LINUX)
                while at >= 0:
                    fields = _fields(piece[at : at + _NAME_SIZE])
                    if fields[_MACHINE] == b"x86_64" and fields[_RELEASE]:
                        return fields[_RELEASE].decode("utf-8", "replace")
                    at = piece.find(_LINUX, at + 1)
        return ""

    def _symbol(self, *names: str) -> int:
        for name in names:
            vaddr = self._facts.find_symbol(name)
            if vaddr is not None:
                return vaddr
        raise MissingFactError(
            " or ".join(f"SYMBOL({name})" for name in names), self._description.place, _ADVICE
        )

    def _likely(self) -> Iterator[int]:
        """Places of init_uts_ns that agree with the PT_LOAD of the image, if there is one."""
        hint = self._source.phys_base_hint
        if hint is not None:
            first = self._uts_vaddr - START_KERNEL_MAP + hint
            yield from range(first, first + _LARGEST_IMAGE, _STEP)

    def _possible(self) -> Iterator[int]:
        """All places of init_uts_ns of which the file has bytes."""
        rest = self._uts_vaddr % _STEP
        for start, end in self._source.data:
            yield from range(align_up(start - rest, _STEP) + rest, end, _STEP)

    def _is_name(self, paddr: int) -> bool:
        """Whether a ``struct new_utsname`` of this kernel is there."""
        if paddr not in self._source.data:
            return False
        try:
            fields = _fields(self._source.read(paddr, _NAME_SIZE))
        except FaultError:
            return False
        release = self._description.release.encode("utf-8", "replace") or fields[_RELEASE]
        return (fields[0], fields[_RELEASE], fields[_MACHINE]) == (b"Linux", release, b"x86_64")

    def _mapped(self, uts_paddr: int) -> Optional[Placement]:
        """The placement by which init_uts_ns is at ``uts_paddr``; None if page tables say no."""
        root_paddr = uts_paddr + self._root_vaddr - self._uts_vaddr
        for levels in (4, 5):
            for sme_mask in _SME_MASKS:
                tables = PageTables(self._source, root_paddr, levels, sme_mask)
                for vaddr in range(
                    START_KERNEL_MAP + self._uts_vaddr % _STEP,
                    START_KERNEL_MAP + _LARGEST_IMAGE,
                    _STEP,
                ):
                    if _leads_to(tables, vaddr, uts_paddr):
                        return Placement(
                            uts_paddr + START_KERNEL_MAP - vaddr, vaddr - self._uts_vaddr,
                            levels, sme_mask,
                        )  # fmt: skip
        return None


def _fields(name: bytes) -> list[bytes]:
    """The first fields of a ``struct new_utsname``, up to the machine."""
    ends = range(_FIELD_SIZE, _NAME_SIZE + 1, _FIELD_SIZE)
    return [name[end - _FIELD_SIZE : end].partition(b"\0")[0] for end in ends]


def _leads_to(tables: PageTables, vaddr: int, paddr: int) -> bool:
    try:
        leaf = tables.lookup(vaddr)
    except FaultError:
        return False
    return leaf.paddr + vaddr - leaf.vaddr == paddr
