# SPDX-License-Identifier: GPL-2.0-or-later
"""``--mem-usage``: the table of what a dump of this machine would leave out."""

from __future__ import annotations

from pydumpfile.cli.console import Console
from pydumpfile.cli.describe import open_vmcore
from pydumpfile.cli.options import Options
from pydumpfile.mem_usage import count_pages
from pydumpfile.report.mem_usage import table


def show_mem_usage(options: Options, console: Console) -> int:
    """Of the running kernel's /proc/kcore, or of any other memory image."""
    progress = console.progress()
    with open_vmcore(options, console) as vmcore:
        try:
            usage = count_pages(vmcore, progress)
        finally:
            if progress:
                progress.close()
    for doubt in usage.doubts:
        console.warn(doubt)
    console.product(f"\n{table(usage)}")
    return 0
