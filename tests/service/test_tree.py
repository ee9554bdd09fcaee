# SPDX-License-Identifier: GPL-2.0-or-later
"""The capture path as files: what is taken along, what is shared, what is refused."""

from __future__ import annotations

import io
import marshal
import os
import zipfile
from pathlib import Path

import pytest

from pydumpfile.errors import UnsupportedError
from pydumpfile.service import tree
from pydumpfile.service.sharedobject import examine
from pydumpfile.service.trace import CapturePath, Module
from tests.service.conftest import Traced


@pytest.fixture(scope="module")
def planned(traced: Traced) -> tree.Tree:
    return tree.plan(traced.path)


def _zip(planned: tree.Tree) -> zipfile.ZipFile:
    (name,) = (name for name in planned.files if name.endswith(".zip"))
    return zipfile.ZipFile(io.BytesIO(planned.files[name].content))


def test_only_what_a_dump_uses_was_traced(traced: Traced) -> None:
    names = {module.name for module in traced.path.modules}
    assert {"pydumpfile.dump", "pydumpfile.filter.native", "_cffi_backend", "struct"} <= names
    for heavy in ("argparse", "tqdm", "elftools", "inspect", "dataclasses", "json", "zipfile"):
        assert heavy not in names
    assert not any(name.startswith("pydumpfile.service") for name in names)


def test_libraries_opened_at_run_time_were_seen(traced: Traced) -> None:
    names = " ".join(map(os.path.basename, traced.path.libraries))
    assert "libz" in names or "libdeflate" in names
    assert "libc.so" in names
    assert "libzstd" not in names, "nobody chose zstd"
    assert "snappy" not in names


def test_everything_lies_in_one_folder_but_the_launcher(planned: tree.Tree) -> None:
    outside = {name for name in planned.files if not name.startswith("usr/lib/pydumpfile/")}
    assert outside == {"usr/bin/pydumpfile"}


def test_libraries_have_the_names_they_are_asked_for(planned: tree.Tree) -> None:
    libraries = {n: e for n, e in planned.files.items() if "/libraries/" in n}
    assert "usr/lib/pydumpfile/libraries/libc.so.6" in libraries
    for name, entry in libraries.items():
        said = examine(entry.content)
        assert said is not None
        assert said.soname == os.path.basename(name)


def test_modules_are_compiled_stored_and_of_no_time_or_place(planned: tree.Tree) -> None:
    archive = _zip(planned)
    assert archive.namelist() == sorted(archive.namelist())
    for info in archive.infolist():
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        code = marshal.loads(archive.read(info)[16:])
        assert code.co_filename == info.filename.replace(".pyc", ".py")


def test_a_package_with_an_extension_is_not_in_the_zip(planned: tree.Tree) -> None:
    assert not [name for name in _zip(planned).namelist() if name.startswith("pydumpfile")]
    names = {name.split("/pydumpfile/")[-1] for name in planned.files}
    assert {"__init__.pyc", "cli/__init__.pyc", "_pagescan.abi3.so"} <= names


def test_the_same_files_every_time(traced: Traced, planned: tree.Tree) -> None:
    assert tree.plan(traced.path).files == planned.files


def test_a_library_that_is_there_is_shared(traced: Traced, tmp_path: Path) -> None:
    (libc,) = (path for path in traced.path.libraries if "libc.so" in os.path.basename(path))
    there = tmp_path / libc.lstrip("/")
    there.parent.mkdir(parents=True)
    there.write_bytes(Path(libc).read_bytes())
    planned = tree.plan(traced.path, str(tmp_path))
    assert planned.shared == {"libc.so.6": os.path.dirname(libc).lstrip("/")}
    assert "usr/lib/pydumpfile/libraries/libc.so.6" not in planned.files
    assert f":{os.path.dirname(libc)} " in planned.files[tree.LAUNCHER].content.decode()

    there.write_bytes(Path(libc).read_bytes()[:-1] + b"?")
    assert tree.plan(traced.path, str(tmp_path)).shared == {}


def test_a_library_of_this_system_is_not_shared(traced: Traced, tmp_path: Path) -> None:
    (tmp_path / "usr").symlink_to("/usr")
    (tmp_path / "lib").symlink_to("/lib")
    assert tree.plan(traced.path, str(tmp_path)).shared == {}


def test_an_alias_takes_the_place_of_what_is_there(planned: tree.Tree, tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/makedumpfile").write_text("the other one")
    (tmp_path / "bin").symlink_to("/bin")
    assert set(tree.alias(planned, str(tmp_path))) == {
        "usr/bin/makedumpfile", "usr/sbin/makedumpfile",
    }  # fmt: skip
    assert set(tree.alias(planned, None)) == {"usr/bin/makedumpfile"}


def test_nothing_is_written_through_a_link(planned: tree.Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "tree/usr/bin").mkdir(parents=True)
    (tmp_path / "tree" / tree.LAUNCHER).symlink_to(outside)
    tree.write({tree.LAUNCHER: planned.files[tree.LAUNCHER]}, str(tmp_path / "tree"))
    assert outside.read_text() == "mine"
    assert not (tmp_path / "tree" / tree.LAUNCHER).is_symlink()


def _without_segment(program: bytes, p_type: int) -> bytes:
    """The ELF file with segments of that type made PT_NULL."""
    changed = bytearray(program)
    table, n = int.from_bytes(program[32:40], "little"), int.from_bytes(program[56:58], "little")
    for at in range(table, table + 56 * n, 56):
        if int.from_bytes(program[at : at + 4], "little") == p_type:
            changed[at : at + 4] = bytes(4)
    return bytes(changed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda program: _without_segment(program, 3), "a statically linked Python"),
        (lambda _: b"#!/bin/sh\n", "not an ELF program"),
        (lambda program: program.replace(b"/lib64/ld-linux-x86-64.so.2\0",
                                         b"/lib/ld-musl-x86_64.so.1\0\0\0\0"), "linked with musl"),
    ],
)  # fmt: skip
def test_interpreters_that_cannot_be_taken_along(
    traced: Traced, tmp_path: Path, change, says: str
) -> None:
    fake = tmp_path / "python"
    fake.write_bytes(change(Path(traced.path.interpreter).read_bytes()))
    with pytest.raises(UnsupportedError, match=says):
        tree.plan(traced.path._replace(interpreter=str(fake)))


def test_an_interpreter_that_looks_elsewhere(traced: Traced) -> None:
    path: CapturePath = traced.path._replace(prefix="/nowhere")
    with pytest.raises(UnsupportedError, match="looks for its modules in"):
        tree.plan(path)


def test_a_module_that_is_compiled_already(traced: Traced, tmp_path: Path) -> None:
    (tmp_path / "only.pyc").write_bytes(b"compiled elsewhere")
    module = Module("only", str(tmp_path / "only.pyc"), False)
    path = traced.path._replace(modules=(*traced.path.modules, module))
    assert _zip(tree.plan(path)).read("only.pyc") == b"compiled elsewhere"
