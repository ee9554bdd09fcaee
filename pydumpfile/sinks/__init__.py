# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 2: pages out, one file a format."""
