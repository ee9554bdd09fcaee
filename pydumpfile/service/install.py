# SPDX-License-Identifier: GPL-2.0-or-later
"""The hooks by which dracut and initramfs-tools call ``pydumpfile initramfs --tree``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from pydumpfile.errors import OutputError, UsageError

_TEMPLATES = os.path.join(os.path.dirname(__file__), "hooks")


class Hook(NamedTuple):
    """One builder of initramfs images."""

    template: str
    needs: str
    """A folder that is there where the builder is installed."""
    path: str
    """Where the hook goes."""


HOOKS = {
    "dracut": Hook(
        "dracut-module-setup.sh",
        "usr/lib/dracut/modules.d",
        "usr/lib/dracut/modules.d/99pydumpfile/module-setup.sh",
    ),
    "initramfs-tools": Hook(
        "initramfs-tools-hook", "etc/initramfs-tools", "etc/initramfs-tools/hooks/pydumpfile"
    ),
}


def install(builder: str, options: Sequence[str], root: str = "/") -> str:
    """Write the hook for ``builder``, one of :data:`HOOKS`; returns its path.

    :param options: for ``pydumpfile initramfs`` when the hook calls it.
    :raises UsageError: the builder is not installed here.
    :raises OutputError: the hook cannot be written.
    """
    hook = HOOKS[builder]
    if not os.path.isdir(os.path.join(root, hook.needs)):
        raise UsageError(
            f"{builder} is not installed (no {os.path.join(root, hook.needs)}); install it, or use "
            "--cpio and append that file to the crash initramfs"
        )
    with open(os.path.join(_TEMPLATES, hook.template), encoding="utf-8") as file:
        text = file.read()
    command = shlex.join([sys.executable, "-I", "-m", "pydumpfile"])
    text = text.replace("@COMMAND@", command).replace("@OPTIONS@", shlex.join(options))
    path = os.path.join(root, hook.path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)  # noqa: S103  a script, for everyone to read and root to run
    except OSError as error:
        raise OutputError(path, error.errno or 0, "writing the hook") from error
    return path
