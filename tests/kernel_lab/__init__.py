# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab for kpatch/: build kernels with the series, crash them, look at what they read and map.

python -m tests.kernel_lab --help
"""

from __future__ import annotations
