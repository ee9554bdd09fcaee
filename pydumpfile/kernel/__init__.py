# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 4: what the dead kernel looked like, from its own description and its memory."""
