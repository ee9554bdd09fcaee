# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels described from outside: without VMCOREINFO, beside it, against it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import pydumpfile
from pydumpfile.errors import FormatError, MismatchError, MissingFactError, UsageError
from pydumpfile.filter.classify import PageFilter
from pydumpfile.filter.level import Kind, Level
from pydumpfile.kernel.exports import describe
from pydumpfile.kernel.vmcore import Vmcore
from tests.builders import BuiltCore
from tests.builders.layouts import layout_named
from tests.builders.machine import LINKED_AT
from tests.conftest import MIB, SMALL, CoreMaker, copy_sparse
from tests.sources.rawelf import poke

from .vmlinux_maker import BANNER, MACROS, NUMBERS_6_12, make_vmlinux

KASLR = 0x1C600000
IMAGE_PADDR = 18 * MIB
MOVED = replace(SMALL, kaslr_offset=KASLR, image_paddr=IMAGE_PADDR)
UTS_OFF = LINKED_AT["init_uts_ns"] - LINKED_AT["init_top_pgt"]

MACHINES = {
    "as linked": SMALL,
    "KASLR": MOVED,
    "5 levels": replace(MOVED, levels=5, randomize_memory=True),
    "by QEMU": replace(MOVED, zero_vaddr=True, overlap_image=False, split_loads=9),
    "by QEMU, 5 levels": replace(MOVED, levels=5, zero_vaddr=True, overlap_image=False),
    "SME": replace(MOVED, sme_mask=1 << 47),
    "SME, 5 levels, by QEMU": replace(
        MOVED, sme_mask=1 << 51, levels=5, zero_vaddr=True, overlap_image=False
    ),
    "6.1": replace(MOVED, layout="6.1"),
    "6.9": replace(MOVED, layout="6.9"),
    "odd ends": replace(MOVED, memory=((0x1800, 0x9E000), (MIB + 0x400, 44 * MIB + 0x300))),
}  # fmt: skip


@pytest.fixture(scope="module")
def vmlinux_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: make_vmlinux(
            tmp_path_factory.mktemp("vmlinux"), layout_named(name),
            page_types=NUMBERS_6_12 if name == "6.12" else MACROS,
        )
        for name in ("6.1", "6.9", "6.12")
    }  # fmt: skip


def kept(vmcore: Vmcore, level: int) -> bytes:
    """The whole 2nd bitmap."""
    page_filter = PageFilter(vmcore, Level.of(level))
    bits = bytearray(-(-page_filter.max_pfn // 8))
    for window in page_filter.windows():
        bits[window.first_pfn // 8 : window.end_pfn // 8] = window.bits
    return bytes(bits)


def vmcoreinfo_file(path: Path, built: BuiltCore, **changes: object) -> Path:
    """What -g would write of the builders' kernel: at link time, and nothing of one boot."""
    lines = {key: value for key, value in built.keys.items()
             if key.startswith(("OSRELEASE", "PAGESIZE", "SIZE", "OFFSET", "NUMBER(PG_",
                                "NUMBER(PAGE_", "NUMBER(HUGETLB", "LENGTH(zone"))}  # fmt: skip
    lines.update({f"SYMBOL({name})": f"{vaddr:x}" for name, vaddr in LINKED_AT.items()})
    del lines["SYMBOL(mem_section)" if built.spec.model == "flatmem" else "SYMBOL(mem_map)"]
    lines.update(changes)
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), "ascii")
    return path


# In the place of VMCOREINFO


@pytest.mark.parametrize("name", MACHINES)
def test_in_the_place_of_vmcoreinfo(
    core_of: CoreMaker, vmlinux_of: dict[str, Path], tmp_path: Path, name: str
) -> None:
    spec = MACHINES[name]
    built, silent = core_of(spec), core_of(replace(spec, note=False))
    by_vmlinux = pydumpfile.open(silent.path, vmlinux=vmlinux_of[spec.layout])
    by_file = pydumpfile.open(
        silent.path, vmcoreinfo=vmcoreinfo_file(tmp_path / "vmcoreinfo", built)
    )
    for vmcore in (by_vmlinux, by_file):
        with vmcore:
            assert vmcore.source.vmcoreinfo is None
            assert vmcore.phys_base == built.phys_base
            assert vmcore.levels == spec.levels
            assert vmcore.utsname is not None
            assert vmcore.utsname.release == layout_named(spec.layout).release
            assert vmcore.contradictions == []
            for level in (0, 1, 2, 4, 8, 16, 31):
                assert kept(vmcore, level) == built.verdict(level), level


@pytest.mark.parametrize("model", ["classic", "flatmem"])
def test_other_memory_models(core_of: CoreMaker, tmp_path: Path, model: str) -> None:
    spec = replace(MOVED, model=model, vmemmap=False)
    built, silent = core_of(spec), core_of(replace(spec, note=False))
    changes = {}
    if model == "classic":
        link_time = int(str(built.keys["SYMBOL(mem_section)"]), 16) - KASLR
        changes = {
            "SYMBOL(mem_section)": f"{link_time:x}",
            "LENGTH(mem_section)": built.keys["LENGTH(mem_section)"],
        }
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", built, **changes)
    with pydumpfile.open(silent.path, vmcoreinfo=file) as vmcore:
        assert kept(vmcore, 31) == built.verdict(31)


def test_the_whole_dump_is_the_same(
    core_of: CoreMaker, vmlinux_of: dict[str, Path], tmp_path: Path
) -> None:
    built, silent = core_of(MOVED), core_of(replace(MOVED, note=False))
    with pydumpfile.open(silent.path, vmlinux=vmlinux_of["6.12"]) as vmcore:
        described = pydumpfile.dump(vmcore, tmp_path / "described", 31)
    noted = pydumpfile.dump(built.path, tmp_path / "noted", 31)
    assert described.left_out == noted.left_out
    assert (described.kept, described.zero, described.lost) == (noted.kept, noted.zero, 0)
    assert described.warnings == noted.warnings


def test_older_notes_lack_where_the_kernel_was_loaded(core_of: CoreMaker, tmp_path: Path) -> None:
    """NUMBER(phys_base) came with Linux 4.10; without a PT_LOAD of the image memory has to tell."""
    lacking = ("NUMBER(phys_base)", "KERNELOFFSET", "SIZE(page)")
    spec = replace(MOVED, drop_keys=lacking, zero_vaddr=True, overlap_image=False)
    built = core_of(spec)
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", core_of(MOVED))
    with pydumpfile.open(built.path, vmcoreinfo=file) as vmcore:
        assert vmcore.phys_base == built.phys_base
        assert vmcore.contradictions == []
        assert kept(vmcore, 31) == core_of(MOVED).verdict(31)


def test_a_note_copied_to_a_file(core_of: CoreMaker, tmp_path: Path) -> None:
    """Of another boot: moved symbols are moved back, and what held for that boot is ignored."""
    spec = replace(MOVED, model="flatmem", vmemmap=False)
    other = core_of(replace(spec, kaslr_offset=0x2A00000, image_paddr=20 * MIB, levels=5))
    file = tmp_path / "vmcoreinfo"
    file.write_text(other.vmcoreinfo, "ascii")
    built, silent = core_of(spec), core_of(replace(spec, note=False))
    with pydumpfile.open(silent.path, vmcoreinfo=file) as vmcore:
        assert (vmcore.phys_base, vmcore.levels, vmcore.crash_time) == (built.phys_base, 4, 0)
        assert kept(vmcore, 31) == built.verdict(31)
    with pydumpfile.open(built.path, vmcoreinfo=file) as vmcore:
        assert vmcore.contradictions == []


def test_the_array_of_another_boot_is_no_array_of_this_one(
    core_of: CoreMaker, tmp_path: Path
) -> None:
    file = tmp_path / "vmcoreinfo"
    file.write_text(core_of(MOVED).vmcoreinfo, "ascii")
    silent = core_of(replace(MOVED, note=False))
    with (
        pydumpfile.open(silent.path, vmcoreinfo=file) as vmcore,
        pytest.raises(MissingFactError, match="mem_section"),
    ):
        _ = vmcore.mem_map


# Beside VMCOREINFO


def test_what_the_note_lacks_is_added(core_of: CoreMaker, vmlinux_of: dict[str, Path]) -> None:
    lacking = ("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", "OFFSET(page.private)", "NUMBER(PG_swapbacked)")
    built = core_of(replace(MOVED, drop_keys=lacking))
    with pydumpfile.open(built.path, vmlinux=vmlinux_of["6.12"]) as vmcore:
        assert vmcore.contradictions == []
        assert vmcore.facts is not None
        assert vmcore.facts.place("OFFSET(page.private)").endswith("/vmlinux")
        assert vmcore.facts.place("OFFSET(page.flags)") == f"VMCOREINFO of {built.path}"
        assert kept(vmcore, 31) == core_of(MOVED).verdict(31)


@pytest.mark.parametrize("level", [8, 31])
def test_user_data_is_kept_where_nothing_tells_slab_from_it(
    core_of: CoreMaker, tmp_path: Path, level: int
) -> None:
    built = core_of(replace(MOVED, drop_keys=("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)",)))
    with pydumpfile.open(built.path) as vmcore:
        assert kept(vmcore, level) == core_of(MOVED).verdict(level & ~Level.USER)
        statistics = pydumpfile.dump(vmcore, tmp_path / "dump", level)
    assert any("user data kept because nothing tells slab" in said for said in statistics.warnings)
    with pydumpfile.open(core_of(MOVED).path) as vmcore:
        assert pydumpfile.dump(vmcore, tmp_path / "whole", level).left_out[Kind.USER]


def test_a_contradiction_names_both_values_and_places(core_of: CoreMaker, tmp_path: Path) -> None:
    built = core_of(MOVED)
    file = vmcoreinfo_file(
        tmp_path / "vmcoreinfo", built,
        **{"OFFSET(page.mapping)": 32, "SYMBOL(init_top_pgt)": "ffffffff81002000"},
    )  # fmt: skip
    with pydumpfile.open(built.path, vmcoreinfo=file) as vmcore:
        page, table = sorted(vmcore.contradictions)
        assert (page.key, page.value, page.other_value) == ("OFFSET(page.mapping)", "24", "32")
        assert (page.place, page.other_place) == (f"VMCOREINFO of {built.path}", str(file))
        assert all(
            text in str(page) for text in (page.key, page.place, page.other_place, "24", "32")
        )
        assert table.key == "SYMBOL(init_top_pgt)"
        assert int(table.other_value, 16) - int(table.value, 16) == 0x2000
        assert kept(vmcore, 31) == built.verdict(31)  # the kernel's own word counts


def test_no_contradiction_where_signs_differ(core_of: CoreMaker, tmp_path: Path) -> None:
    built = core_of(MOVED)
    word = int(built.keys["NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)"]) + (1 << 64)
    changes = {"NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)": word}
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", built, **changes)
    with pydumpfile.open(built.path, vmcoreinfo=file) as vmcore:
        assert vmcore.contradictions == []


# Against it


def test_another_release(core_of: CoreMaker, vmlinux_of: dict[str, Path], tmp_path: Path) -> None:
    for path in (core_of(MOVED).path, core_of(replace(MOVED, note=False)).path):
        with pytest.raises(MismatchError, match=r"6\.1\.0.*6\.12\.0") as caught:
            pydumpfile.open(path, vmlinux=vmlinux_of["6.1"])
        assert (caught.value.what, caught.value.found) == ("release", "6.12.0")
        file = vmcoreinfo_file(tmp_path / "vmcoreinfo", core_of(MOVED), OSRELEASE="6.12.99")
        with pytest.raises(MismatchError, match="vmcoreinfo"):
            pydumpfile.open(path, vmcoreinfo=file)


def test_another_build_of_the_release(core_of: CoreMaker, tmp_path: Path) -> None:
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", core_of(MOVED), **{"BUILD-ID": "ab" * 20})
    with pytest.raises(MismatchError, match="build ID is abab"):
        pydumpfile.open(core_of(MOVED).path, vmcoreinfo=file)


@pytest.mark.parametrize("note", [False, True])
def test_another_banner(core_of: CoreMaker, tmp_path: Path, note: bool) -> None:
    """Two builds by the same name: all else may be at the same place."""
    vmlinux = make_vmlinux(tmp_path, layout_named("6.12"), banner=True)
    banner_vaddr = int(describe(str(vmlinux)).lines["SYMBOL(linux_banner)"], 16)
    banner_paddr = banner_vaddr - LINKED_AT["init_top_pgt"] + IMAGE_PADDR
    banner = BANNER.format(release="6.12.0").encode()
    core = tmp_path / "vmcore"
    copy_sparse(core_of(replace(MOVED, note=note)).path, core)
    poke(core, banner_paddr, banner)
    with pydumpfile.open(core, vmlinux=vmlinux) as vmcore:
        assert vmcore.contradictions == []
    poke(core, banner_paddr, banner.replace(b"#1", b"#2"))
    with pytest.raises(MismatchError, match=r"#1.*#2"):
        pydumpfile.open(core, vmlinux=vmlinux)


def test_memory_without_the_kernel(core_of: CoreMaker, tmp_path: Path) -> None:
    silent = core_of(replace(MOVED, note=False))
    core = tmp_path / "vmcore"
    copy_sparse(silent.path, core)
    poke(core, IMAGE_PADDR + UTS_OFF, bytes(400))
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", core_of(MOVED))
    with pytest.raises(MissingFactError, match="nowhere"):
        pydumpfile.open(core, vmcoreinfo=file)


def test_a_copy_of_the_name_is_not_the_kernel(core_of: CoreMaker, tmp_path: Path) -> None:
    """Left over from the boot before, it lies where it should, but no page tables lead there."""
    silent = core_of(replace(MOVED, note=False))
    core = tmp_path / "vmcore"
    copy_sparse(silent.path, core)
    with pydumpfile.open(silent.path) as vmcore:
        name = vmcore.source.read(IMAGE_PADDR + UTS_OFF, 400)
    poke(core, 4 * MIB + UTS_OFF, name)
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", core_of(MOVED))
    with pydumpfile.open(core, vmcoreinfo=file) as vmcore:
        assert vmcore.phys_base == silent.phys_base
    poke(core, IMAGE_PADDR, bytes(4096))  # the top table
    with pytest.raises(MissingFactError, match="no page tables"):
        pydumpfile.open(core, vmcoreinfo=file)


def test_a_kernel_elsewhere(core_of: CoreMaker, tmp_path: Path) -> None:
    """The right release, but of another build, in which all lies somewhere else."""
    symbol = {"SYMBOL(init_uts_ns)": f"{LINKED_AT['init_uts_ns'] + 0x40:x}"}
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", core_of(MOVED), **symbol)
    with pytest.raises(MissingFactError, match=r"a kernel 6\.12\.0 is elsewhere"):
        pydumpfile.open(core_of(replace(MOVED, note=False)).path, vmcoreinfo=file)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", FormatError),
        (b"PAGESIZE=4096\nSIZE(page)=64\n", FormatError),
        (b"OSRELEASE=6.12.0\n", FormatError),
        (b"OSRELEASE=6.12.0\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=here\n", FormatError),
        (b"OSRELEASE=6.12.0\nPAGESIZE=4096\nKERNELOFFSET=far\n", FormatError),
        (b"OSRELEASE=6.12.0\nPAGESIZE=4096\n", MissingFactError),
        (b"OSRELEASE=6.12.0\nPAGESIZE=4096\n" + b"x" * (1 << 20), FormatError),
    ],
)
def test_files_that_do_not_describe_a_kernel(
    core_of: CoreMaker, tmp_path: Path, text: bytes, error: type[Exception]
) -> None:
    file = tmp_path / "vmcoreinfo"
    file.write_bytes(text)
    with pytest.raises(error):
        pydumpfile.open(core_of(replace(MOVED, note=False)).path, vmcoreinfo=file)


@pytest.mark.parametrize("off", ["abc", "-4", "", "1 0", str(1 << 70)])
def test_a_place_of_the_name_that_is_none(core_of: CoreMaker, tmp_path: Path, off: str) -> None:
    """It is needed before anything is known of memory."""
    changes = {"OFFSET(uts_namespace.name)": off}
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", core_of(MOVED), **changes)
    with pytest.raises(FormatError, match=r"OFFSET\(uts_namespace\.name\)") as caught:
        pydumpfile.open(core_of(replace(MOVED, note=False)).path, vmcoreinfo=file)
    assert caught.value.path == str(file)


@pytest.mark.parametrize("note", [False, True])
def test_a_file_that_went_through_windows(core_of: CoreMaker, tmp_path: Path, note: bool) -> None:
    built, core = core_of(MOVED), core_of(replace(MOVED, note=note))
    file = vmcoreinfo_file(tmp_path / "vmcoreinfo", built)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    with pydumpfile.open(core.path, vmcoreinfo=file) as vmcore:
        assert vmcore.contradictions == []
        assert kept(vmcore, 31) == built.verdict(31)


def test_lengths_that_makedumpfile_does_not_know(core_of: CoreMaker, tmp_path: Path) -> None:
    """It writes 2**63 - 2 for an array that DWARF gives no length of."""
    file = vmcoreinfo_file(
        tmp_path / "vmcoreinfo", core_of(MOVED), **{"LENGTH(node_data)": (1 << 63) - 2}
    )
    with pydumpfile.open(core_of(replace(MOVED, note=False)).path, vmcoreinfo=file) as vmcore:
        assert vmcore.facts is not None
        assert vmcore.facts.length("node_data") is None


def test_one_description_is_enough(core_of: CoreMaker) -> None:
    with pytest.raises(UsageError, match="both"):
        pydumpfile.open(core_of(SMALL).path, vmlinux="vmlinux", vmcoreinfo="vmcoreinfo")
