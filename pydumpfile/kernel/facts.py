# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts about the dead kernel by name: offsets, sizes, numbers, symbols.

Most are of the VMCOREINFO note, which the kernel itself wrote; :mod:`pydumpfile.kernel.gather` adds
others. Nobody asks for the kernel's version: whether a member or number exists tells which kernel
it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from pydumpfile.errors import FormatError, MissingFactError
from pydumpfile.formats import vmcoreinfo

_ADVICE = "without it only -d 0 and -d 1 work"
_LARGEST = 1 << 20
"""No structure that matters here is larger, in bytes."""


class Facts:
    """What a kernel's description says; a missing fact is None for ``find``, an error for others.

    :param advice: what to do without a fact that is missing; errors end with it.
    :param places: where facts are from, by key, as far as that is not ``looked_in``.
    """

    def __init__(
        self,
        lines: dict[str, str],
        looked_in: str,
        advice: str = _ADVICE,
        places: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.lines = lines
        self.looked_in = looked_in
        self._advice = advice
        self._places = places or {}

    @classmethod
    def from_vmcoreinfo(cls, text: bytes, path: str) -> Facts:
        """The facts of the VMCOREINFO note ``text`` in the core at ``path``."""
        return cls(vmcoreinfo.parse(text), f"VMCOREINFO of {path}")

    def advising(self, advice: str) -> Facts:
        """The same facts for another purpose, with its own advice where one is missing."""
        return Facts(self.lines, self.looked_in, advice, self._places)

    def place(self, key: str) -> str:
        """Where the fact ``key`` is from, or was looked for."""
        return self._places.get(key, self.looked_in)

    def find(self, key: str) -> Optional[int]:
        """The number behind ``key``, spelled as in VMCOREINFO (``NUMBER(PG_lru)``), or None.

        :raises FormatError: the value is no number.
        """
        value = self.lines.get(key)
        if value is None:
            return None
        try:
            return vmcoreinfo.to_number(key, value)
        except ValueError:
            raise FormatError(self.place(key), 0, f"a number for {key}", repr(value)) from None

    def need(self, key: str) -> int:
        """As :meth:`find`, but absence is an error.

        :raises MissingFactError: ``key`` is not there.
        """
        value = self.find(key)
        if value is None:
            raise MissingFactError(key, self.looked_in, self._advice)
        return value

    def within(self, key: str, least: int, most: int) -> Optional[int]:
        """As :meth:`find`, for a number that can only be from ``least`` to ``most``.

        :raises FormatError: it is not: the description is damaged.
        """
        value = self.find(key)
        if value is not None and not least <= value <= most:
            raise FormatError(
                self.place(key), 0, f"{key} from {least} to {most}", str(value),
                "the description is damaged",
            )  # fmt: skip
        return value

    def offset(self, struct: str, member: str) -> int:
        """Bytes from the start of ``struct`` to ``member``."""
        return _present(self, f"OFFSET({struct}.{member})", 0)

    def find_offset(self, struct: str, member: str) -> Optional[int]:
        """:meth:`offset`, or None where the kernel has no such member or does not say."""
        return self.within(f"OFFSET({struct}.{member})", 0, _LARGEST)

    def size(self, struct: str) -> int:
        """``sizeof(struct)`` in bytes."""
        return _present(self, f"SIZE({struct})", 1)

    def length(self, array: str) -> Optional[int]:
        """Elements of ``array``, or None."""
        return self.within(f"LENGTH({array})", 0, 1 << 40)

    def number(self, name: str) -> Optional[int]:
        """The constant ``name``, or None where the kernel does not have it or does not say."""
        return self.find(f"NUMBER({name})")

    def symbol(self, name: str) -> int:
        """Virtual address of ``name`` in the dead kernel, KASLR included."""
        return self.need(f"SYMBOL({name})")

    def find_symbol(self, name: str) -> Optional[int]:
        """:meth:`symbol`, or None."""
        return self.find(f"SYMBOL({name})")

    @property
    def release(self) -> str:
        """``uname -r`` of the dead kernel; empty if it does not say."""
        return self.lines.get("OSRELEASE", "")


def _present(facts: Facts, key: str, least: int) -> int:
    """A size or offset that has to be there and has to make sense."""
    facts.need(key)
    value = facts.within(key, least, _LARGEST)
    assert value is not None
    return value
