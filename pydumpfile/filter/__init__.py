# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 5: what a page is, and whether a dump level keeps it."""
