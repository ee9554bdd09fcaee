# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the members of one kernel structure lie, each of them checked to be inside it."""

from __future__ import annotations

from typing import Optional

from pydumpfile.kernel.facts import Facts

_LARGEST = 4096
"""Bytes; so that a damaged description cannot ask for a read of any size."""


class StructLayout:
    """``struct name`` as the kernel's description gives it.

    :raises MissingFactError: its size is not there.
    :raises FormatError: its size cannot be.
    """

    def __init__(self, facts: Facts, name: str) -> None:
        self._facts = facts
        self._name = name
        self.size = facts.size(name)
        facts.within(f"SIZE({name})", 1, _LARGEST)

    def offset(self, member: str, width: int) -> int:
        """Bytes from the start to ``member``, which is ``width`` bytes wide.

        :raises MissingFactError: the description has no such member.
        :raises FormatError: it would not lie within the structure.
        """
        off = self._facts.offset(self._name, member)
        self._check(member, width)
        return off

    def find_offset(self, member: str, width: int) -> Optional[int]:
        """:meth:`offset`, or None where the kernel has no such member or does not say."""
        self._check(member, width)
        return self._facts.find_offset(self._name, member)

    def _check(self, member: str, width: int) -> None:
        self._facts.within(f"OFFSET({self._name}.{member})", 0, self.size - width)
