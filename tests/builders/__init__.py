# SPDX-License-Identifier: GPL-2.0-or-later
"""Synthetic ELF vmcores of x86_64 kernels, with the expected verdict on every page.

Nothing here imports the package under test: what is built is the other opinion.

    built = build_core(path, CoreSpec(layout="6.12", seed=7))
    assert second_bitmap_of_my_dump(31) == built.verdict(31)
"""

from __future__ import annotations

from .core import BuiltCore, build_core
from .huge import HugeCore, build_huge_core
from .layouts import LAYOUTS, ODD_LAYOUTS, Layout
from .spec import CoreSpec

__all__ = [
    "LAYOUTS",
    "ODD_LAYOUTS",
    "BuiltCore",
    "CoreSpec",
    "HugeCore",
    "Layout",
    "build_core",
    "build_huge_core",
]
