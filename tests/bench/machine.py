# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that was measured on, in a line."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def describe(makedumpfile: str) -> str:
    """Processor, memory, kernel, Python, and the other program."""
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"^(?:model name|CPU part)\s*: (.*)$", cpuinfo, re.M)
    virtual = (
        "a virtual machine, " if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.M) else ""
    )
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{len(os.sched_getaffinity(0))} x {model[1] if model else platform.machine()}, {virtual}"
        f"{memory_gib:.0f} GiB, Linux {platform.release().partition('-')[0]}, {_distribution()}, "
        f"Python {platform.python_version()}, makedumpfile {_version(makedumpfile)}"
    )


def load() -> float:
    """Processes that wanted a processor in the last minute, this one's included."""
    return os.getloadavg()[0]


def _distribution() -> str:
    try:
        lines = Path("/etc/os-release").read_text("utf-8")
    except OSError:
        return "an unknown distribution"
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', lines, re.M)
    return name[1] if name else "an unknown distribution"


def _version(makedumpfile: str) -> str:
    said = subprocess.run([makedumpfile, "-v"], check=False, capture_output=True, text=True)
    found = re.search(r"version ([^\s(]+)", said.stdout + said.stderr)
    return found[1] if found else "of unknown version"
