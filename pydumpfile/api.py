# SPDX-License-Identifier: GPL-2.0-or-later
"""The library's functions, which :mod:`pydumpfile` exports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Optional, Union

from pydumpfile.budget import affordable_threads, look_around
from pydumpfile.codecs import AUTO
from pydumpfile.dump import Statistics, dump_vmcore
from pydumpfile.errors import UsageError
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.level import Level
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.progress import Progress
from pydumpfile.sinks import Target

Path = Union[str, "os.PathLike[str]"]


def open(  # noqa: A001  as gzip.open and tarfile.open
    path: Union[Path, Sequence[Path]],
    *,
    vmlinux: Optional[Path] = None,
    vmcoreinfo: Optional[Path] = None,
) -> Vmcore:
    """Open the memory image at ``path``: /proc/vmcore, a copy of it, QEMU's dump, or a dump.

    :param path: a file; or several, which are all parts of one split dump, in any order.
    :param vmlinux: the kernel with its debugging information, which adds what VMCOREINFO lacks, or
        takes its place where there is none.
    :param vmcoreinfo: the same in a file that ``-g`` has made.
    :raises InputError: it cannot be opened or read.
    :raises FormatError: it is no memory image, or a damaged one (TruncatedError: a cut one).
    :raises UnsupportedError: it is one that pydumpfile does not read.
    :raises MismatchError: what describes the kernel is of another one.
    :raises UsageError: several files that are not the parts of one dump, or not all of them.
    """
    paths = _names(path)
    if vmlinux is None and vmcoreinfo is None:
        return Vmcore.open(paths)
    from pydumpfile.kernel.description import description_in  # noqa: PLC0415

    given = description_in(os.fspath(vmlinux or ""), os.fspath(vmcoreinfo or ""))
    return Vmcore.open(paths, given=given)


def _names(given: Union[Path, Sequence[Path]]) -> tuple[str, ...]:
    """One file or several, as names."""
    paths = (given,) if isinstance(given, (str, os.PathLike)) else given
    return tuple(os.fspath(path) for path in paths)


def dump(
    source: Union[Path, Sequence[Path], Vmcore],
    target: Union[Path, Sequence[Path]],
    level: int = 31,
    compression: str = "zstd",
    progress: Optional[Progress] = None,
    *,
    overwrite: bool = False,
    n_threads: Optional[int] = None,
    max_rss: Optional[int] = None,
    flattened: bool = False,
    compression_level: Optional[int] = None,
    without_unused_mem_map: bool = False,
    size_limit: Optional[int] = None,
    dry_run: bool = False,
    splitblock_size: int = 1 << 30,
    filter_in: str = "user",
) -> Statistics:
    """Write a kdump-compressed dump of ``source`` to the file ``target``.

    :param source: a memory image, as :func:`open` takes it, or one that is open.
    :param target: a file; or several, each of which gets a part of the dump. What
        :func:`pydumpfile.reassemble.reassemble` makes of those is the same as one file.
    :param level: which pages to leave out, as bits of :class:`Level`: 0 none, 31 all that can be.
    :param compression: ``"zstd"``, ``"zlib"``, ``"lzo"``, ``"snappy"`` or ``"none"``;
        ``"auto"`` measures which of them is done soonest.
    :param progress: called with the name of the step, pages done and pages in all, ten times a
        second at most.
    :param overwrite: replace ``target`` if it exists; otherwise that is an OutputError.
    :param n_threads: threads that read and compress; the dump is the same for any number. Each
        costs about 11 MiB. None: as many as there are CPUs, within 64 MiB.
    :param max_rss: bytes of memory for the whole process; lowers the number of threads.
    :param flattened: write the stream that ``-F`` gives; :mod:`pydumpfile.rearrange` reads it.
    :param compression_level: how hard to compress, in the codec's own numbers; not with ``"auto"``.
    :param without_unused_mem_map: leave out as well the struct pages that only describe pages left
        out.
    :param size_limit: bytes that the dump, or each of its parts, may have; else it is a
        SizeLimitError.
    :param dry_run: write nothing, only count; ``target`` is not touched.
    :param splitblock_size: bytes of memory of which multiples the parts end at.
    :param filter_in: where pages are judged; the dump is the same. ``"user"``, ``"kernel"``, of
        which that is demanded, or ``"auto"``: in the kernel as long as it can.
    :return: what became of the pages.
    :raises PydumpfileError: one of its kinds. ``target`` is only created once the source was found
        to be good, and says that it is incomplete until it is not.
    """
    paths = _names(target)
    if flattened and len(paths) > 1:
        raise UsageError("the parts of a dump cannot be flattened")
    if compression == AUTO and compression_level is not None:
        raise UsageError("a compression level is in the numbers of one codec, auto may take any")
    where = Target(
        paths[0], overwrite, flattened, size_limit=size_limit, dry_run=dry_run,
        parts=paths if len(paths) > 1 else (), splitblock_size=splitblock_size,
    )  # fmt: skip
    threads = affordable_threads(look_around(), n_threads, max_rss)
    with ExitStack() as stack:
        vmcore = source if isinstance(source, Vmcore) else stack.enter_context(open(source))
        if compression == AUTO:
            from pydumpfile.codec_choice import choose_codec  # noqa: PLC0415

            compression = choose_codec(vmcore, where, threads).codec
        return dump_vmcore(
            vmcore, where, Level.of(level), compression, progress, threads, compression_level,
            without_unused_mem_map=without_unused_mem_map, filter_in=FilterIn.of(filter_in),
        )  # fmt: skip


def dump_elf(
    source: Union[Path, Vmcore],
    target: Path,
    level: int = 31,
    progress: Optional[Progress] = None,
    *,
    overwrite: bool = False,
    flattened: bool = False,
    size_limit: Optional[int] = None,
    dry_run: bool = False,
    filter_in: str = "user",
) -> Statistics:
    """Write an ELF core of ``source``, which has to be one itself, to the file ``target``.

    Pages left out are holes, or zeros where there are too few of them for a hole. For parameters
    and errors see :func:`dump`; what is no ELF core is an UnsupportedError.
    """
    from pydumpfile import elfdump  # noqa: PLC0415

    where = Target(os.fspath(target), overwrite, flattened, size_limit=size_limit, dry_run=dry_run)
    with ExitStack() as stack:
        vmcore = source if isinstance(source, Vmcore) else stack.enter_context(open(source))
        return elfdump.dump_elf(
            vmcore, where, Level.of(level), progress, filter_in=FilterIn.of(filter_in)
        )
