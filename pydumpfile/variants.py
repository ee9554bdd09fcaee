# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways in which the loops in C do the same, by what a processor can do."""

from __future__ import annotations

from pydumpfile._pagescan import lib

VARIANTS = {
    "avx2": lib.PYDUMP_AVX2,
    "neon": lib.PYDUMP_NEON,
    "scalar": lib.PYDUMP_SCALAR,
}
"""The number of each in C, the preferred one first."""


def variants() -> list[str]:
    """Those that this machine can run, the preferred one first."""
    supported = lib.pydump_variants()
    return [name for name, number in VARIANTS.items() if supported >> number & 1]
