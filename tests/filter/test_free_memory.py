# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that is free for gigabytes: passed over by one struct page of each block, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest

from pydumpfile.errors import FaultError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Level
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.memory.space import AddressSpace
from tests.builders.huge import build_huge_core

GIB = 1 << 30


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Every fifth section of 128 MiB is in use."""
    path = str(tmp_path_factory.mktemp("free") / "core")
    build_huge_core(path, 4 * GIB, share_mem_map=False, busy_every=5)
    return path


def judged(path: str, use_mmap: bool = True) -> tuple[bytes, list[int]]:
    with Vmcore.open(path, use_mmap) as vmcore:
        page_filter = PageFilter(vmcore, Level(31))
        bits = b"".join(bytes(window.bits) for window in page_filter.windows())
        return bits, page_filter.tally.left_out


@pytest.mark.parametrize("use_mmap", [True, False])
def test_the_same_pages_go(core: str, use_mmap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    glances: list[tuple[int, int]] = []

    def counted(space: AddressSpace, vaddr: int, size: int, wanted: Any) -> Any:
        view = glance(space, vaddr, size, wanted)
        assert view is not None
        glances.append((sum(end - start for start, end in wanted), size))
        return view

    glance = AddressSpace.glance
    monkeypatch.setattr(AddressSpace, "glance", counted)
    passed = judged(core, use_mmap)
    assert len(glances) > 16, "most of this core is free"
    assert all(looked_at * 1000 < size for looked_at, size in glances)
    monkeypatch.setattr(AddressSpace, "glance", lambda *_: None)
    assert judged(core, use_mmap) == passed


def test_struct_pages_that_cannot_be_read_are_met_as_ever(
    core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: AddressSpace, vaddr: int, *__: Any) -> Any:
        raise FaultError(vaddr, "virtual")

    expected = judged(core)
    monkeypatch.setattr(AddressSpace, "glance", failing)
    assert judged(core) == expected
