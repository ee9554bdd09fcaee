# SPDX-License-Identifier: GPL-2.0-or-later
"""How long-running steps tell how far they are."""

from __future__ import annotations

import time
from typing import Callable, Optional

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much it is in all (pages; bytes
where there are none), or 0 if nobody knows; several times a second at most."""


class Throttled:
    """Progress at most ten times a second, and always at the end of a step."""

    _INTERVAL = 0.1

    def __init__(self, progress: Optional[Progress]) -> None:
        self._progress = progress
        self._last = 0.0

    def __call__(self, step: str, done: int, total: int) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        if (total and done >= total) or now - self._last >= self._INTERVAL:
            self._last = now
            self._progress(step, min(done, total) if total else done, total)
