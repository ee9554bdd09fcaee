# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of a kernel by name, from the DWARF debugging information of its vmlinux.

A vmlinux has some 2400 compile units, and reading one takes a tenth of a second. Nearly all that
matters is defined in a few of them, which are known by their source files and found without
reading any other: a unit refers to its file's name within its first bytes.
"""

from __future__ import annotations

import inspect
import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from struct import Struct
from typing import IO, NamedTuple, Optional, cast

from elftools.common.exceptions import DWARFError, ELFError
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo

from pydumpfile.errors import FormatError, UnsupportedError
from pydumpfile.kernel.vmlinux import Section, Vmlinux

_DAMAGED = (
    DWARFError, ELFError, LookupError, ValueError, OverflowError, TypeError, AttributeError,
    RecursionError, NotImplementedError,
)  # fmt: skip
"""What pyelftools raises on debugging information that is not what it says."""

# In the order they are read until everything is found. A compiler leaves out of a unit what the
# unit does not use, so each of these is here because it uses something.
_SOURCES = (
    b"mm/page_alloc.c",  # struct page, zone, pglist_data, mem_section, enum pageflags, pagetype
    b"kernel/printk/printk.c",  # the kernel's log
    b"kernel/vmcore_info.c",  # VMCOREINFO itself, since Linux 6.9 (443cbaf9e2fd)
    b"kernel/crash_core.c",  # the same before
    b"init/version.c",  # uts_namespace
    b"mm/vmalloc.c",  # vmap_area, vm_struct
)
_NAME_WITHIN = 80
"""Bytes from the start of a unit that have the reference to its name."""
_MOST_UNITS, _MOST_STRINGS = 4, 4
"""Units to look into for a type that is not where it is expected; strings that end in its name."""

_U32, _U64 = Struct("<I"), Struct("<Q")
_DWARF64 = 0xFFFFFFFF
_PLUS_UCONST = 0x23  # DW_OP_plus_uconst
_AGGREGATES = ("DW_TAG_structure_type", "DW_TAG_union_type")
_ENUMERATION = "DW_TAG_enumeration_type"
_TYPEDEF = "DW_TAG_typedef"
_NAMED = (*_AGGREGATES, _ENUMERATION, _TYPEDEF)
_TRANSPARENT = (_TYPEDEF, "DW_TAG_const_type", "DW_TAG_volatile_type")
_MOST_TYPEDEFS = 64
_SPLIT = ("DW_AT_dwo_name", "DW_AT_GNU_dwo_name")


class Member(NamedTuple):
    """Where a member lies in its structure, in bytes; ``length`` if it is an array."""

    off: int
    length: Optional[int]


class StructType(NamedTuple):
    """A structure or union; members of nameless ones inside it are its own, as in C."""

    size: int
    members: dict[str, Member]


class DebugInfo:
    """The types of one vmlinux.

    :raises FormatError: it has no debugging information, or a damaged one; the methods do, too.
    :raises UnsupportedError: the information is spread over files that are not given; likewise.
    """

    def __init__(self, vmlinux: Vmlinux) -> None:
        self._vmlinux = vmlinux
        self._info = vmlinux.section(".debug_info")
        if not self._info.size:
            raise self._nothing_here()
        if vmlinux.alternate_link():
            raise UnsupportedError(
                f"{vmlinux.path}: debugging information shared with {vmlinux.alternate_link()}",
                "give a vmlinux that dwz was not applied to",
            )
        self._strings = vmlinux.section(".debug_str")
        self._starts = list(self._unit_starts())
        self._dwarf = self._open()
        self._expected = iter(self._expected_units())
        self._types: dict[tuple[str, str], DIE] = {}
        self._read: set[int] = set()

    @property
    def n_read(self) -> int:
        """Units that had to be read so far."""
        return len(self._read)

    def struct(self, name: str) -> Optional[StructType]:
        """The structure or union ``name``, or what a typedef of that name is; None if none is."""
        with self._reading():
            die = self._find((*_AGGREGATES, _TYPEDEF), name)
            if die is None:
                die = self._search((*_AGGREGATES, _TYPEDEF), name)
            return None if die is None else _struct_of(die)

    def enum(self, name: str) -> Optional[dict[str, int]]:
        """The enumerators of ``enum name``; None if there is no such enumeration."""
        with self._reading():
            die = self._find((_ENUMERATION,), name)
            if die is None:
                return None
            return {_name(child): _number(child, "DW_AT_const_value", 0)
                    for child in die.iter_children()}  # fmt: skip

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            raise FormatError(
                f"{self._vmlinux.path}: .debug_info", 0, "DWARF that pyelftools can read",
                f"{type(error).__name__}: {error}", "the vmlinux is damaged",
            ) from error  # fmt: skip

    def _nothing_here(self) -> FormatError:
        vmlinux = self._vmlinux
        found = "none: it was stripped"
        if vmlinux.debug_link():
            found = f"none: it was split off, into {vmlinux.debug_link()}"
        return vmlinux.not_a_vmlinux(0, "debugging information (.debug_info)", found)

    # Which units

    def _unit_starts(self) -> Iterator[int]:
        """Where each unit starts."""
        off = 0
        while off < self._info.size:
            yield off
            header = self._info.read(off, 12)
            if len(header) < 12:
                raise self._cut_off(off)
            (size,) = _U32.unpack_from(header)
            if size == _DWARF64:
                off += 12 + int(_U64.unpack_from(header, 4)[0])
            else:
                off += 4 + int(size)
        if off > self._info.size:
            raise self._cut_off(self._info.size)

    def _cut_off(self, off: int) -> FormatError:
        return FormatError(f"{self._vmlinux.path}: .debug_info", off, "a whole unit",
                           "the end of the section", "the vmlinux is damaged")  # fmt: skip

    def _expected_units(self) -> Iterator[int]:
        """The units of ``_SOURCES``, in that order, as far as they can be told by their names.

        All others if not a single one can: where strings are referred to by index (DW_FORM_strx,
        which clang writes) a name is only known once its unit is read.
        """
        line_strings = self._vmlinux.section(".debug_line_str")
        heads = [(start, self._info.read(start, _NAME_WITHIN)) for start in self._starts]
        none = True
        for source in _SOURCES:
            references = [
                _U32.pack(start)
                for strings in (line_strings, self._strings)
                for start in _strings_ending(strings, source)
            ]
            for start, head in heads:
                if any(reference in head for reference in references):
                    none = False
                    yield start
        if none:
            yield from self._starts

    def _find(self, tags: Sequence[str], name: str) -> Optional[DIE]:
        """A definition in the units read so far, or in one more of those that are expected."""
        while True:
            for tag in tags:
                if (tag, name) in self._types:
                    return self._types[tag, name]
            unit = next(self._expected, None)
            if unit is None:
                return None
            self._read_unit(unit)

    def _search(self, tags: Sequence[str], name: str) -> Optional[DIE]:
        """A definition where it is not expected, in one of a few units that mention the name."""
        for unit in self._mentioning(name):
            self._read_unit(unit)
            die = self._find(tags, name)
            if die is not None:
                return die
        return None

    def _mentioning(self, name: str) -> list[int]:
        """Some units that refer to the string ``name``, and were not read yet."""
        units: list[int] = []
        strings = islice(self._strings.places(name.encode("ascii") + b"\0"), _MOST_STRINGS)
        for reference in map(_U32.pack, strings):
            for place in self._info.places(reference):
                unit = self._starts[bisect_right(self._starts, place) - 1]
                if unit not in self._read and unit not in units:
                    units.append(unit)
                if len(units) == _MOST_UNITS:
                    return units
        return units

    # Reading them

    def _open(self) -> DWARFInfo:
        """Open pyelftools on these sections, and no others."""
        sections = dict.fromkeys(inspect.signature(DWARFInfo.__init__).parameters)
        del sections["self"], sections["config"]
        for section in ("info", "abbrev", "str", "line_str", "str_offsets", "addr"):
            content = self._vmlinux.section(f".debug_{section}")
            sections[f"debug_{section}_sec"] = DebugSectionDescriptor(
                cast("IO[bytes]", _Stream(content)), f".debug_{section}", 0, content.size, 0
            )
        return DWARFInfo(config=DwarfConfig(True, "x64", 8), **sections)

    def _read_unit(self, start: int) -> None:
        """Note down which types the unit at ``start`` defines."""
        self._read.add(start)
        top = self._dwarf.get_CU_at(start).get_top_DIE()
        for attribute in _SPLIT:
            if attribute in top.attributes:
                name = top.attributes[attribute].value.decode("utf-8", "replace")
                raise UnsupportedError(
                    f"{self._vmlinux.path}: debugging information split off into files as {name}",
                    "it takes a kernel without CONFIG_DEBUG_INFO_SPLIT",
                )
        for die in top.iter_children():
            if die.tag in _NAMED and "DW_AT_declaration" not in die.attributes:
                self._types.setdefault((die.tag, _name(die)), die)


class _Stream(io.RawIOBase):
    """A section as the file that pyelftools wants, without a copy of it."""

    def __init__(self, section: Section) -> None:
        super().__init__()
        self._section = section
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        content = self._section.read(self._at, size if size >= 0 else self._section.size)
        self._at += len(content)
        return content

    def seek(self, off: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._section.size}
        self._at = base[whence] + off
        return self._at

    def tell(self) -> int:
        return self._at


def _strings_ending(strings: Section, path: bytes) -> Iterator[int]:
    """Where the strings start that are ``path``, or have it behind a directory."""
    for at in strings.places(path + b"\0"):
        start = at
        while start and strings.read(start - 1, 1) != b"\0":
            start -= 1
        if start == at or strings.read(at - 1, 1) == b"/":
            yield start


# From DIEs to types


def _name(die: DIE) -> str:
    name = die.attributes.get("DW_AT_name")
    return bytes(name.value).decode("ascii", "replace") if name else ""


def _number(die: DIE, attribute: str, default: int) -> int:
    found = die.attributes.get(attribute)
    return int(found.value) if found else default


def _type_of(die: DIE) -> Optional[DIE]:
    """What the DIE's type is, behind typedefs and qualifiers."""
    for _ in range(_MOST_TYPEDEFS):
        if "DW_AT_type" not in die.attributes:
            return None
        die = die.get_DIE_from_attribute("DW_AT_type")
        if die.tag not in _TRANSPARENT:
            return die
    raise ValueError("types that are typedefs of each other")


def _struct_of(die: DIE) -> Optional[StructType]:
    """The structure that the DIE, or the typedef it is, defines."""
    aggregate = _type_of(die) if die.tag == _TYPEDEF else die
    if aggregate is None:
        return None
    members = dict(_members(aggregate, 0)) if aggregate.tag in _AGGREGATES else {}
    return StructType(_number(aggregate, "DW_AT_byte_size", 0), members)


def _members(aggregate: DIE, base: int) -> Iterator[tuple[str, Member]]:
    for child in aggregate.iter_children():
        if child.tag != "DW_TAG_member":
            continue
        off = base + _member_off(child)
        of_type = _type_of(child)
        if _name(child):
            yield _name(child), Member(off, _array_length(of_type))
        elif of_type is not None and of_type.tag in _AGGREGATES:
            yield from _members(of_type, off)


def _member_off(member: DIE) -> int:
    """A number; up to DWARF 3 an expression that adds it to the structure's address."""
    location = member.attributes.get("DW_AT_data_member_location")
    if location is None:  # of a union, or a bit field of DWARF 4 and later
        return _number(member, "DW_AT_data_bit_offset", 0) // 8
    if isinstance(location.value, int):
        return location.value
    if not location.value or location.value[0] != _PLUS_UCONST:
        raise ValueError(f"the place of member {_name(member)} is an unknown expression")
    off = 0
    for i, byte in enumerate(location.value[1:]):  # ULEB128
        off |= (byte & 0x7F) << 7 * i
    return off


def _array_length(of_type: Optional[DIE]) -> Optional[int]:
    """Elements of an array, of its first dimension; None if it is none, or does not say."""
    if of_type is None or of_type.tag != "DW_TAG_array_type":
        return None
    for child in of_type.iter_children():
        if "DW_AT_count" in child.attributes:
            return _number(child, "DW_AT_count", 0)
        if "DW_AT_upper_bound" in child.attributes:
            return _number(child, "DW_AT_upper_bound", 0) + 1
        return None
    return None
