# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the loops takes stored pages apart."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["c", "python"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYDUMPFILE_KERNEL", request.param)
    return str(request.param)
