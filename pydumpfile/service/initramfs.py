# SPDX-License-Identifier: GPL-2.0-or-later
"""``pydumpfile initramfs``: the capture path put into a crash initramfs, and rehearsed in there."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from pydumpfile import codecs
from pydumpfile.errors import OutputError, UnsupportedError, UsageError
from pydumpfile.service import cpio, specimen, tree
from pydumpfile.service.rehearsal import RehearsalError, rehearse
from pydumpfile.service.sharedobject import examine
from pydumpfile.service.trace import CapturePath, start_process, trace
from pydumpfile.service.tree import Tree

COMPRESSIONS = ("none", "gzip", "zstd")
USUAL_CODECS = ("zlib", "lzo", "zstd")
"""What the kdump services use unless told otherwise. snappy would bring the C++ library along."""

_NO_CODEC = ("none",)
"""Something has to be rehearsed."""
_GZIP_LEVEL = 6
"""As gzip(1) does by itself."""
_STAGE = "rehearsal"
_SHELLS = ("bin/sh", "usr/bin/sh", "bin/bash", "bin/busybox", "usr/bin/bash", "usr/bin/busybox")


class Report(NamedTuple):
    """What was added to an initramfs; sizes in bytes."""

    n_files: int
    unpacked: int
    gzipped: int
    """Of the added files as a cpio archive."""
    written: int
    """Of the file that was written, if one was."""
    shared: tuple[str, ...]
    """Libraries that the initramfs had already."""
    codecs: tuple[str, ...]
    isolated: bool
    """Whether the rehearsal saw the new files only; that takes root."""


def choose_codecs(wanted: Optional[Sequence[str]]) -> tuple[str, ...]:
    """The codecs to take along: those ``wanted``, or if nothing is said the usual ones there are.

    :raises UsageError: there is no such codec.
    :raises UnsupportedError: its library is missing; says which package has it.
    """
    if wanted is None:
        lacking = codecs.available()
        return tuple(name for name in USUAL_CODECS if not lacking[name]) or _NO_CODEC
    if not wanted:
        raise UsageError("no codec is named; none is one, and is always there")
    for name in wanted:
        codecs.make_codec(name)
    return tuple(dict.fromkeys(wanted))


def add_to_tree(
    directory: str, codec_names: Sequence[str], as_makedumpfile: bool, compares: bool = False
) -> Report:
    """Put the capture path into the tree of an initramfs that is being built.

    Nothing is left there if it does not work.

    :param compares: and what `pydumpfile compare` takes.
    :raises UnsupportedError: it cannot work there; says why.
    :raises RehearsalError: it does not work.
    :raises OutputError: the files cannot be written.
    """
    _check_folder(directory)
    capture_path, digests = _trace(codec_names, compares)
    _check_machine(capture_path, directory)
    planned = tree.plan(capture_path, directory)
    isolated = _try_out(planned, directory, codec_names, digests, compares)
    if as_makedumpfile:
        added = tree.alias(planned, directory)
        _write(added, directory)
        planned.files.update(added)
    return _report(planned, codec_names, isolated, 0)


def write_cpio(
    path: str, codec_names: Sequence[str], as_makedumpfile: bool, compression: str = "none",
    compares: bool = False,
) -> Report:  # fmt: skip
    """Write the capture path to the file ``path``, as an archive to append to an initramfs.

    The file is there whole, or not at all. Raises as :func:`add_to_tree`.
    """
    _check_file(path)
    capture_path, digests = _trace(codec_names, compares)
    planned = tree.plan(capture_path)
    with tempfile.TemporaryDirectory(prefix="pydumpfile-") as directory:
        isolated = _try_out(planned, directory, codec_names, digests, compares)
    if as_makedumpfile:
        planned.files.update(tree.alias(planned, None))
    content = _compress(cpio.archive(planned.files), compression)
    _replace(path, content)
    return _report(planned, codec_names, isolated, len(content))


def _trace(codec_names: Iterable[str], compares: bool) -> tuple[CapturePath, Mapping[str, str]]:
    machine = os.uname().machine
    if machine != specimen.MACHINE:
        raise UnsupportedError(f"a crash of this {machine} machine", "only x86_64 is, so far")
    return trace(codec_names, compares)


def _check_folder(directory: str) -> None:
    """Refuse what would have the files land in this system itself."""
    if not os.path.isdir(directory):
        raise UsageError(f"{directory} is not a folder")
    if os.path.samefile(directory, "/"):
        raise UsageError(f"{directory} is this system's root, not an initramfs that is being built")
    for name in (tree.HOME, tree.LAUNCHER):
        if not tree.stays_inside(os.path.join(directory, name), directory):
            raise UsageError(f"{directory}/{name} would be outside of {directory}, by a link there")


def _check_file(path: str) -> None:
    """Refuse to put a file in the place of a device such as /dev/null."""
    if os.path.lexists(path) and not os.path.isfile(path):
        raise UsageError(f"{path} is there, and no file")


def _check_machine(capture_path: CapturePath, directory: str) -> None:
    """Refuse a tree whose programs are for another machine than the interpreter."""
    with open(capture_path.interpreter, "rb") as file:
        ours = examine(file.read())
    for name in _SHELLS:
        path = os.path.join(directory, name)
        if os.path.isfile(path) and tree.stays_inside(path, directory):
            with open(path, "rb") as file:
                theirs = examine(file.read())
            if ours and theirs and ours.machine != theirs.machine:
                raise UnsupportedError(
                    f"{directory}, whose /{name} is for {theirs.machine}, with a Python for "
                    f"{ours.machine}",
                    "run pydumpfile on a machine of the kind that is to be dumped",
                )


def _try_out(
    planned: Tree, directory: str, codec_names: Iterable[str], digests: Mapping[str, str],
    compares: bool,
) -> bool:  # fmt: skip
    """Write the files to ``directory`` and rehearse there; returns whether in isolation."""
    isolated = os.geteuid() == 0
    root, prefix = (directory, "") if isolated else ("/", os.path.abspath(directory))
    stage = f"{tree.HOME}/{_STAGE}"

    def run(program: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        return start_process([*planned.command(program, prefix), *arguments], root)

    tree.remove(directory)
    try:
        _write(planned.files, directory)
        os.mkdir(os.path.join(directory, stage))
        inside = os.path.join(directory, stage)
        found = rehearse(run, inside, codec_names, f"{prefix}/{stage}", compares)
        if found != digests:
            raise RehearsalError("rehearsal: the dumps are not those made outside of the tree")
    except RehearsalError as error:
        tree.remove(directory)
        raise error.within(f"in {directory}") from error
    except BaseException:
        tree.remove(directory)
        raise
    shutil.rmtree(os.path.join(directory, stage))
    return isolated


def _write(files: tree.Files, directory: str) -> None:
    try:
        tree.write(files, directory)
    except OSError as error:
        raise OutputError(directory, error.errno or 0, "writing the initramfs") from error


def _compress(content: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip.compress(content, _GZIP_LEVEL, mtime=0)
    if compression == "zstd":
        try:
            done = subprocess.run(
                ["zstd", "-19", "-q", "-c"], input=content, check=True, stdout=subprocess.PIPE
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise UnsupportedError(f"zstd here ({error})", "install zstd, or use gzip") from error
        return done.stdout
    return content


def _replace(path: str, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        fd, scratch = tempfile.mkstemp(dir=folder, prefix=".pydumpfile-")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)
            os.chmod(scratch, 0o644)
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise OutputError(path, error.errno or 0, "writing the archive") from error


def _report(planned: Tree, codec_names: Sequence[str], isolated: bool, written: int) -> Report:
    return Report(
        n_files=len(planned.files),
        unpacked=planned.size,
        gzipped=len(_compress(cpio.archive(planned.files), "gzip")),
        written=written,
        shared=tuple(sorted(planned.shared)),
        codecs=tuple(codec_names),
        isolated=isolated,
    )
