# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the two forms of the hot loops runs: C, or its reference in plain Python."""

from __future__ import annotations

import os

from pydumpfile.errors import UsageError


def in_python() -> bool:
    """Whether the environment's PYDUMPFILE_KERNEL demands ``python``; ``c`` if it says nothing.

    :raises UsageError: it demands anything else.
    """
    demanded = os.environ.get("PYDUMPFILE_KERNEL", "c")
    if demanded not in {"c", "python"}:
        raise UsageError(f"PYDUMPFILE_KERNEL is {demanded!r}; it can be 'c' or 'python'")
    return demanded == "python"
