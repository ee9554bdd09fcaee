# SPDX-License-Identifier: GPL-2.0-or-later
"""What this installation's capture path is, found once a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from pydumpfile.service.trace import CapturePath, trace


class Traced(NamedTuple):
    path: CapturePath
    digests: Mapping[str, str]


CODECS = ("zlib",)


@pytest.fixture(scope="session")
def traced() -> Traced:
    return Traced(*trace(CODECS))
