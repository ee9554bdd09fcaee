# SPDX-License-Identifier: GPL-2.0-or-later
"""The imitated machine's address space: kernel image, direct map, and what the note says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Optional, Union

from .elfcore import NT_PRSTATUS, Load, note, prstatus
from .layouts import layout_named
from .memmap import SECTION_SIZE_BITS, present_sections
from .pagetables import PageTables
from .physmem import PAGE_SHIFT, PAGE_SIZE, Allocator, PhysicalMemory, round_up
from .spec import MIB, CoreSpec
from .vmcoreinfo import BUILD_ID, CRASHTIME, Value, page_keys, render

START_KERNEL_MAP = 0xFFFFFFFF80000000
_LINK_ADDRESS = 16 * MIB  # CONFIG_PHYSICAL_START
# Documentation/arch/x86/x86_64/mm.rst: direct map and vmemmap by number of levels.
_REGIONS = {
    4: (0xFFFF888000000000, 0xFFFFEA0000000000),
    5: (0xFF11000000000000, 0xFFD4000000000000),
}
# Places in the kernel image, as offsets from its start.
_TOP_TABLE, _UTS_NS, _NODE_STATES, _NODE_DATA, _MEM_MAP, _MEM_SECTION, _PGDAT, _STATIC = (
    0, 0x1000, 0x2000, 0x3000, 0x3800, 0x3900, 0x4000, 2 * MIB,
)  # fmt: skip
LINKED_AT = {
    name: START_KERNEL_MAP + _LINK_ADDRESS + off
    for name, off in (
        ("init_top_pgt", _TOP_TABLE), ("init_uts_ns", _UTS_NS), ("node_states", _NODE_STATES),
        ("node_data", _NODE_DATA), ("mem_map", _MEM_MAP), ("mem_section", _MEM_SECTION),
        ("contig_page_data", _PGDAT),
    )
}  # fmt: skip
"""Where the linker put what is in the image; mem_section is a pointer, as since Linux 4.15."""
_NODEMASK_SIZE = 128
_N_ONLINE = 1
_UTS_FIELD = 65


class Machine:
    """Memory, page tables and symbols, before there is any struct page."""

    def __init__(self, spec: CoreSpec) -> None:
        self.spec = spec
        self.layout = layout_named(spec.layout)
        if spec.model not in ("extreme", "classic", "flatmem"):
            raise ValueError(f"memory model {spec.model!r} is not extreme, classic or flatmem")
        rng = Random(f"{spec.seed} regions")
        self.memory = PhysicalMemory()
        self.page_offset, self.vmemmap = _REGIONS[spec.levels]
        if spec.randomize_memory:
            self.page_offset += rng.randrange(1, 4096) << 30
            self.vmemmap += rng.randrange(1, 256) << 30
        self.max_physmem_bits = spec.max_physmem_bits or (46 if spec.levels == 4 else 52)
        self.image_paddr, end_paddr = self._choose_image_place()
        self.image_vaddr = START_KERNEL_MAP + _LINK_ADDRESS + spec.kaslr_offset
        self.phys_base = self.image_paddr - _LINK_ADDRESS - spec.kaslr_offset
        self.image_size = _STATIC
        if spec.model == "classic":
            n_bytes = (present_sections(spec)[-1] + 1) * 32
            self.image_size += round_up(n_bytes, 2 * MIB)
        self.allocator = Allocator(self.image_paddr + self.image_size, end_paddr)
        self.tables = PageTables(
            self.memory,
            spec.levels,
            self.image_paddr + _TOP_TABLE,
            lambda: self.allocator.allocate(PAGE_SIZE),
            spec.sme_mask,
        )
        self._write_image()

    def _choose_image_place(self) -> tuple[int, int]:
        """(paddr of the image, end of the RAM that holds it)."""
        ram = self.spec.ram()
        if self.spec.image_paddr is not None:
            wanted: Optional[int] = self.spec.image_paddr
        else:
            inside = any(paddr <= _LINK_ADDRESS < paddr + size for paddr, size in ram)
            wanted = _LINK_ADDRESS if inside else None
        for paddr, size in sorted(ram, key=lambda piece: -piece[1]):
            if wanted is None:
                wanted = round_up(paddr, 2 * MIB)
            if paddr <= wanted < paddr + size:
                if wanted % (2 * MIB):
                    raise ValueError(f"image_paddr {wanted:#x} is not a multiple of 2 MiB")
                limits = [at for at, _ in self.spec.no_data if at >= wanted]
                return wanted, min([paddr + size, *limits])
        raise ValueError(f"image_paddr {wanted:#x} is not in RAM")

    def _write_image(self) -> None:
        spec, image = self.spec, self.image_paddr
        fields = (
            "Linux", "builder", self.layout.release, "#1 SMP synthetic", "x86_64", "(none)",
        )  # fmt: skip
        for at, text in enumerate(fields):
            where = image + _UTS_NS + spec.uts_name_off + at * _UTS_FIELD
            self.memory.write(where, text.encode())
        for state in range(5):  # N_POSSIBLE, N_ONLINE, ...: node 0 only
            self.memory.write_word(image + _NODE_STATES + state * _NODEMASK_SIZE, 1)
        self.memory.write_word(image + _NODE_DATA, self.page_offset + self.pgdat_paddr)
        for off in range(0, self.image_size, 2 * MIB):
            self.tables.map(self.image_vaddr + off, image + off, 21)

    @property
    def pgdat_paddr(self) -> int:
        """Where node 0's pglist_data is."""
        return self.image_paddr + _PGDAT

    @property
    def pgdat_vaddr(self) -> int:
        """The address by which the kernel knows node 0's pglist_data."""
        if self.spec.model == "flatmem":  # contig_page_data, part of the image
            return self.image_vaddr + _PGDAT
        return self.page_offset + self.pgdat_paddr

    @property
    def static_array(self) -> tuple[int, int]:
        """(vaddr, paddr) of the room for a classic mem_section array."""
        return self.image_vaddr + _STATIC, self.image_paddr + _STATIC

    @property
    def kernel_pfns(self) -> tuple[int, int]:
        """Half-open pfn range of the image and everything allocated behind it so far."""
        end = round_up(self.allocator.next_paddr, PAGE_SIZE)
        return self.image_paddr >> PAGE_SHIFT, end >> PAGE_SHIFT

    @property
    def image_load(self) -> Load:
        """PT_LOAD of the kernel image."""
        return Load(self.image_vaddr, self.image_paddr, self.image_size, self.image_size)

    def map_ram(self, absent: Iterable[tuple[int, int]], unmapped: Iterable[int]) -> None:
        """Build the direct map of RAM and of `absent` memory, leaving out the `unmapped` pfns."""
        holes = frozenset(unmapped)
        for paddr, size in [*self.spec.ram(), *absent]:
            start = paddr // PAGE_SIZE * PAGE_SIZE
            end = round_up(paddr + size, PAGE_SIZE)
            self.tables.map_range(self.page_offset + start, start, end - start, holes)

    def set_mem_map_pointer(self, mem_map_vaddr: int) -> None:
        """Store the FLATMEM kernel's `mem_map` variable."""
        self.memory.write_word(self.image_paddr + _MEM_MAP, mem_map_vaddr)

    def set_mem_section_pointer(self, roots_vaddr: int) -> None:
        """Store the `mem_section` variable of a kernel with SPARSEMEM_EXTREME."""
        self.memory.write_word(self.image_paddr + _MEM_SECTION, roots_vaddr)

    def keys(self, *more: Mapping[str, Value]) -> dict[str, Value]:
        """Every VMCOREINFO key, in order; `more` are those of sections, nodes and lists."""
        spec = self.spec

        def symbol(off: int) -> str:
            return f"{self.image_vaddr + off:x}"

        keys: dict[str, Value] = {
            "OSRELEASE": self.layout.release,
            "BUILD-ID": BUILD_ID,
            "PAGESIZE": PAGE_SIZE,
            "SYMBOL(init_uts_ns)": symbol(_UTS_NS),
            "OFFSET(uts_namespace.name)": spec.uts_name_off,
            "SYMBOL(node_online_map)": symbol(_NODE_STATES + _N_ONLINE * _NODEMASK_SIZE),
            "SYMBOL(swapper_pg_dir)": symbol(_TOP_TABLE),
            "SYMBOL(_stext)": symbol(0),
        }
        if spec.model == "flatmem":
            keys["SYMBOL(mem_map)"] = symbol(_MEM_MAP)
            keys["SYMBOL(contig_page_data)"] = symbol(_PGDAT)
        else:
            keys["NUMBER(SECTION_SIZE_BITS)"] = SECTION_SIZE_BITS
            keys["NUMBER(MAX_PHYSMEM_BITS)"] = self.max_physmem_bits
        keys.update(page_keys(self.layout, spec.hwpoison))
        for extra in more:
            keys.update(extra)
        keys["NUMBER(phys_base)"] = self.phys_base
        keys["SYMBOL(init_top_pgt)"] = symbol(_TOP_TABLE)
        keys["NUMBER(pgtable_l5_enabled)"] = int(spec.levels == 5)
        if spec.model != "flatmem":
            keys["SYMBOL(node_data)"] = symbol(_NODE_DATA)
            keys["LENGTH(node_data)"] = 64
        keys["KERNELOFFSET"] = f"{spec.kaslr_offset:x}"
        keys["NUMBER(KERNEL_IMAGE_SIZE)"] = 1 << 30
        keys["NUMBER(sme_mask)"] = spec.sme_mask
        if spec.freelists:
            keys.pop("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", None)
        keys.update(spec.extra_keys)
        for key in spec.drop_keys:
            if keys.pop(key, None) is None:
                raise ValueError(f"the note of layout {spec.layout} has no {key} to drop")
        keys.setdefault("CRASHTIME", CRASHTIME)
        return keys

    def notes(self, vmcoreinfo: Optional[str]) -> bytes:
        """The PT_NOTE's bytes: registers of each CPU, then VMCOREINFO."""
        rng = Random(f"{self.spec.seed} registers")
        data = b""
        for cpu in range(self.spec.n_cpus):
            registers = [rng.getrandbits(64) for _ in range(27)]
            data += note("CORE", NT_PRSTATUS, prstatus(100 + cpu, registers))
        if vmcoreinfo is not None:
            data += note("VMCOREINFO", 0, vmcoreinfo.encode())
        return data

    def vmcoreinfo(self, keys: Mapping[str, Union[int, str]]) -> str:
        """The note's text."""
        return render(keys, self.spec.crashtime_newline)
