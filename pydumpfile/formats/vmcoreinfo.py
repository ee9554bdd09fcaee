# SPDX-License-Identifier: GPL-2.0-or-later
"""VMCOREINFO: the text in which a kernel describes itself to dump tools.

Lines of ``KEY=VALUE``. ``SYMBOL(x)`` is hexadecimal without 0x; ``SIZE(x)``, ``OFFSET(x)`` and
``LENGTH(x)`` are decimal; ``NUMBER(x)`` is decimal, perhaps negative, or hexadecimal with 0x;
``KERNELOFFSET`` is hexadecimal without 0x. Source: Documentation/admin-guide/kdump/vmcoreinfo.rst.
"""

from __future__ import annotations

from collections.abc import Mapping

_HEXADECIMAL = ("SYMBOL(", "KERNELOFFSET")


def parse(text: bytes) -> dict[str, str]:
    """Keys and values of ``text``; of a key that occurs twice the first line counts.

    Lines without ``=`` are passed over, as every reader of the format does.
    """
    lines: dict[str, str] = {}
    for line in text.rstrip(b"\0").decode("ascii", "replace").split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            lines.setdefault(key, value)
    return lines


def render(lines: Mapping[str, str]) -> bytes:
    """The text that :func:`parse` makes ``lines`` of."""
    return "".join(f"{key}={value}\n" for key, value in lines.items()).encode("ascii", "replace")


def to_number(key: str, value: str) -> int:
    """The number that ``value`` means for ``key``.

    :raises ValueError: it is no number in the notation of that key.
    """
    if key.startswith(_HEXADECIMAL):
        return int(value, 16)
    try:
        return int(value, 10)
    except ValueError:
        if not value.lower().startswith(("0x", "-0x")):
            raise
        return int(value, 16)
