# SPDX-License-Identifier: GPL-2.0-or-later
"""An opened kernel: names, time, phys_base, page size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.errors import FormatError, MissingFactError, UnsupportedError
from tests.builders import BuiltCore, CoreSpec
from tests.builders.vmcoreinfo import CRASHTIME
from tests.conftest import MIB, SMALL, CoreMaker, Describer


def test_names_and_time(small: BuiltCore) -> None:
    with pydumpfile.open(small.path) as vmcore:
        assert vmcore.utsname == (
            "Linux", "builder", "6.12.0", "#1 SMP synthetic", "x86_64", "(none)",
        )  # fmt: skip
        assert vmcore.utsname is not None and vmcore.utsname.release == "6.12.0"
        assert vmcore.utsname_bytes is not None and len(vmcore.utsname_bytes) == 390
        assert vmcore.crash_time == CRASHTIME
        assert vmcore.need_facts() is vmcore.facts


def test_names_at_another_offset(core_of: CoreMaker) -> None:
    built = core_of(replace(SMALL, uts_name_off=8))
    with pydumpfile.open(built.path) as vmcore:
        assert vmcore.utsname is not None and vmcore.utsname.nodename == "builder"


def test_names_without_an_offset(described: Describer) -> None:
    with pydumpfile.open(described({"OFFSET(uts_namespace.name)": None})) as vmcore:
        assert vmcore.utsname is not None and vmcore.utsname.release == "6.12.0"


@pytest.mark.parametrize(
    "changes",
    [
        {"SYMBOL(init_uts_ns)": None},
        {"SYMBOL(init_uts_ns)": "ffff000000000000"},
        {"SYMBOL(init_top_pgt)": None},
        {"SYMBOL(init_top_pgt)": "ffffffffbf000000"},
    ],
)
def test_names_that_cannot_be_found(described: Describer, changes: dict[str, object]) -> None:
    with pydumpfile.open(described(changes)) as vmcore:
        assert vmcore.utsname is None
        assert vmcore.utsname_bytes is None


@pytest.mark.parametrize(
    "spec",
    [
        replace(SMALL, memory_size=80 * MIB, image_paddr=48 * MIB),
        replace(SMALL, kaslr_offset=0x2C000000),  # a negative one
        replace(SMALL, kaslr_offset=0x2C000000, drop_keys=("NUMBER(phys_base)",)),
    ],
)
def test_phys_base(core_of: CoreMaker, spec: CoreSpec) -> None:
    built = core_of(spec)
    with pydumpfile.open(built.path) as vmcore:
        assert vmcore.phys_base == built.phys_base != 0


def test_phys_base_as_an_unsigned_number(core_of: CoreMaker) -> None:
    spec = replace(SMALL, kaslr_offset=0x2C000000)
    unsigned = core_of(spec).phys_base + (1 << 64)
    built = core_of(replace(spec, extra_keys={"NUMBER(phys_base)": unsigned}))
    with pydumpfile.open(built.path) as vmcore:
        assert vmcore.phys_base == -0x2C000000
        assert vmcore.utsname is not None


def test_the_old_name_of_the_top_table(small: BuiltCore, described: Describer) -> None:
    """init_level4_pgt until Linux 4.12."""
    root = small.keys["SYMBOL(init_top_pgt)"]
    changes = {"SYMBOL(init_top_pgt)": None, "SYMBOL(init_level4_pgt)": root}
    with pydumpfile.open(described(changes)) as vmcore:
        assert vmcore.utsname is not None


def test_without_a_description(core_of: CoreMaker) -> None:
    with pydumpfile.open(core_of(replace(SMALL, note=False)).path) as vmcore:
        assert vmcore.facts is None
        assert vmcore.utsname is None
        assert vmcore.crash_time == 0
        assert vmcore.levels == 4
        with pytest.raises(MissingFactError, match="VMCOREINFO"):
            vmcore.need_facts()
        with pytest.raises(MissingFactError):
            _ = vmcore.mem_map


@pytest.mark.parametrize("value", [65536, 0, "big", -4096])
def test_page_sizes_that_x86_does_not_have(described: Describer, value: object) -> None:
    with pytest.raises(FormatError, match="PAGESIZE"):
        pydumpfile.open(described({"PAGESIZE": value}))


@pytest.mark.parametrize("value", [-1, 1 << 62, 1 << 63, 1 << 70, "now"])
def test_times_that_cannot_be(described: Describer, value: object) -> None:
    path = described({"CRASHTIME": value})
    with pydumpfile.open(path) as vmcore, pytest.raises(FormatError, match="CRASHTIME"):
        _ = vmcore.crash_time


def test_another_architecture(scratch_core: Path) -> None:
    with scratch_core.open("r+b") as core:
        core.seek(18)
        core.write((183).to_bytes(2, "little"))
    with pytest.raises(UnsupportedError, match="aarch64"):
        pydumpfile.open(scratch_core)
