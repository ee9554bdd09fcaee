# SPDX-License-Identifier: GPL-2.0-or-later
"""The version, in the one place that knows it."""

VERSION = "0.1.0"
