# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m pydumpfile``."""

from pydumpfile.cli import entry

if __name__ == "__main__":
    entry()
