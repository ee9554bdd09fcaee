# SPDX-License-Identifier: GPL-2.0-or-later
"""``make compare``: filtering in the kernel against filtering in user space, measured in guests."""
