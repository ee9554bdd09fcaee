# SPDX-License-Identifier: GPL-2.0-or-later
"""pydumpfile in the place of an installed makedumpfile: what is seen of both, side by side.

``command_lines.txt`` is the table, and reads as a document: what services and people type, what is
refused, and where pydumpfile is meant to differ, with the heading in docs/differences.md that says
why. Both programs really run each line; a difference that is not in the table fails, and so does
one that is no longer there. ``test_matrix.py`` does the same for what is in the dumps.
"""
