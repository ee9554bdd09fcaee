# SPDX-License-Identifier: GPL-2.0-or-later
"""One moment of one guest, dumped by QEMU in every format that its dump-guest-memory knows.

The guest stands still meanwhile and never goes on, so all files have the same memory. Nothing of
this is cached.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from .guest import Guest
from .kernels import fetch, resolve
from .qemu import Machine, Monitor

PAGING = "elf-paging"
_TIMEOUT_SECONDS = 900.0


class _AllWrittenError(Exception):
    """The guest is not needed any more."""


def dump_in_all_formats(guest: Guest, directory: Path) -> dict[str, Path]:
    """Boot `guest` in `directory`, which must not exist; the dumps by QEMU's names of the formats.

    `PAGING` is the ELF core by the guest's page tables. Raises LabError if the guest did not get
    as far as its panic.
    """
    kernel = fetch(resolve(guest.kernel))
    directory.mkdir(parents=True)
    guest.make_disks(kernel, directory)
    (directory / "initrd").write_bytes(guest.initrd(kernel))
    dumps: dict[str, Path] = {}

    def dump(monitor: Monitor, _: list[str]) -> None:
        monitor.execute("stop")
        for name in monitor.execute("query-dump-guest-memory-capability")["formats"]:
            if not name.startswith("win-"):
                dumps[name] = directory / name
                _dump(monitor, dumps[name], paging=False, format=name)
        dumps[PAGING] = directory / PAGING
        _dump(monitor, dumps[PAGING], paging=True)
        raise _AllWrittenError

    def balloon(monitor: Monitor, words: list[str]) -> None:
        monitor.inflate_balloon(int(words[0]))

    answers = {"balloon": balloon, "dump": dump}
    machine = Machine(guest.qemu_arguments(kernel, directory), directory, answers)
    with contextlib.suppress(_AllWrittenError):
        machine.run(_TIMEOUT_SECONDS)
    return dumps


def _dump(monitor: Monitor, path: Path, **how: object) -> None:
    monitor.execute("dump-guest-memory", protocol=f"file:{path}", **how)
