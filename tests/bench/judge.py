# SPDX-License-Identifier: GPL-2.0-or-later
"""Judges all pages of a core at level 31 and copies none: prints the seconds it took.

    python -m tests.bench.judge CORE

For cores whose pages would take minutes to copy.
"""

from __future__ import annotations

import sys
import time

from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.kernel.vmcore import Vmcore


def main() -> None:
    """Print one number."""
    with Vmcore.open(sys.argv[1]) as vmcore:
        started = time.perf_counter()
        for _ in PageFilter(vmcore, Level(31)).windows():
            pass
        print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
