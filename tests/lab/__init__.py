# SPDX-License-Identifier: GPL-2.0-or-later
"""Real Linux crash cores, made by crashing Debian kernels in QEMU.

from tests.lab import Guest, make_core
core = make_core(Guest(kernel="6.1-cloud", memory="384M", workload="small"))
core.vmcore, core.vmlinux(), core.kpageflags, core.truth
"""

from __future__ import annotations

from .cores import LabCore, list_cores, make_core
from .errors import LabError
from .guest import Guest
from .kernels import KernelPackage

__all__ = ["Guest", "KernelPackage", "LabCore", "LabError", "list_cores", "make_core"]
