# SPDX-License-Identifier: GPL-2.0-or-later
"""``--help``, from the table of options."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pydumpfile.cli.options import OPTIONS, Option

_HEAD = """\
usage: pydumpfile [-c|-l|-p|-z] [-d LEVEL] [options] VMCORE DUMPFILE
       pydumpfile [-c|-l|-p|-z] [-d LEVEL] [options] -F VMCORE > STREAM
       pydumpfile [options] -R DUMPFILE < STREAM
       pydumpfile [-c|-l|-p|-z] [-d LEVEL] [options] --split VMCORE DUMPFILE...
       pydumpfile [options] --reassemble PART... DUMPFILE
       pydumpfile [options] --dump-dmesg VMCORE LOGFILE
       pydumpfile [options] --mem-usage /proc/kcore
       pydumpfile -g FILE -x VMLINUX
       pydumpfile doctor | initramfs | compare [--help]

Copies the memory of a crashed Linux kernel, without the pages nobody needs, into
a compressed dump that crash, drgn and libkdumpfile open.

  VMCORE    /proc/vmcore, a copy of it, what QEMU dumped, or a dump; of a split one all PARTs
  DUMPFILE  the dump to write: a new file, mode 0600

options:
"""

_TAIL = """
dump levels (add them up; 31 leaves out all that can be):
   1  pages of zeros              8  user data
   2  page cache, not private    16  free pages
   4  page cache, all

message levels (add them up; 7 if not given):
   1  progress     2  messages and the final table     4  errors     8  details
  16  makedumpfile's report

examples:
  pydumpfile -d 31 -z /proc/vmcore /var/crash/dump     the usual thing, in a crash kernel
  pydumpfile -d 1 -c vmcore dump                       all but zero pages, readable anywhere
  pydumpfile -d 31 -z -F /proc/vmcore | ssh host 'cat > stream'

exit status: 0 a complete dump, anything else not:
   1  wrong use, or stopped          4  the image is cut short      6  kernel not described
   2  -x, -i: of another kernel      5  not supported          7,8,9  memory cannot be read
   3  not a memory image
  10  the dump cannot be written    11  a bug in pydumpfile        12  the image cannot be read
  13  out of memory
Called as makedumpfile it is 0, 1 or 2. A dump that could not be finished, or lacks pages that could
not be read (7), is kept and marked incomplete; crash and drgn open it all the same."""

_WIDTH = 98
_COLUMN = 26


def help_text() -> str:
    """All of it."""
    return _HEAD + "\n".join(_lines()) + "\n" + _TAIL


def _lines() -> Iterator[str]:
    for option in OPTIONS:
        if option.help:
            left = f"  {_spelled(option):<{_COLUMN - 4}}  "
            yield from textwrap.wrap(
                left + option.help, _WIDTH, subsequent_indent=" " * _COLUMN, drop_whitespace=False
            )


def _spelled(option: Option) -> str:
    flags = ", ".join(option.flags.split())
    return f"{flags} {option.metavar}".rstrip()
