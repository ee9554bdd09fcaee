# SPDX-License-Identifier: GPL-2.0-or-later
"""All that is known of one dead kernel: its own note, what was given from outside, its memory.

The kernel's note counts most, because the kernel that died wrote it. A description from outside
adds what the note lacks; where both speak of the same thing, they have to agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pydumpfile.errors import FaultError, FormatError, MismatchError
from pydumpfile.formats.vmcoreinfo import parse, to_number
from pydumpfile.kernel.description import OF_ONE_BOOT, Description, in_image
from pydumpfile.kernel.facts import Facts
from pydumpfile.kernel.placement import find_placement
from pydumpfile.memory.x86_64 import START_KERNEL_MAP
from pydumpfile.sources import Source

_IDENTITIES = (("OSRELEASE", "release"), ("BUILD-ID", "build ID"))
_UTS_FIELD_SIZE = 65
_COMPARED = ("SYMBOL(", "SIZE(", "OFFSET(", "LENGTH(", "NUMBER(", "PAGESIZE")


class Contradiction(NamedTuple):
    """Two places that say different things of one fact; the first one counts."""

    key: str
    value: str
    place: str
    other_value: str
    other_place: str

    def __str__(self) -> str:
        return (
            f"{self.key} is {self.value} in {self.place}, but {self.other_value} in "
            f"{self.other_place}; the first is taken"
        )


class Gathered(NamedTuple):
    """Facts of several descriptions, and where these do not agree."""

    facts: Facts
    contradictions: list[Contradiction]


def gather(source: Source, given: Description) -> Gathered:
    """What the note of ``source``, the description ``given``, and if need be memory say.

    :raises MismatchError: ``given`` is of another kernel.
    :raises MissingFactError: the core has no note, and the kernel cannot be found in its memory.
    :raises FormatError: the note is damaged.
    """
    own_place = f"VMCOREINFO of {source.path}"
    own = parse(source.vmcoreinfo) if source.vmcoreinfo is not None else {}
    _check_identity(given, own, source)
    if "KERNELOFFSET" not in own or "NUMBER(phys_base)" not in own:
        # Before Linux 4.10 (401721ecd1dc) the kernel did not export phys_base.
        found = find_placement(source, given).lines
    else:
        found = {}
    lines = {**found, **own}
    places = dict.fromkeys(found, f"memory of {source.path}") | dict.fromkeys(own, own_place)
    _check_banner(given, lines, source)
    moved = given.moved(_number(lines, "KERNELOFFSET", own_place))
    contradictions = list(_contradictions(own, own_place, moved, given.place))
    for key, value in moved.items():
        if key not in lines:
            lines[key], places[key] = value, given.place
    looked_in = f"{own_place} and {given.place}" if own else given.place
    return Gathered(Facts(lines, looked_in, places=places), contradictions)


def _check_identity(given: Description, own: dict[str, str], source: Source) -> None:
    """Hold release and build ID against those of the note, or what else the file says of itself."""
    known = dict(own)
    if source.utsname_bytes:
        release = source.utsname_bytes[2 * _UTS_FIELD_SIZE : 3 * _UTS_FIELD_SIZE].partition(b"\0")[
            0
        ]
        known.setdefault("OSRELEASE", release.decode("utf-8", "replace"))
    for key, name in _IDENTITIES:
        theirs, found = given.lines.get(key), known.get(key)
        if theirs and found and theirs != found:
            raise MismatchError(name, theirs, given.place, found, source.path)


def _check_banner(given: Description, lines: dict[str, str], source: Source) -> None:
    """Hold the banner of a vmlinux against the one in memory: it tells two builds apart."""
    key = "SYMBOL(linux_banner)"
    if given.banner is None or key not in given.lines:
        return
    kernel_offset = _number(lines, "KERNELOFFSET", source.path)
    vaddr = to_number(key, given.lines[key]) + kernel_offset
    paddr = vaddr - START_KERNEL_MAP + _number(lines, "NUMBER(phys_base)", source.path)
    try:
        found = source.read(paddr, len(given.banner))
    except FaultError:  # left out by an earlier filter, or lost
        return
    if found != given.banner:
        shown = [text.decode("ascii", "backslashreplace").strip() for text in (given.banner, found)]
        raise MismatchError("banner", repr(shown[0]), given.place, repr(shown[1]), source.path)


def _contradictions(
    own: dict[str, str], own_place: str, given: dict[str, str], place: str
) -> Iterator[Contradiction]:
    for key, value in own.items():
        other = given.get(key)
        if other is None or key in OF_ONE_BOOT or not key.startswith(_COMPARED):
            continue
        number = _number(own, key, own_place)
        if key.startswith("SYMBOL(") and not in_image(number):
            continue  # mem_section: the note has the array's address, others that of its pointer
        if (number - _number(given, key, place)) % (1 << 64):
            yield Contradiction(key, value, own_place, other, place)


def _number(lines: dict[str, str], key: str, place: str) -> int:
    try:
        number = to_number(key, lines[key])
    except ValueError:
        raise FormatError(place, 0, f"a number for {key}", repr(lines[key])) from None
    return number - (1 << 64) if number >> 63 == 1 and key == "NUMBER(phys_base)" else number
