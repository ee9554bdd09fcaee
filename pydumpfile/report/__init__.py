# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 6: what a dump left out and kept, told to people."""
