# SPDX-License-Identifier: GPL-2.0-or-later
"""pydumpfile: reads the memory of a crashed Linux kernel, and writes what matters of it as a dump.

    import pydumpfile

    with pydumpfile.open("/proc/vmcore") as vmcore:
        print(vmcore.utsname, vmcore.mem_map.model)

    statistics = pydumpfile.dump("/proc/vmcore", "/var/crash/dump", level=31)
    print(statistics.kept, "of", statistics.existing, "pages kept")

Everything it raises on purpose is a :class:`PydumpfileError`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from pydumpfile._version import VERSION as __version__

TYPE_CHECKING = False  # as type checkers know it; typing itself takes time to load
if TYPE_CHECKING:
    from pydumpfile import errors
    from pydumpfile.api import dump, dump_elf, open  # noqa: A004  as gzip.open
    from pydumpfile.dump import Statistics
    from pydumpfile.errors import PydumpfileError
    from pydumpfile.filter.level import Kind, Level
    from pydumpfile.kernel.vmcore import Vmcore
    from pydumpfile.progress import Progress

__all__ = [
    "Kind",
    "Level",
    "Progress",
    "PydumpfileError",
    "Statistics",
    "Vmcore",
    "__version__",
    "dump",
    "dump_elf",
    "errors",
    "open",
]

_HOMES = {
    "Kind": "filter.level",
    "Level": "filter.level",
    "Progress": "progress",
    "PydumpfileError": "errors",
    "Statistics": "dump",
    "Vmcore": "kernel.vmcore",
    "dump": "api",
    "dump_elf": "api",
    "errors": "",
    "open": "api",
}
"""Where what is exported comes from, once it is asked for.

Not before: the command has to be there before anything that takes time to load, since a signal may
come meanwhile.
"""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _HOMES[name]:
        return import_module(f"{__name__}.{name}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """In which ``dump`` is the function; Python sets it to the module once that is loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "dump" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
