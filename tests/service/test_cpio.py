# SPDX-License-Identifier: GPL-2.0-or-later
"""cpio archives: what other programs see in them, and what is seen of others."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydumpfile.service import cpio
from pydumpfile.service.cpio import Entry

FILES = {
    "usr/bin/tool": Entry.file(b"#!/bin/sh\n", 0o755),
    "usr/lib/odd": Entry.file(b"12345"),
    "usr/lib/empty": Entry.file(b""),
    "usr/lib/link": Entry.link("odd"),
}


def listed(archive: bytes) -> list[str]:
    return list(cpio.names(io.BytesIO(archive)))


def test_folders_come_before_what_is_in_them() -> None:
    names = listed(cpio.archive(FILES))
    assert names == ["usr", "usr/bin", "usr/bin/tool", "usr/lib", "usr/lib/empty", "usr/lib/link",
                     "usr/lib/odd"]  # fmt: skip


def test_the_order_of_files_does_not_matter() -> None:
    assert cpio.archive(dict(reversed(FILES.items()))) == cpio.archive(FILES)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio(1) is not installed")
def test_cpio_unpacks_it(tmp_path: Path) -> None:
    subprocess.run(["cpio", "-idm", "--quiet"], input=cpio.archive(FILES), cwd=tmp_path, check=True)
    assert (tmp_path / "usr/lib/odd").read_bytes() == b"12345"
    assert (tmp_path / "usr/lib/empty").read_bytes() == b""
    assert (tmp_path / "usr/lib/link").readlink() == Path("odd")
    assert (tmp_path / "usr/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "usr/bin/tool").stat().st_mtime == 0


def test_archives_one_behind_the_other() -> None:
    first, second = (cpio.archive({name: Entry.file(b"x")}) for name in ("one", "two"))
    assert listed(first + bytes(1024) + second) == ["one", "two"]


@given(st.integers(0, 2000))
def test_a_cut_archive_ends_the_list(length: int) -> None:
    whole = cpio.archive(FILES)
    names = listed(whole[:length])
    assert names == listed(whole)[: len(names)]


@given(st.binary(max_size=300))
def test_anything_else_is_no_archive(junk: bytes) -> None:
    assert listed(junk) == []
