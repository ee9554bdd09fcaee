# SPDX-License-Identifier: GPL-2.0-or-later
"""Where pages are judged: here, or in the crash kernel, which has the struct pages at hand."""

from __future__ import annotations

from enum import Enum

from pydumpfile.errors import UsageError


class FilterIn(Enum):
    """What ``--filter-in`` takes. The dump is the same, bit for bit."""

    USER = "user"
    KERNEL = "kernel"
    """It is an error if the kernel cannot."""
    AUTO = "auto"
    """The kernel as long as it can, else user space."""

    @classmethod
    def of(cls, name: str) -> FilterIn:
        """The one called ``name``.

        :raises UsageError: there is none.
        """
        try:
            return cls(name)
        except ValueError:
            names = ", ".join(one.value for one in cls)
            raise UsageError(f"pages can be judged in one of {names}, not in {name!r}") from None
