# SPDX-License-Identifier: GPL-2.0-or-later
"""Timings, as ratios measured side by side in one run. No test depends on any of them."""
