# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m docs.manual``: write the manual page and the completions anew."""

from __future__ import annotations

from . import generated

if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, "utf-8")
