# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 1: bytes to records and back, one file a format, no I/O."""
