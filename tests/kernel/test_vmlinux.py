# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmlinux compiled for the test: what it says, in which forms it is read, how it is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from elftools.dwarf.die import DIE

from pydumpfile.errors import FormatError, InputError, MissingFactError, UnsupportedError
from pydumpfile.kernel.description import Description
from pydumpfile.kernel.dwarf import DebugInfo
from pydumpfile.kernel.exports import describe
from pydumpfile.kernel.vmlinux import Vmlinux
from tests.builders.layouts import LAYOUTS, layout_named
from tests.builders.machine import LINKED_AT
from tests.builders.vmcoreinfo import page_keys

from .vmlinux_maker import (
    BANNER,
    BITS_6_11,
    BUILD_ID,
    MACROS,
    NUMBERS_6_12,
    PRINTK_SOURCE,
    make_vmlinux,
    page_source,
    version_source,
)

V6_12 = layout_named("6.12")


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary one, read only."""
    return make_vmlinux(tmp_path_factory.mktemp("vmlinux"), V6_12, banner=True)


@pytest.fixture(scope="module")
def said(vmlinux: Path) -> Description:
    return describe(str(vmlinux))


def objcopy(source: Path, target: Path, *arguments: str) -> Path:
    subprocess.run(["objcopy", *arguments, str(source), str(target)], check=True)
    return target


# What it says


def page_types_of(name: str) -> str:
    numbered = "buddy" in layout_named(name).types and layout_named(name).types["buddy"] != ~0x80
    return NUMBERS_6_12 if numbered else MACROS


@pytest.mark.parametrize("dwarf", [4, 5])
@pytest.mark.parametrize("name", LAYOUTS)
def test_all_that_vmcoreinfo_says_of_struct_page(name: str, dwarf: int, tmp_path: Path) -> None:
    layout = layout_named(name)
    types = page_types_of(name)
    lines = describe(str(make_vmlinux(tmp_path, layout, page_types=types, dwarf=dwarf))).lines
    expected = {key: str(value) for key, value in page_keys(layout, hwpoison=True).items()}
    if layout.compound_word == "compound_info":
        expected.pop("OFFSET(page.compound_head)", None)
    assert {key: lines.get(key) for key in expected} == expected
    # Beyond that, nothing that would change what a page is taken for.
    more = {key for key in lines if "MAPCOUNT" in key or "NUMBER(PG_" in key} - set(expected)
    assert more <= {"NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)"}


def test_page_types_that_are_bits_in_an_enumeration(tmp_path: Path) -> None:
    """Linux 6.11. PG_slab and PG_hugetlb are no page flags there, though they are called so."""
    lines = describe(str(make_vmlinux(tmp_path, V6_12, page_types=BITS_6_11))).lines
    assert lines["NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)"] == str(~0x40000000)
    assert lines["NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)"] == str(~0x02000000)
    assert "NUMBER(PG_slab)" not in lines
    assert "NUMBER(PG_hugetlb)" not in lines
    assert "NUMBER(PG_buddy)" not in lines


def test_page_types_that_are_macros_with_slab_among_them(tmp_path: Path) -> None:
    """Linux 6.10: neither page flag nor enumeration has slab."""
    lines = describe(str(make_vmlinux(tmp_path, V6_12, page_types=MACROS))).lines
    assert lines["NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)"] == str(~0x1000)
    assert lines["NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)"] == str(~0x800)


def test_which_kernel(said: Description) -> None:
    assert said.release == said.lines["OSRELEASE"] == "6.12.0"
    assert said.lines["BUILD-ID"] == BUILD_ID
    assert said.lines["PAGESIZE"] == "4096"
    assert said.banner == BANNER.format(release="6.12.0").encode()


def test_symbols(said: Description) -> None:
    for name in ("init_uts_ns", "init_top_pgt", "mem_section", "node_data"):
        assert said.lines[f"SYMBOL({name})"] == f"{LINKED_AT[name]:x}"
    assert said.lines["LENGTH(node_data)"] == "64"
    assert "LENGTH(mem_section)" not in said.lines  # a pointer
    assert "SYMBOL(prb)" in said.lines  # local to its file


def test_the_log(said: Description) -> None:
    assert said.lines["OFFSET(prb_desc_ring.tail_id)"] == "32"
    assert said.lines["SIZE(prb_data_blk_lpos)"] == "16"
    assert said.lines["OFFSET(printk_info.caller_id)"] == "20"
    assert said.lines["OFFSET(atomic_long_t.counter)"] == "0"  # a typedef of a typedef
    assert said.lines["SIZE(atomic_long_t)"] == "8"
    assert said.lines["LENGTH(printk_info_device)"] == "48"


def test_arrays(said: Description) -> None:
    assert said.lines["LENGTH(zone.free_area)"] == "11"
    assert said.lines["LENGTH(free_area.free_list)"] == "6"


def test_a_local_name_that_is_there_twice_means_nothing(tmp_path: Path) -> None:
    twice = "static int max_pfn __attribute__((used)) = 1; static long prb __attribute__((used));"
    path = make_vmlinux(tmp_path, V6_12, sources={
        "mm/page_alloc.c": page_source(V6_12, NUMBERS_6_12),
        "init/version.c": version_source("6.12.0", banner=False),
        "kernel/printk/printk.c": PRINTK_SOURCE,
        "drivers/other.c": twice + "int log_buf;",
        "drivers/another.c": "static int log_buf __attribute__((used)) = 2;",
    })  # fmt: skip
    lines = describe(str(path)).lines
    assert "SYMBOL(prb)" not in lines
    assert "SYMBOL(max_pfn)" in lines
    with Vmlinux(str(path)) as vmlinux:  # the global one
        nm = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
        (address,) = (line.split()[0] for line in nm.splitlines() if line.endswith(" B log_buf"))
        assert vmlinux.symbols(["log_buf"])["log_buf"].vaddr == int(address, 16)


# Where it is found


def test_in_files_of_other_names(tmp_path: Path) -> None:
    sources = {
        "a.c": page_source(V6_12, NUMBERS_6_12), "b.c": version_source("6.12.0", banner=False),
        "c.c": "int unrelated;",
    }  # fmt: skip
    lines = describe(str(make_vmlinux(tmp_path, V6_12, sources=sources))).lines
    assert lines["SIZE(page)"] == "64"
    assert lines["NUMBER(PG_lru)"] == "5"


def test_one_in_a_file_that_is_not_expected(tmp_path: Path) -> None:
    sources = {
        "mm/page_alloc.c": page_source(V6_12, NUMBERS_6_12),
        "init/version.c": version_source("6.12.0", banner=False),
        "c.c": "struct vmap_area { long va_start, list[2]; } a_vmap_area;",
        "d.c": "struct vmap_area; struct vmap_area *not_this_one; int unrelated;",
    }
    lines = describe(str(make_vmlinux(tmp_path, V6_12, sources=sources))).lines
    assert lines["OFFSET(vmap_area.list)"] == "8"


def test_as_few_units_as_possible_are_read(tmp_path: Path) -> None:
    sources = {f"drivers/d{i}.c": f"struct driver{i} {{ int x; }} v{i};" for i in range(20)}
    sources["mm/page_alloc.c"] = page_source(V6_12, NUMBERS_6_12)
    with Vmlinux(str(make_vmlinux(tmp_path, V6_12, sources=sources))) as vmlinux:
        types = DebugInfo(vmlinux)
        assert types.struct("page") is not None
        assert types.enum("pageflags") is not None
        assert types.struct("no_such_thing") is None
        assert types.struct("driver7") is not None  # by its name in the strings
        assert types.n_read == 2


@pytest.mark.parametrize("how", ["zlib", "zlib-gnu", "zstd"])
@pytest.mark.parametrize("dwarf", [4, 5])
def test_compressed_sections(how: str, dwarf: int, tmp_path: Path) -> None:
    path = make_vmlinux(tmp_path, V6_12, dwarf=dwarf)
    compressed = objcopy(path, tmp_path / "compressed", f"--compress-debug-sections={how}")
    assert b".zdebug_info" in compressed.read_bytes() or how != "zlib-gnu"
    assert describe(str(compressed)).lines == describe(str(path)).lines


# What it does not say, or not here


def test_debugging_information_alone(vmlinux: Path, said: Description, tmp_path: Path) -> None:
    """As eu-strip leaves it: types, symbols and notes, but no data, so no release and no banner."""
    alone = describe(str(objcopy(vmlinux, tmp_path / "vmlinux.debug", "--only-keep-debug")))
    assert alone.release == ""
    assert alone.banner is None
    assert {**alone.lines, "OSRELEASE": "6.12.0"} == said.lines


def test_stripped_of_debugging_information(vmlinux: Path, tmp_path: Path) -> None:
    stripped = objcopy(vmlinux, tmp_path / "stripped", "--strip-debug")
    with pytest.raises(FormatError, match=r"\.debug_info.*stripped.*debug package"):
        describe(str(stripped))


def test_split_off_debugging_information_is_named(vmlinux: Path, tmp_path: Path) -> None:
    link = tmp_path / "vmlinux-6.12.0.debug"
    link.write_bytes(b"x")
    stripped = objcopy(
        vmlinux, tmp_path / "stripped", "--strip-debug", f"--add-gnu-debuglink={link}"
    )
    with pytest.raises(FormatError, match=r"split off, into vmlinux-6\.12\.0\.debug"):
        describe(str(stripped))


def test_without_symbols(vmlinux: Path, tmp_path: Path) -> None:
    stripped = objcopy(vmlinux, tmp_path / "stripped", "--strip-all")
    with pytest.raises(FormatError, match=r"\.symtab"):
        describe(str(stripped))


@pytest.mark.parametrize("dwarf", [4, 5])
def test_split_dwarf(dwarf: int, tmp_path: Path) -> None:
    path = make_vmlinux(tmp_path, V6_12, dwarf=dwarf, flags=["-gsplit-dwarf"])
    with pytest.raises(UnsupportedError, match=r"\.dwo"):
        describe(str(path))


def test_shared_debugging_information(vmlinux: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.write_bytes(b"vmlinux.dwz\0" + bytes(20))
    shared = objcopy(vmlinux, tmp_path / "shared", f"--add-section=.gnu_debugaltlink={link}")
    with pytest.raises(UnsupportedError, match=r"vmlinux\.dwz"):
        describe(str(shared))


def test_a_program_that_is_no_kernel(tmp_path: Path) -> None:
    path = make_vmlinux(tmp_path, V6_12, sources={"a.c": "int main_thing;"})
    with pytest.raises(MissingFactError, match="init_uts_ns"):
        describe(str(path))


def test_a_kernel_without_struct_page(tmp_path: Path) -> None:
    sources = {"init/version.c": version_source("6.12.0", banner=False)}
    with pytest.raises(MissingFactError, match="struct page"):
        describe(str(make_vmlinux(tmp_path, V6_12, sources=sources)))


@pytest.mark.parametrize("content", [b"", b"MZ" + bytes(100), b"\x7fELF", b"\x7fELF" + bytes(100)])
def test_what_is_no_elf_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    with pytest.raises((FormatError, UnsupportedError), match="vmlinuz"):
        describe(str(path))


def test_other_machines(vmlinux: Path, tmp_path: Path) -> None:
    content = bytearray(vmlinux.read_bytes())
    content[18:20] = (183).to_bytes(2, "little")
    (tmp_path / "vmlinux").write_bytes(content)
    with pytest.raises(UnsupportedError, match="aarch64"):
        describe(str(tmp_path / "vmlinux"))
    content[5] = 2
    (tmp_path / "vmlinux").write_bytes(content)
    with pytest.raises(UnsupportedError, match="big-endian"):
        describe(str(tmp_path / "vmlinux"))


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        describe(str(tmp_path / "none"))


@pytest.mark.parametrize("share", range(10, 100, 10))
def test_a_file_that_was_cut_off(vmlinux: Path, tmp_path: Path, share: int) -> None:
    content = vmlinux.read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(content[: len(content) * share // 100])
    with pytest.raises(FormatError):
        describe(str(path))


@pytest.mark.parametrize("value", [1 << 20, (1 << 63) - 1, (1 << 64) - 1])
@pytest.mark.parametrize("field_off", [16, 24, 32], ids=["sh_addr", "sh_offset", "sh_size"])
def test_section_headers_that_lead_nowhere(
    vmlinux: Path, tmp_path: Path, field_off: int, value: int
) -> None:
    """Each of them in turn, that of the names among them."""
    content = vmlinux.read_bytes()
    shoff = int.from_bytes(content[40:48], "little")
    path = tmp_path / "damaged"
    refused = 0
    for at in range(shoff + field_off, len(content), 64):
        path.write_bytes(content[:at] + value.to_bytes(8, "little") + content[at + 8 :])
        try:
            describe(str(path))
        except (FormatError, MissingFactError, UnsupportedError):
            refused += 1
    assert refused or field_off == 16


def test_what_pyelftools_does_not_know_is_damage(
    vmlinux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(die: DIE) -> None:
        raise NotImplementedError(f"sibling in an unknown form in {die.tag}")

    monkeypatch.setattr(DIE, "iter_children", unknown)
    with pytest.raises(FormatError, match="NotImplementedError: sibling"):
        describe(str(vmlinux))


@pytest.mark.parametrize("section", [".debug_info", ".debug_abbrev", ".debug_str"])
@pytest.mark.parametrize("seed", range(4))
def test_damage_is_an_error_of_ours_or_none(
    vmlinux: Path, tmp_path: Path, section: str, seed: int
) -> None:
    """Debugging information has no check sums: what is read of garbage may even look right."""
    content = bytearray(vmlinux.read_bytes())
    with Vmlinux(str(vmlinux)) as whole:
        start = content.index(whole.section(section).read(0, 64))
        size = whole.section(section).size
    for at in range(seed, size, 7):
        content[start + at] ^= 0x55
    (tmp_path / "damaged").write_bytes(content)
    try:
        lines = describe(str(tmp_path / "damaged")).lines
    except (FormatError, MissingFactError, UnsupportedError):
        return
    assert lines.get("OSRELEASE", "6.12.0") == "6.12.0"


@pytest.mark.parametrize("how", ["zlib", "zstd"])
def test_damage_in_a_compressed_section(vmlinux: Path, tmp_path: Path, how: str) -> None:
    path = objcopy(vmlinux, tmp_path / "compressed", f"--compress-debug-sections={how}")
    content = bytearray(path.read_bytes())
    sections = subprocess.run(
        ["readelf", "-SW", path], capture_output=True, text=True, check=True
    ).stdout
    (line,) = (line for line in sections.splitlines() if ".debug_info" in line)
    off, size = (int(field, 16) for field in line.split("PROGBITS")[1].split()[1:3])
    content[off + 60 : off + size] = bytes(size - 60)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="compressed"):
        describe(str(path))
