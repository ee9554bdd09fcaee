# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's one exception."""

from __future__ import annotations


class LabError(Exception):
    """A core could not be made; the message says what to do about it."""
