# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 6: how fast this machine reads, judges and dumps a vmcore, each way that it has."""
