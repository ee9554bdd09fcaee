# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts about the dead kernel by name: offsets, sizes, numbers, symbols.

All of them come from the VMCOREINFO note, which the kernel itself wrote. Nobody asks for the
kernel's version: whether a member or number exists tells which kernel it is.
"""

from __future__ import annotations

from typing import Optional

from pydumpfile.errors import FormatError, MissingFactError
from pydumpfile.formats import vmcoreinfo

_ADVICE = "without it only -d 0 and -d 1 work"


class Facts:
    """What one description says. Missing facts are None for ``find``, an error for the others."""

    def __init__(self, lines: dict[str, str], looked_in: str) -> None:
        self.lines = lines
        self.looked_in = looked_in

    @classmethod
    def from_vmcoreinfo(cls, text: bytes, path: str) -> Facts:
        """The facts of the VMCOREINFO note ``text`` in the core at ``path``."""
        return cls(vmcoreinfo.parse(text), f"VMCOREINFO of {path}")

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
            raise FormatError(self.looked_in, 0, f"a number for {key}", repr(value)) from None

    def need(self, key: str) -> int:
        """As :meth:`find`, but absence is an error.

        :raises MissingFactError: ``key`` is not there.
        """
        value = self.find(key)
        if value is None:
            raise MissingFactError(key, self.looked_in, _ADVICE)
        return value

    def offset(self, struct: str, member: str) -> int:
        """Bytes from the start of ``struct`` to ``member``."""
        return self.need(f"OFFSET({struct}.{member})")

    def find_offset(self, struct: str, member: str) -> Optional[int]:
        """:meth:`offset`, or None where the kernel has no such member or does not say."""
        return self.find(f"OFFSET({struct}.{member})")

    def size(self, struct: str) -> int:
        """``sizeof(struct)`` in bytes."""
        return self.need(f"SIZE({struct})")

    def length(self, array: str) -> Optional[int]:
        """Elements of ``array``, or None."""
        return self.find(f"LENGTH({array})")

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
