# SPDX-License-Identifier: GPL-2.0-or-later
"""What a name leads to that is no regular file, in words, for those who refuse it."""

from __future__ import annotations

import os
import stat
from typing import Union

DIRECTORY = "a directory"
CHARACTER_DEVICE = "a character device"
PIPE = "a pipe"
_KINDS = {
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: CHARACTER_DEVICE,
    stat.S_IFIFO: PIPE,
    stat.S_IFSOCK: "a socket",
}


def other_kind(file: Union[str, int]) -> str:
    """:data:`PIPE` or the like; empty if ``file`` is regular, or not there.

    :param file: a path, which is not opened: of some devices and pipes that alone does something,
        or waits. Or a descriptor.
    """
    try:
        kind = stat.S_IFMT(os.stat(file).st_mode)
    except OSError:
        return ""
    return _KINDS.get(kind, "")
