# SPDX-License-Identifier: GPL-2.0-or-later
"""The capture path as files of an initramfs.

    usr/bin/pydumpfile                    a shell script of one command
    usr/lib/pydumpfile/bin/pydumpfile     ld.so, by the name that ps and the OOM killer shall show
    usr/lib/pydumpfile/bin/python3        the interpreter
    usr/lib/pydumpfile/libraries/         shared libraries by the names they are asked for
    usr/lib/pydumpfile/lib/python311.zip  the modules, compiled, stored
    usr/lib/pydumpfile/lib/python3.11/    what cannot be in a zip: extension modules and packages
                                          with some in them; os.pyc, by which Python knows its home

The names below lib/ are the interpreter's own, relative to where it is installed. Nothing outside
is needed but a shell, and nothing outside is replaced, whatever C library the initramfs has; a
library that is there already and is the same, byte for byte, is shared.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import marshal
import os
import shutil
import zipfile
from collections.abc import Mapping
from typing import Optional

from pydumpfile.errors import UnsupportedError
from pydumpfile.service import cpio
from pydumpfile.service.sharedobject import examine
from pydumpfile.service.trace import INTERPRETER_OPTIONS, START, CapturePath, Module

HOME = "usr/lib/pydumpfile"
LAUNCHER = "usr/bin/pydumpfile"
ALIAS = "makedumpfile"
_ALIAS_FOLDERS = ("usr/bin", "usr/sbin", "bin", "sbin")
_LOADER = f"{HOME}/bin/pydumpfile"
_INTERPRETER = f"{HOME}/bin/python3"
_LIBRARIES = f"{HOME}/libraries"
_LANDMARK = "os"
_ALWAYS = (
    "encodings.ascii", "encodings.latin_1", "select",
    "pydumpfile.rearrange", "pydumpfile.formats.incomplete",
)  # fmt: skip
"""What another locale takes than that of the rehearsal, a pipe that does not block, and ``-R``."""
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can tell
_UNCHECKED_HASH = 0b01  # of a .pyc: valid whatever the source says, PEP 552

Files = dict[str, cpio.Entry]


class Tree:
    """What is to be added to one initramfs."""

    def __init__(self, files: Files, shared: Mapping[str, str]) -> None:
        self.files = files
        """By name from the root, without a slash in front."""
        self.shared = shared
        """Libraries that the initramfs has already: name -> folder in the initramfs."""

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return sum(len(entry.content) for entry in self.files.values())

    def command(self, program: str, prefix: str = "") -> list[str]:
        """What the launcher runs, if the tree is at ``prefix``."""
        return [*_command(self.shared, prefix), program]


def plan(capture_path: CapturePath, initramfs: Optional[str] = None) -> Tree:
    """Make the files.

    :param initramfs: the tree they are for, to share libraries with; none if it is not known.
    :raises UnsupportedError: this interpreter cannot be taken along.
    """
    files: Files = {}
    shared = _add_libraries(files, capture_path, initramfs)
    files[_INTERPRETER] = _program(capture_path.interpreter)
    _add_modules(files, capture_path)
    files[LAUNCHER] = cpio.Entry.file(_script(shared).encode(), 0o755)
    return Tree(files, shared)


def alias(tree: Tree, initramfs: Optional[str]) -> Files:
    """The launcher as makedumpfile, also in place of each that ``initramfs`` has."""
    names = {f"{_ALIAS_FOLDERS[0]}/{ALIAS}"}
    if initramfs is not None:
        for name in (f"{folder}/{ALIAS}" for folder in _ALIAS_FOLDERS):
            path = os.path.join(initramfs, name)
            if os.path.lexists(path) and stays_inside(path, initramfs):
                names.add(name)
    return dict.fromkeys(sorted(names), tree.files[LAUNCHER])


def write(files: Files, directory: str) -> None:
    """Put ``files`` into ``directory``, in place of what is there under their names.

    :raises OSError: that cannot be done.
    """
    for name, entry in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):  # perhaps a link to elsewhere: never write through it
            os.unlink(path)
        with open(path, "wb") as file:
            file.write(entry.content)
        os.chmod(path, entry.mode & 0o777)


def remove(directory: str) -> None:
    """Take the capture path, of this run or an earlier one, out of ``directory`` again."""
    shutil.rmtree(os.path.join(directory, HOME), ignore_errors=True)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(os.path.join(directory, LAUNCHER))


def _command(shared: Mapping[str, str], prefix: str) -> list[str]:
    folders = dict.fromkeys([_LIBRARIES, *sorted(shared.values())])
    return [
        f"{prefix}/{_LOADER}",
        "--inhibit-cache",
        "--library-path",
        ":".join(f"{prefix}/{folder}" for folder in folders),
        f"{prefix}/{_INTERPRETER}",
        *INTERPRETER_OPTIONS,
        "-c",
        START,
    ]


def _script(shared: Mapping[str, str]) -> str:
    words = [f"'{word}'" if " " in word else word for word in _command(shared, "")]
    return (
        "#!/bin/sh\n"
        "# Made by `pydumpfile initramfs`: starts what is in /usr/lib/pydumpfile.\n"
        f'exec {" ".join(words)} "$0" "$@"\n'
    )


def _program(path: str) -> cpio.Entry:
    with open(path, "rb") as file:
        return cpio.Entry.file(file.read(), 0o755)


def _add_libraries(
    files: Files, capture_path: CapturePath, initramfs: Optional[str]
) -> dict[str, str]:
    """Add ld.so and the libraries that the initramfs does not have; returns those it has."""
    with open(capture_path.interpreter, "rb") as file:
        program = examine(file.read())
    if program is None:
        raise UnsupportedError(f"{capture_path.interpreter}, which is not an ELF program",
                               "run pydumpfile with the distribution's Python")  # fmt: skip
    if program.interpreter is None:
        raise UnsupportedError(
            f"a statically linked Python ({capture_path.interpreter})",
            "it cannot load extension modules; run pydumpfile with the distribution's Python",
        )
    loader = os.path.realpath(program.interpreter)
    if "musl" in os.path.basename(program.interpreter):
        raise UnsupportedError("a Python linked with musl", "run one that is linked with glibc")
    files[_LOADER] = _program(loader)
    shared: dict[str, str] = {}
    for path in capture_path.libraries:
        entry = _program(path)
        said = examine(entry.content)
        name = (said and said.soname) or os.path.basename(path)
        folder = os.path.dirname(path).lstrip("/")
        if initramfs and _has(initramfs, f"{folder}/{name}", entry.content):
            shared[name] = folder
        elif os.path.realpath(path) != loader:
            files[f"{_LIBRARIES}/{name}"] = entry
    return shared


def stays_inside(path: str, directory: str) -> bool:
    """Whether the folder of ``path`` really is one below ``directory``, and not of this system."""
    root = os.path.realpath(directory)
    return os.path.realpath(os.path.dirname(path)).startswith(root + os.sep)


def _has(initramfs: str, name: str, content: bytes) -> bool:
    """Whether the initramfs has a file ``name`` with that ``content``."""
    path = os.path.realpath(os.path.join(initramfs, name))
    if not path.startswith(os.path.realpath(initramfs) + os.sep):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(len(content) + 1) == content
    except OSError:
        return False


def _add_modules(files: Files, capture_path: CapturePath) -> None:
    archive, library, extensions = (f"{HOME}/{place}" for place in _places(capture_path))
    modules = {module.name: module for module in capture_path.modules}
    for name in (_LANDMARK, *_ALWAYS):
        module = modules.get(name) or _find(name)
        if module:
            modules[name] = module
    # A package in a zip cannot have extension modules in it.
    unzipped = {m.name.partition(".")[0] for m in modules.values() if m.is_extension}
    zipped: dict[str, bytes] = {}
    for name, module in sorted(modules.items()):
        top = name.partition(".")[0]
        parts = name.split(".")
        if module.is_extension:
            parts[-1] = os.path.basename(module.path)
            folder = extensions if len(parts) == 1 else library
            files["/".join((folder, *parts))] = _program(module.path)
            continue
        if module.is_package:
            parts.append("__init__")
        relative = "/".join(parts) + ".pyc"
        if top in unzipped or name == _LANDMARK:
            files[f"{library}/{relative}"] = cpio.Entry.file(_compiled(module))
        else:
            zipped[relative] = _compiled(module)
    files[archive] = cpio.Entry.file(_stored_zip(zipped))


def _places(capture_path: CapturePath) -> list[str]:
    """Where the interpreter looks, relative to where it is installed: zip, library, extensions."""
    places = [
        os.path.relpath(place, capture_path.prefix)
        for place in capture_path.standard
        if place.startswith(capture_path.prefix.rstrip("/") + "/")
    ]
    if len(places) != 3 or not places[0].endswith(".zip"):
        raise UnsupportedError(
            f"a Python that looks for its modules in {', '.join(capture_path.standard)}",
            "run pydumpfile with the distribution's Python",
        )
    return places


def _find(name: str) -> Optional[Module]:
    """A module that was not traced; None if it is built in."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise UnsupportedError(f"a Python without {name}", "run the distribution's Python")
    # A frozen module knows its file as well, since Python 3.11.
    path = spec.origin if spec.has_location else getattr(spec.loader_state, "filename", None)
    return Module(name, path, False) if path else None


def _compiled(module: Module) -> bytes:
    """The module as .pyc: what it says is where it lies in its package, not on this system."""
    if module.path.endswith(".pyc"):
        with open(module.path, "rb") as file:
            return file.read()
    with open(module.path, "rb") as file:
        source = file.read()
    shown = module.name.replace(".", "/") + ("/__init__.py" if module.is_package else ".py")
    code = compile(source, shown, "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    return header + importlib.util.source_hash(source) + marshal.dumps(code)


def _stored_zip(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(contents.items()):
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), content)
    return buffer.getvalue()
