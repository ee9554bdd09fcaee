# SPDX-License-Identifier: GPL-2.0-or-later
"""Floor 6: getting ready before the crash. The capture path never imports anything of this."""
