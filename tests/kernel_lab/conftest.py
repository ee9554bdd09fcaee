# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's filter, taken out of the patches and compiled for user space with sanitizers."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from pydumpfile.filter import kernel_scan, pfnlists

from .purecode import SHIM, extract_new_files
from .series import pfn_lists_series

_SOURCE = "fs/proc/vmcore_pfn_lists.c"
_HEADERS = (
    "fs/proc/page_judge.h",
    "fs/proc/page_words.h",
    "include/uapi/linux/vmcore_pfn_lists.h",
)


class Kernel:
    """The harness; stands in for `os` in pydumpfile.filter.pfnlists.

    direct: how many bytes of it can be looked at in place.
    requests: all that were written.
    missing: there is no such file.
    spoil: changes what is answered to the last of them, or raises OSError.
    """

    O_RDWR = os.O_RDWR

    def __init__(self, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._program = program
        self._monkeypatch = monkeypatch
        self.core = Path()
        self.direct = 1 << 21
        self.requests: list[bytes] = []
        self.missing = False
        self.spoil: Callable[[bytes], bytes] = bytes
        self._records = b""

    def boot(self, core: Path) -> None:
        """Have the memory of a machine that crashed in /proc/vmcore."""
        self.core = core
        self._monkeypatch.setattr(kernel_scan, "VMCORE", str(core))

    def run(self, request: bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        words = [str(self._program), *map(str, arguments)]
        return subprocess.run(words, input=request, capture_output=True, check=False)

    def open(self, path: str, flags: int) -> int:
        assert (path, flags) == (pfnlists.PATH, os.O_RDWR)
        if self.missing:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return 3

    def close(self, file: int) -> None:
        assert file == 3

    def write(self, _file: int, request: bytes) -> int:
        self.requests.append(request)
        done = self.run(request, "answer", self.core, self.direct, 4096)
        assert not done.stderr, done.stderr.decode()
        if done.returncode:
            raise OSError(done.returncode, "refused")
        self._records = self.spoil(done.stdout)
        return len(request)

    def read(self, _file: int, size: int) -> bytes:
        part, self._records = self._records[:size], self._records[size:]
        return part


@pytest.fixture(scope="session", params=["6.1", "6.12"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("kernel")
    extract_new_files(
        pfn_lists_series(request.param), (_SOURCE, *_HEADERS, "fs/proc/vmcore_oldmem.h"), folder
    )
    for path in folder.glob("*.[ch]"):
        for header in re.findall(r"^#include <(\S+)>$", path.read_text(), re.M):
            stub = folder / header
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text(f'#include "{SHIM}/kernel.h"\n')
    (folder / "vmcore_pfn_lists.h").rename(folder / "linux/vmcore_pfn_lists.h")
    subprocess.run(
        ["gcc", "-std=gnu11", "-g", "-O1", "-Wall", "-Werror", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=all", f"-I{folder}", "-o", folder / "harness",
         SHIM / "pfn_lists_harness.c"],
        check=True,
    )  # fmt: skip
    return folder / "harness"


@pytest.fixture
def kernel(program: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A crash kernel; it has to boot() yet."""
    made = Kernel(program, monkeypatch)
    monkeypatch.setattr(pfnlists, "os", made)
    return made
