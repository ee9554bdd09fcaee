# SPDX-License-Identifier: GPL-2.0-or-later
"""``-x``, ``-i``, ``-g``: a kernel described by more than its own core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from pydumpfile.cli.console import Console
from pydumpfile.cli.options import Options
from pydumpfile.errors import MissingFactError
from pydumpfile.kernel.vmcore import Vmcore

if TYPE_CHECKING:
    from pydumpfile.kernel.description import Description


def open_vmcore(options: Options, console: Console) -> Vmcore:
    """VMCORE with the description that goes with it, if any; what contradicts it is told."""
    vmcore = Vmcore.open(options.inputs, options.use_mmap, _description(options))
    path, missing = vmcore.source.path, vmcore.source.missing.total
    if missing:
        console.warn(f"{path} was cut short: {missing} bytes of memory are missing at its end")
    if vmcore.source.lacks_end_mark:
        console.warn(f"{path} has no end mark: it was cut off, and nobody knows what is missing")
    for contradiction in vmcore.contradictions:
        console.warn(str(contradiction))
    return vmcore


def make_vmcoreinfo(options: Options, console: Console) -> int:
    """The VMLINUX of ``-x`` to the file of ``-g``."""
    from pydumpfile.kernel.description import write_description  # noqa: PLC0415

    description = _description(options)
    assert description is not None, "-g only goes with -x"
    if not description.release:
        raise MissingFactError(
            "OSRELEASE", description.place,
            "it is a file with debugging information alone; give the whole vmlinux",
        )  # fmt: skip
    write_description(description, options.make_vmcoreinfo, options.vmlinux)
    console.say(f"The vmcoreinfo is saved to {options.make_vmcoreinfo}.")
    return 0


def _description(options: Options) -> Optional[Description]:
    if not (options.vmlinux or options.vmcoreinfo_file):
        return None
    from pydumpfile.kernel.description import description_in  # noqa: PLC0415

    return description_in(options.vmlinux, options.vmcoreinfo_file)
