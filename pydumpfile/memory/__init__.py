# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 3: the dead kernel's virtual addresses, one file an architecture."""
