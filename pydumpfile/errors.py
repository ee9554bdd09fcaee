# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that can go wrong, as one hierarchy with typed fields and an exit code each.

A message says what was found, what was expected, where, and what to do about it. Whoever knows more
about the circumstances prepends it (``error.within("reading mem_map")`` gives ``reading mem_map:
...``) and lets the same exception travel on: a caller can still ask for its type and fields.

Exit code 2 is that of makedumpfile for a vmcoreinfo file of another release; nothing else has it.
"""

from __future__ import annotations

import os
from errno import EDQUOT, EFBIG, ENOSPC
from typing import Optional, TypeVar

_Self = TypeVar("_Self", bound="PydumpfileError")


class PydumpfileError(Exception):
    """The root: catch this to catch everything pydumpfile raises on purpose."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def within(self: _Self, circumstance: str) -> _Self:
        """Prepend what was being done; returns the same error for ``raise error.within(...)``."""
        self.message = f"{circumstance}: {self.message}"
        return self


class UsageError(PydumpfileError):
    """The request itself is wrong: nothing was read or written."""

    exit_code = 1


class FormatError(PydumpfileError):
    """A file's bytes are not what its format demands at file offset ``off``."""

    exit_code = 3

    def __init__(self, path: str, off: int, expected: str, got: str, advice: str = "") -> None:
        super().__init__(
            f"{path}: at file offset {off:#x}: expected {expected}, found {got}"
            + (f"; {advice}" if advice else "")
        )
        self.path = path
        self.off = off
        self.expected = expected
        self.got = got


class TruncatedError(FormatError):
    """The file ends before the bytes its own headers promise."""

    exit_code = 4


class UnsupportedError(PydumpfileError):
    """A valid input or request that pydumpfile cannot handle (yet)."""

    exit_code = 5

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what} is not supported" + (f"; {advice}" if advice else ""))
        self.what = what


class MissingFactError(PydumpfileError):
    """The dead kernel's description does not say something that is needed."""

    exit_code = 6

    def __init__(self, name: str, looked_in: str, advice: str = "") -> None:
        super().__init__(
            f"the kernel's description lacks {name} (looked in {looked_in})"
            + (f"; {advice}" if advice else "")
        )
        self.name = name
        self.looked_in = looked_in


class MismatchError(PydumpfileError):
    """A description given with ``-x`` or ``-i`` is of another kernel than the core."""

    exit_code = 2

    def __init__(self, what: str, given: str, place: str, found: str, core: str) -> None:
        super().__init__(
            f"{place} is of another kernel than {core}: the {what} is {given} there, but {found} "
            "in the core; give the description of just the kernel that crashed"
        )
        self.what = what
        self.given = given
        self.found = found


class FaultError(PydumpfileError):
    """Memory of the dead kernel cannot be read at ``address`` of ``space``."""

    exit_code = 7

    def __init__(self, address: int, space: str, why: str = "cannot be read") -> None:
        super().__init__(f"{space} address {address:#x} {why}")
        self.address = address
        self.space = space


class NotInDumpError(FaultError):
    """The file holds no bytes for the address: a hole, or filtered out earlier."""

    exit_code = 8

    def __init__(self, address: int, space: str = "physical") -> None:
        super().__init__(address, space, "is not in the dump")


class PageTableError(FaultError):
    """The dead kernel's page tables do not map the address."""

    exit_code = 9

    def __init__(self, address: int, level: int, entry: int) -> None:
        super().__init__(
            address, "virtual", f"is not mapped: the level-{level} page-table entry is {entry:#x}"
        )
        self.level = level
        self.entry = entry


class OutputError(PydumpfileError):
    """The dump cannot be written; ``errno`` is the operating system's reason."""

    exit_code = 10

    def __init__(self, path: str, errno: int, doing: str, advice: str = "") -> None:
        super().__init__(
            f"{path}: {doing}: {os.strerror(errno)}" + (f"; {advice}" if advice else "")
        )
        self.path = path
        self.errno = errno

    @property
    def reason(self) -> str:
        """Why, without where."""
        return os.strerror(self.errno)

    @property
    def lacks_space(self) -> bool:
        """Whether a smaller dump may fit."""
        return self.errno in (ENOSPC, EDQUOT, EFBIG)


class SizeLimitError(OutputError):
    """The dump would be larger than it may be (``-L``); as if there were no more space."""

    def __init__(self, path: str, size_limit: int) -> None:
        super().__init__(path, EFBIG, "writing the dump")
        self.size_limit = size_limit
        self.message = f"{path}: the dump does not fit into the {size_limit} bytes of -L"

    @property
    def reason(self) -> str:
        return f"Size limit({self.size_limit}) reached."


class NativeError(PydumpfileError):
    """A C function was handed something it refuses: a bug in pydumpfile, never bad input."""

    exit_code = 11

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"{function}() returned {status}; please report this")
        self.function = function
        self.status = status


class OutOfMemoryError(PydumpfileError):
    """There is less memory than it takes, even with as few threads as were tried."""

    exit_code = 13

    def __init__(self, what: str, advice: str = "") -> None:
        """``what`` is the first that there was no memory for."""
        super().__init__(
            "out of memory"
            + (f": {what}" if what else "")
            + "; one thread takes least (--num-threads 1)"
            + (f"; {advice}" if advice else "")
        )
        self.what = what


class InputError(PydumpfileError):
    """The input cannot be opened or read; ``errno`` is the operating system's reason."""

    exit_code = 12

    def __init__(self, path: str, errno: Optional[int], doing: str, advice: str = "") -> None:
        reason = os.strerror(errno) if errno is not None else "failed"
        super().__init__(f"{path}: {doing}: {reason}" + (f"; {advice}" if advice else ""))
        self.path = path
        self.errno = errno
