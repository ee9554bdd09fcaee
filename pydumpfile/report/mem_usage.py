# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of ``--mem-usage``: makedumpfile's rows and columns, which scripts pick apart."""

from __future__ import annotations

from collections.abc import Iterator

from pydumpfile.filter.level import Kind
from pydumpfile.mem_usage import MemUsage

_ROWS = {
    "NON_PRI_CACHE": (Kind.CACHE, "page cache without private data"),
    "PRI_CACHE": (Kind.CACHE_PRIVATE, "page cache with private data"),
    "USER": (Kind.USER, "memory of processes"),
    "FREE": (Kind.FREE, "free pages"),
}
_ROWS_IF_ANY = {
    "HWPOISON": (Kind.HWPOISON, "hardware-poisoned pages"),
    "OFFLINE": (Kind.OFFLINE, "pages given up by the kernel"),
}
"""Which makedumpfile has no rows for, so that its rows do not add up."""


def table(usage: MemUsage) -> str:
    """All of it, lines without a newline at the end."""
    return "\n".join(_lines(usage))


def _lines(usage: MemUsage) -> Iterator[str]:
    yield _row("TYPE", "PAGES", "EXCLUDABLE", "DESCRIPTION")
    yield "-" * 70
    yield _row("ZERO", usage.zero, "yes", "pages of zeros")
    for name, (kind, what) in _ROWS.items():
        yield _row(name, usage.left_out[kind], "yes", what)
    for name, (kind, what) in _ROWS_IF_ANY.items():
        if usage.left_out[kind]:
            yield _row(name, usage.left_out[kind], "yes", what)
    if usage.gone:
        yield _row("LEFT_OUT", usage.gone, "yes", "what an earlier dump has no more")
    yield _row("KERN_DATA", usage.kept, "no", "the kernel's own memory")
    yield ""
    yield f"{'page size:':<24}{usage.page_size}"
    yield f"{'Total pages on system:':<24}{usage.existing}"
    yield f"{'Total size on system:':<24}{usage.existing * usage.page_size} Byte"


def _row(name: str, pages: object, excludable: str, what: str) -> str:
    return f"{name:<16}{pages:<24}{excludable:<16}{what}"
