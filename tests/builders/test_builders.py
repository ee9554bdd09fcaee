# SPDX-License-Identifier: GPL-2.0-or-later
"""The builders against themselves: headers, page tables, struct pages, notes and verdicts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.builders import (
    LAYOUTS,
    ODD_LAYOUTS,
    BuiltCore,
    CoreSpec,
    bits,
    build_core,
    build_huge_core,
)
from tests.builders.layouts import layout_named
from tests.builders.structpage import Encoder

MIB = 1 << 20
PAGE_SIZE = 4096
START_KERNEL_MAP = 0xFFFFFFFF80000000
KNOBS = {
    "default": CoreSpec(),
    "5-level": CoreSpec(levels=5, randomize_memory=True, kaslr_offset=0x2C000000),
    "classic": CoreSpec(model="classic", kaslr_offset=0x2000000),
    "flatmem": CoreSpec(model="flatmem", vmemmap=False),
    "direct map": CoreSpec(vmemmap=False, mem_section_size=32),
    "4K vmemmap": CoreSpec(layout="6.12-odd", vmemmap_page_size=4096),
    "high, holes": CoreSpec(memory=((64 << 30, 100 * MIB), ((64 << 30) + 200 * MIB, 30 * MIB))),
    "split": CoreSpec(split_loads=512, shuffle_loads=True, split_inside_pages=True),
    "encrypted": CoreSpec(sme_mask=1 << 47, section_flags=0x3F, image_paddr=48 * MIB),
    "QEMU": CoreSpec(zero_vaddr=True, overlap_image=False, unaligned=True),
}


class PlainReader:
    """The least that reads a core: program headers, physical bytes, a page-table walk."""

    def __init__(self, built: BuiltCore) -> None:
        self._core = built.path.read_bytes()
        (phoff, shoff) = struct.unpack_from("<QQ", self._core, 32)
        (self.phnum,) = struct.unpack_from("<H", self._core, 56)
        if self.phnum == 0xFFFF:
            (self.phnum,) = struct.unpack_from("<I", self._core, shoff + 44)
        headers = [
            struct.unpack_from("<IIQQQQQQ", self._core, phoff + 56 * at) for at in range(self.phnum)
        ]
        self.note = next(header for header in headers if header[0] == 4)
        self.loads = [header for header in headers if header[0] == 1]
        self._built = built
        self.root_paddr = (
            int(str(built.keys["SYMBOL(init_top_pgt)"]), 16) - START_KERNEL_MAP + built.phys_base
        )

    def physical(self, paddr: int, size: int) -> bytes:
        """Bytes that may be in several PT_LOADs; LookupError if one is in none."""
        data = b""
        while len(data) < size:
            at = paddr + len(data)
            for _, _, offset, _, start, filesz, _, _ in self.loads:
                if start <= at < start + filesz:
                    count = min(size - len(data), start + filesz - at)
                    data += self._core[offset + at - start : offset + at - start + count]
                    break
            else:
                raise LookupError(f"paddr {at:#x} is in no PT_LOAD")
        return data

    def translate(self, vaddr: int) -> int:
        """Physical address; LookupError if not mapped."""
        five = int(self._built.keys["NUMBER(pgtable_l5_enabled)"])
        sme_mask = int(self._built.keys["NUMBER(sme_mask)"])
        table = self.root_paddr
        for shift in (48, 39, 30, 21, 12)[0 if five else 1 :]:
            slot = table + (vaddr >> shift & 511) * 8
            (entry,) = struct.unpack("<Q", self.physical(slot, 8))
            if not entry & 1:
                raise LookupError(f"vaddr {vaddr:#x} has no entry")
            assert entry & sme_mask == sme_mask
            target = entry & 0x000FFFFFFFFFF000 & ~sme_mask
            if shift == 12 or entry & 0x80:
                mask = (1 << shift) - 1
                return int(target & ~mask | vaddr & mask)
            table = target
        raise AssertionError("the walk ends at 4 KiB pages")

    def virtual(self, vaddr: int, size: int) -> bytes:
        """Bytes at a virtual address, page by page."""
        data = b""
        while len(data) < size:
            at = vaddr + len(data)
            count = min(size - len(data), PAGE_SIZE - at % PAGE_SIZE)
            data += self.physical(self.translate(at), count)
        return data

    def word(self, vaddr: int) -> int:
        """Unsigned 64-bit word."""
        return int.from_bytes(self.virtual(vaddr, 8), "little")

    def notes(self) -> list[tuple[bytes, int, bytes]]:
        """(name, type, desc) of every note."""
        _, _, offset, _, _, filesz, _, _ = self.note
        notes, end = [], offset + filesz
        while offset < end:
            namesz, descsz, kind = struct.unpack_from("<III", self._core, offset)
            name_off = offset + 12
            desc_off = name_off + namesz + -namesz % 4
            name = self._core[name_off : name_off + namesz - 1]
            notes.append((name, kind, self._core[desc_off : desc_off + descsz]))
            offset = desc_off + descsz + -descsz % 4
        return notes


def mem_map_vaddr(reader: PlainReader, built: BuiltCore, pfn: int) -> int:
    """Address of a struct page by way of the kernel's own tables."""
    keys, size = built.keys, int(built.keys["SIZE(page)"])
    if built.spec.model == "flatmem":
        return reader.word(int(str(keys["SYMBOL(mem_map)"]), 16)) + pfn * size
    section = pfn >> (int(keys["NUMBER(SECTION_SIZE_BITS)"]) - 12)
    entry_size = int(keys["SIZE(mem_section)"])
    array = int(str(keys["SYMBOL(mem_section)"]), 16)
    if built.spec.model == "extreme":
        root, section = divmod(section, PAGE_SIZE // entry_size)
        array = reader.word(array + root * 8)
    word = reader.word(array + section * entry_size)
    assert word & 0x3F == built.spec.section_flags
    return ((word & ~0x3F) + pfn * size) % (1 << 64)


@pytest.mark.parametrize("name", KNOBS)
def test_struct_pages_are_where_the_kernel_says(tmp_path: Path, name: str) -> None:
    built = build_core(tmp_path / "core", KNOBS[name])
    reader = PlainReader(built)
    encoder = Encoder(layout_named(built.spec.layout))
    pfns = [*list(bits.ones(built.exists))[::997], built.max_mapnr - 1]
    for pfn in pfns:
        vaddr = mem_map_vaddr(reader, built, pfn)
        assert vaddr == built.page_vaddr(pfn)
        expected = encoder.encode([built.struct_page(pfn)])
        assert reader.virtual(vaddr, len(expected)) == expected


@pytest.mark.parametrize("name", KNOBS)
def test_core_holds_utsname_notes_and_pages(tmp_path: Path, name: str) -> None:
    built = build_core(tmp_path / "core", KNOBS[name])
    reader = PlainReader(built)
    uts_vaddr = int(str(built.keys["SYMBOL(init_uts_ns)"]), 16)
    fields = reader.virtual(uts_vaddr + int(built.keys["OFFSET(uts_namespace.name)"]), 6 * 65)
    assert fields[:65].rstrip(b"\0") == b"Linux"
    assert fields[2 * 65 : 3 * 65].rstrip(b"\0").decode() == built.keys["OSRELEASE"]
    assert fields[4 * 65 : 5 * 65].rstrip(b"\0") == b"x86_64"
    notes = reader.notes()
    assert [(note[0], note[1], len(note[2])) for note in notes[:2]] == [(b"CORE", 1, 336)] * 2
    assert notes[2] == (b"VMCOREINFO", 0, built.vmcoreinfo.encode())
    assert built.vmcoreinfo.splitlines()[-1].startswith("CRASHTIME=")
    full = [pfn for pfn in bits.ones(built.exists) if pfn not in built.zero_pfns]
    for pfn in full[::301]:
        assert reader.physical(pfn * PAGE_SIZE, PAGE_SIZE) == built.page(pfn)
        assert any(built.page(pfn))
        direct = built.page_offset + pfn * PAGE_SIZE
        assert reader.translate(direct) == pfn * PAGE_SIZE


def test_pyelftools_reads_the_headers(tmp_path: Path) -> None:
    elffile = pytest.importorskip("elftools.elf.elffile")
    built = build_core(tmp_path / "core", CoreSpec(split_loads=20))
    with open(built.path, "rb") as stream:
        elf = elffile.ELFFile(stream)
        assert (elf["e_type"], elf["e_machine"], elf.elfclass) == ("ET_CORE", "EM_X86_64", 64)
        loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    found = [(s["p_vaddr"], s["p_paddr"], s["p_memsz"], s["p_filesz"]) for s in loads]
    assert found == [(load.vaddr, load.paddr, load.memsz, load.filesz) for load in built.loads]


def test_more_program_headers_than_e_phnum_can_count(tmp_path: Path) -> None:
    spec = CoreSpec(memory_size=512 * MIB, split_loads=66000, filled=0.0)
    built = build_core(tmp_path / "core", spec)
    with open(built.path, "rb") as core:
        header = core.read(64)
    assert struct.unpack_from("<H", header, 56) == (0xFFFF,)
    reader = PlainReader(built)
    assert reader.phnum == 1 + len(built.loads) > 0xFFFF
    assert reader.loads[-1][4] == built.loads[-1].paddr


def test_same_seed_same_core(tmp_path: Path) -> None:
    first = build_core(tmp_path / "first", CoreSpec(seed=5, split_loads=9))
    again = build_core(tmp_path / "again", CoreSpec(seed=5, split_loads=9))
    other = build_core(tmp_path / "other", CoreSpec(seed=6, split_loads=9))
    assert first.path.read_bytes() == again.path.read_bytes()
    assert first.verdict(31) == again.verdict(31) != other.verdict(31)


@pytest.mark.parametrize("name", [*LAYOUTS, *ODD_LAYOUTS])
@pytest.mark.parametrize("garbage", [False, True])
def test_levels_are_monotonic_and_counted(tmp_path: Path, name: str, garbage: bool) -> None:
    built = build_core(tmp_path / "core", CoreSpec(layout=name, garbage=garbage, filled=0.01))
    kept = [int.from_bytes(built.verdict(level), "little") for level in range(32)]
    start = int.from_bytes(built.exists, "little")
    for level in range(32):
        assert kept[level] & ~start == 0
        dropped = bin(start).count("1") - bin(kept[level]).count("1")
        assert sum(built.counts(level).values()) == dropped
    assert kept[30] == kept[31]
    assert kept[4] == kept[6]
    assert all(built.counts(31).values()), "every kind of page must occur"
    if not garbage:  # there, blocks overlap, and what one level drops can hide a head
        buddy = layout_named(name).types["buddy"]
        for level in range(32):
            revived = (kept[level] & ~kept[0]).to_bytes(len(built.exists), "little")
            # Only a free page of impossible order: the rule for free pages hides its poison.
            assert all(built.struct_page(pfn).mapcount == buddy for pfn in bits.ones(revived))
            assert not any(revived) or level & 16


@pytest.mark.parametrize(
    ("vmemmap", "unreadable"),
    [
        (True, ((0xA000, 1024, "unmapped"), (0xC000, 512, "no_pt_load"))),
        (False, ((0xA000, 1024, "unmapped"),)),
        (False, ((0x8000, 0x8000, "no_pt_load"),)),
    ],
)
def test_unreadable_struct_pages_keep_their_pages(
    tmp_path: Path, vmemmap: bool, unreadable: tuple[tuple[int, int, str], ...]
) -> None:
    spec = CoreSpec(vmemmap=vmemmap, vmemmap_page_size=4096, unreadable=unreadable)
    built = build_core(tmp_path / "core", spec)
    reader = PlainReader(built)
    for first_pfn, count, _ in unreadable:
        for pfn in (first_pfn, first_pfn + count - 1):
            with pytest.raises(LookupError):
                reader.virtual(built.page_vaddr(pfn), 64)
            assert bits.test(built.verdict(31), pfn) or pfn == first_pfn
        end_vaddr = built.page_vaddr(first_pfn + count - 1) + 64
        if first_pfn + count < built.max_mapnr:
            reader.virtual(end_vaddr, 64)


def test_free_lists_tell_what_buddy_types_tell(tmp_path: Path) -> None:
    by_type = build_core(tmp_path / "type", CoreSpec())
    by_list = build_core(tmp_path / "list", CoreSpec(freelists=True))
    broken = build_core(tmp_path / "broken", CoreSpec(freelists=True, broken_list=True))
    assert by_type.counts(16)["free"] == by_list.counts(16)["free"]
    buddy = layout_named(by_type.spec.layout).types["buddy"]
    pairs = zip(by_type.verdict(16), by_list.verdict(16))
    for pfn in bits.ones(bytes(left ^ right for left, right in pairs)):
        # Poison on a page of impossible order, which only the rule for buddy types hides.
        assert by_type.struct_page(pfn).mapcount == buddy
        assert bits.test(by_type.verdict(16), pfn)
    assert 0 < broken.counts(16)["free"] < by_list.counts(16)["free"]


def test_memory_without_mem_map_is_kept_and_hidden_memory_is_cut(tmp_path: Path) -> None:
    inner = build_core(tmp_path / "inner", CoreSpec(memory_size=512 * MIB, missing_sections=(1,)))
    assert inner.verdict(31)[0x8000 // 8 : 0x10000 // 8] == b"\xff" * 0x1000
    assert inner.max_mapnr == 0x20000
    last = build_core(tmp_path / "last", CoreSpec(memory_size=384 * MIB, missing_sections=(2,)))
    assert last.max_mapnr == 0x10000
    assert len(last.exists) == 0x10000 // 8


def test_without_a_note_only_levels_0_and_1_are_decided(tmp_path: Path) -> None:
    built = build_core(tmp_path / "core", CoreSpec(note=False))
    assert built.verdict(1) == built.exists
    assert [note[0] for note in PlainReader(built).notes()] == [b"CORE", b"CORE"]
    with pytest.raises(ValueError, match="without VMCOREINFO"):
        built.verdict(2)


def test_huge_core_answers_by_section(tmp_path: Path) -> None:
    shared = build_huge_core(tmp_path / "shared", 8 << 30)
    copied = build_huge_core(tmp_path / "copied", 2 << 30, share_mem_map=False)
    for built in (shared, copied):
        kept = sum(end - first for first, end in built.runs(31))
        assert kept == sum(bin(byte).count("1") for byte in built.verdict(31))
        assert kept == built.max_mapnr - sum(built.counts(31).values())
        assert built.path.stat().st_size > built.max_mapnr * PAGE_SIZE


def test_contradicting_knobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vmemmap_page_size=4096"):
        build_core(tmp_path / "core", CoreSpec(unreadable=((0, 512, "unmapped"),)))
    with pytest.raises(ValueError, match="no OFFSET"):
        build_core(tmp_path / "core", CoreSpec(drop_keys=("OFFSET(page.nothing)",)))
    with pytest.raises(ValueError, match="unknown struct page layout"):
        build_core(tmp_path / "core", CoreSpec(layout="2.4"))
