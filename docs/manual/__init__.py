# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page and the shells' completions, made from the one table of options.

``python -m docs.manual`` writes them; a test fails while they are not what it would write.
"""

from __future__ import annotations

from pathlib import Path

from . import bash, fish, page, zsh

_HERE = Path(__file__).parent


def generated() -> dict[Path, str]:
    """What each of the files is to contain."""
    return {
        _HERE / "pydumpfile.8": page.page(),
        _HERE / "completions" / "pydumpfile": bash.completion(),
        _HERE / "completions" / "_pydumpfile": zsh.completion(),
        _HERE / "completions" / "pydumpfile.fish": fish.completion(),
    }
