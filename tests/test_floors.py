# SPDX-License-Identifier: GPL-2.0-or-later
"""The architecture as a test: imports go down, and each foreign library has one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "pydumpfile"

# Longest name that fits counts; a room's floor holds for all of its modules.
FLOORS = {
    "errors": 0, "pfn": 0, "bitmap": 0, "progress": 0, "loops": 0, "variants": 0, "_version": 0,
    "bitruns": 0, "stopwatch": 0, "signals": 0, "filekind": 0,
    "formats": 1, "codecs": 1, "decoders": 1,
    "sources": 2, "sinks": 2,
    "memory": 3,
    "kernel": 4,
    "filter": 5, "packing": 5,
    "budget": 6, "codec_choice": 6, "dump": 6, "elfdump": 6, "logfile": 6, "mem_usage": 6,
    "rearrange": 6, "reassemble": 6,
    "comparison": 6, "report": 6, "service": 6,
    "": 7, "api": 7, "cli": 7, "__main__": 7,
}  # fmt: skip

# On one floor only a room's own modules know each other, but for what is named here:
# (module, module it may import).
NEIGHBOURS = {
    ("codecs", "formats.kdump"),  # the flags by which the format knows them
    ("decoders", "codecs"),  # memory to work in, and functions by name
    ("decoders", "formats.kdump"),  # likewise
    ("comparison.bitmaps", "rearrange"),  # streams, of which it keeps the bitmap alone
    ("elfdump", "dump"),  # what became of the pages is told alike
    ("report.comparison", "comparison.result"),  # the figures it tells
    ("report.comparison", "comparison.rounds"),  # their medians
    ("report.mem_usage", "mem_usage"),  # the pages it counted
    ("report.profile", "dump"),  # the statistics it tells
    ("report.makedumpfile", "dump"),  # likewise
    ("report.summary", "dump"),  # likewise
    ("", "api"),  # which it exports, and loads when asked for
    ("__main__", "cli"),
}

SOLE_IMPORTERS = {
    "elftools": {"kernel.dwarf"},
    "zstandard": set(),  # only tests use it, to read dumps
    "tqdm": {"cli", "cli.console"},
    "pydumpfile._pagescan": {
        "filter.native",
        "filter.zero_native",
        "packing.native",
        "sources.unpack_native",
        "variants",
    },
}

HANDS_OVER = {"packing.pipeline"}
"""What keeps any exception of one thread for another to raise."""


def _name(path: Path) -> str:
    """``filter.native``; a room's ``__init__`` is the room, the package's is ``""``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TEST_FILES = sorted(TESTS.rglob("*.py"))
PYTHON_FILES = [
    *MODULES.values(),
    *TEST_FILES,
    *sorted((ROOT / "csrc").glob("*.py")),
    *sorted((ROOT / "docs" / "manual").glob("*.py")),
]


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(path: Path, package: str) -> Iterator[str]:
    """Absolute names of everything imported anywhere in the file, also inside functions."""
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _package_of(module: str) -> str:
    """The package that relative imports of ``module`` start from."""
    full = f"pydumpfile.{module}".rstrip(".")
    return full if MODULES[module].name == "__init__.py" else full.rpartition(".")[0]


def _imported_modules(module: str) -> Iterator[str]:
    """Modules of the package that ``module`` imports."""
    for name in _imports(MODULES[module], _package_of(module)):
        if name == "pydumpfile":
            yield ""
        elif name.startswith("pydumpfile."):
            inside = name[len("pydumpfile.") :]
            while inside not in MODULES and inside:
                inside = inside.rpartition(".")[0]
            if inside or not name.startswith("pydumpfile._pagescan"):
                yield inside


def _room(module: str) -> str:
    return module.partition(".")[0]


def _floor(module: str) -> int:
    return FLOORS[_room(module)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    for imported in _imported_modules(module):
        if imported == module:
            continue
        if _room(imported) == _room(module) and _room(module) and "." in module + imported:
            continue
        allowed = _floor(imported) < _floor(module) or (
            _floor(imported) == 0 == _floor(module) or (module, imported) in NEIGHBOURS
        )
        assert allowed, (
            f"pydumpfile.{module} (floor {_floor(module)}) imports pydumpfile.{imported} "
            f"(floor {_floor(imported)})"
        )


def test_neighbours_are_real() -> None:
    """What is no longer imported is no longer allowed."""
    assert all(imported in set(_imported_modules(module)) for module, imported in NEIGHBOURS)


def test_every_module_has_a_floor() -> None:
    assert {_room(module) for module in MODULES} == set(FLOORS)


def test_the_ground_floor_has_no_cycle() -> None:
    """Modules of floor 0 may know each other; then one of them comes first."""
    ground = {module for module in MODULES if _floor(module) == 0}
    left = {module: set(_imported_modules(module)) & ground - {module} for module in ground}
    while left:
        free = [module for module, needs in left.items() if not needs & set(left)]
        assert free, f"a cycle in {sorted(left)}"
        for module in free:
            del left[module]


@pytest.mark.parametrize(("one", "other"), [("sources", "sinks"), ("sinks", "sources")])
def test_sources_and_sinks_never_meet(one: str, other: str) -> None:
    for module in MODULES:
        if _room(module) == one:
            assert other not in {_room(imported) for imported in _imported_modules(module)}


@pytest.mark.parametrize("library", SOLE_IMPORTERS)
def test_foreign_libraries_have_one_door(library: str) -> None:
    importers = {
        module
        for module, path in MODULES.items()
        for name in _imports(path, _package_of(module))
        if f"{name}.".startswith(f"{library}.")
    }
    assert importers <= SOLE_IMPORTERS[library]


def test_the_builders_never_import_the_package() -> None:
    for path in sorted((TESTS / "builders").rglob("*.py")):
        names = set(_imports(path, "tests.builders"))
        assert not {name for name in names if name.split(".")[0] == "pydumpfile"}, path


def _ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES.values(), ids=_ids)
def test_nothing_catches_everything(path: Path) -> None:
    for node in ast.walk(_parse(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        assert node.type is not None, f"{path}:{node.lineno}: bare except"
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {item.id for item in caught if isinstance(item, ast.Name)}
        assert "Exception" not in names, f"{path}:{node.lineno}: except Exception"
        last = node.body[-1]
        if "BaseException" not in names or (isinstance(last, ast.Raise) and last.exc is None):
            continue  # only to clean up and let it go on
        assert _name(path) in HANDS_OVER, f"{path}:{node.lineno}: swallows or replaces it"
        kept = {name.id for name in ast.walk(node.body[0]) if isinstance(name, ast.Name)}
        assert node.name in kept, f"{path}:{node.lineno}: loses BaseException"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=_ids)
def test_every_file_says_its_licence_and_purpose(path: Path) -> None:
    assert path.read_text(encoding="utf-8").splitlines()[0] == (
        "# SPDX-License-Identifier: GPL-2.0-or-later"
    )
    assert ast.get_docstring(_parse(path))


@pytest.mark.parametrize("path", sorted((ROOT / "csrc").glob("*.[ch]")), ids=_ids)
def test_every_c_file_says_its_licence(path: Path) -> None:
    assert "SPDX-License-Identifier: GPL-2.0-or-later" in path.read_text("utf-8").splitlines()[0]
