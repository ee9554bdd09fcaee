# SPDX-License-Identifier: GPL-2.0-or-later
"""What a vmlinux says of its kernel: the facts that VMCOREINFO would have, and some it has not.

Sources: ``kernel/vmcore_info.c`` (``kernel/crash_core.c`` before Linux 6.9, ``kernel/kexec.c``
before 4.13) and ``kernel/printk/printk.c`` of the kernel, which name what is exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Optional, Protocol

from pydumpfile.errors import MissingFactError, UnsupportedError
from pydumpfile.kernel.description import Description
from pydumpfile.kernel.dwarf import DebugInfo, StructType
from pydumpfile.kernel.vmlinux import Symbol, Vmlinux
from pydumpfile.memory.x86_64 import PAGE_SHIFT

_POINTER_SIZE = 8
_UTS_FIELD_SIZE = 65
_UTS_RELEASE = 2  # the third field of struct new_utsname

_SYMBOLS = (
    "_stext", "clear_idx", "clear_seq", "contig_page_data", "free_huge_page", "high_memory",
    "init_level4_pgt", "init_top_pgt", "init_uts_ns", "kallsyms_names", "kallsyms_num_syms",
    "kallsyms_offsets", "kallsyms_relative_base", "kallsyms_token_index", "kallsyms_token_table",
    "level4_kernel_pgt", "linux_banner", "log_buf", "log_buf_len", "log_end", "log_first_idx",
    "log_next_idx", "logged_chars", "max_pfn", "mem_map", "mem_section", "node_data",
    "node_online_map", "node_states", "pgdat_list", "prb", "printk_rb_static", "vmap_area_list",
    "vmlist",
)  # fmt: skip

# Members whose offsets are exported; the size of each structure goes with them.
_STRUCTS: Mapping[str, tuple[str, ...]] = {
    "page": (
        "flags", "_refcount", "_count", "mapping", "lru", "_mapcount", "private", "compound_dtor",
        "compound_order", "compound_head", "compound_info",
    ),
    "folio": ("_folio_dtor", "_folio_order"),
    "mem_section": ("section_mem_map",),
    "pglist_data": (
        "node_zones", "nr_zones", "node_mem_map", "node_start_pfn", "node_spanned_pages", "node_id",
        "pgdat_next",
    ),
    "zone": ("free_pages", "free_area", "vm_stat", "spanned_pages"),
    "free_area": ("free_list",),
    "list_head": ("next", "prev"),
    "nodemask_t": (),
    "uts_namespace": ("name",),
    "vm_struct": ("addr",),
    "vmap_area": ("va_start", "list"),
}  # fmt: skip
# Those of the kernel's log, by the symbol that only a kernel with this form of log has.
_LOG_STRUCTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "prb": {
        "printk_ringbuffer": ("desc_ring", "text_data_ring", "fail"),
        "prb_desc_ring": ("count_bits", "descs", "infos", "head_id", "tail_id"),
        "prb_desc": ("state_var", "text_blk_lpos"),
        "prb_data_blk_lpos": ("begin", "next"),
        "printk_info": ("seq", "ts_nsec", "text_len", "caller_id", "dev_info"),
        "dev_printk_info": ("subsystem", "device"),
        "prb_data_ring": ("size_bits", "data", "head_lpos", "tail_lpos"),
        "atomic_long_t": ("counter",),
        "latched_seq": ("val",),
    },
    "log_first_idx": {
        "printk_log": ("ts_nsec", "len", "text_len", "dict_len", "caller_id"),
    },
}
_LENGTHS = (
    ("zone.free_area", "zone", "free_area"),
    ("free_area.free_list", "free_area", "free_list"),
    ("printk_info_subsystem", "dev_printk_info", "subsystem"),
    ("printk_info_device", "dev_printk_info", "device"),
)
"""Key, structure, and its member that is an array."""
_POINTER_ARRAYS = ("node_data", "mem_section")
"""Variables. mem_section is one until Linux 4.14, then a pointer (83e3c48729d9)."""

# The enumeration counts: since Linux 6.11 enum pagetype has names that were page flags before.
_ENUMERATORS = (
    ("zone_stat_item", "NR_FREE_PAGES"),
    ("node_states", "N_ONLINE"),
    ("compound_dtor_id", "HUGETLB_PAGE_DTOR"),
    *(
        ("pageflags", f"PG_{flag}")
        for flag in (
            "lru", "private", "swapcache", "swapbacked", "slab", "hwpoison", "hugetlb", "buddy",
        )
    ),
)  # fmt: skip

# Page types as VMCOREINFO calls them, with the bit that stands for each where it is a macro, which
# DWARF does not tell: Linux 4.18 (6e292b9be7f4) to 6.10. hugetlb is one since 6.9 (d99e3140a4d3),
# slab since 6.10 (46df8e73a4a3); before, both were told otherwise.
_PAGE_TYPES = {
    "buddy": 0x80, "offline": 0x100, "hugetlb": 0x800, "slab": 0x1000, "unaccepted": None,
}  # fmt: skip


class Types(Protocol):
    """Where structures and enumerations are looked up."""

    def struct(self, name: str) -> Optional[StructType]:
        """See :meth:`pydumpfile.kernel.dwarf.DebugInfo.struct`."""

    def enum(self, name: str) -> Optional[dict[str, int]]:
        """See :meth:`pydumpfile.kernel.dwarf.DebugInfo.enum`."""


def describe(path: str) -> Description:
    """What the vmlinux at ``path`` says of its kernel.

    :raises InputError: it cannot be read.
    :raises FormatError: it is no vmlinux, has no debugging information, or is damaged.
    :raises UnsupportedError: it is one that cannot be handled.
    :raises MissingFactError: it does not define struct page, so that nothing could be done with it.
    """
    with Vmlinux(path) as vmlinux:
        if vmlinux.machine != "x86_64":
            raise UnsupportedError(
                f"{path}: a vmlinux for {vmlinux.machine}", "only x86_64 is, so far"
            )
        symbols = vmlinux.symbols(_SYMBOLS)
        place = f"debugging information of {path}"
        if "init_uts_ns" not in symbols:
            raise MissingFactError("SYMBOL(init_uts_ns)", f"symbols of {path}", "it is no vmlinux")
        types = DebugInfo(vmlinux)
        if types.struct("page") is None:
            raise MissingFactError(
                "struct page", place, "give the vmlinux of the kernel's debug package"
            )
        lines = dict(_identity(vmlinux, symbols, types))
        lines.update(_symbol_lines(symbols))
        lines.update(_type_lines(types, symbols))
        lines.update(_enumerator_lines(types))
        banner = symbols.get("linux_banner")
        return Description(lines, place, vmlinux.text(banner.vaddr) if banner else None, path)


def _identity(
    vmlinux: Vmlinux, symbols: Mapping[str, Symbol], types: Types
) -> Iterator[tuple[str, str]]:
    """Which kernel it is; what a file that only has debugging information cannot say is absent."""
    uts = types.struct("uts_namespace")
    if uts and "name" in uts.members:
        name_vaddr = symbols["init_uts_ns"].vaddr + uts.members["name"].off
        release = vmlinux.data(name_vaddr + _UTS_RELEASE * _UTS_FIELD_SIZE, _UTS_FIELD_SIZE)
        if release:
            yield "OSRELEASE", release.partition(b"\0")[0].decode("utf-8", "replace")
    build_id = vmlinux.build_id()
    if build_id:
        yield "BUILD-ID", build_id
    yield "PAGESIZE", str(1 << PAGE_SHIFT)


def _symbol_lines(symbols: Mapping[str, Symbol]) -> Iterator[tuple[str, str]]:
    for name, symbol in sorted(symbols.items()):
        yield f"SYMBOL({name})", f"{symbol.vaddr:x}"
    for name in _POINTER_ARRAYS:
        if name in symbols and symbols[name].size > _POINTER_SIZE:
            yield f"LENGTH({name})", str(symbols[name].size // _POINTER_SIZE)


def _type_lines(types: Types, symbols: Mapping[str, Symbol]) -> Iterator[tuple[str, str]]:
    wanted = dict(_STRUCTS)
    for symbol, structs in _LOG_STRUCTS.items():
        if symbol in symbols:
            wanted.update(structs)
    found = {name: types.struct(name) for name in wanted}
    for name, struct in found.items():
        if struct is None:
            continue
        yield f"SIZE({name})", str(struct.size)
        for member in wanted[name]:
            if member in struct.members:
                yield f"OFFSET({name}.{member})", str(struct.members[member].off)
    for key, name, member in _LENGTHS:
        struct = found.get(name)
        length = struct.members[member].length if struct and member in struct.members else None
        if length is not None:
            yield f"LENGTH({key})", str(length)


def _enumerator_lines(types: Types) -> Iterator[tuple[str, str]]:
    for enum, name in _ENUMERATORS:
        number = (types.enum(enum) or {}).get(name)
        if number is not None:
            yield f"NUMBER({name})", str(number)
    flags = types.enum("pageflags") or {}
    head = flags.get("PG_head", flags.get("PG_compound"))
    if head is not None:
        yield "NUMBER(PG_head_mask)", str(1 << head)
    for name, word in _page_types(types, flags):
        yield f"NUMBER(PAGE_{name.upper()}_MAPCOUNT_VALUE)", str(word - (1 << 32))


def _page_types(types: Types, flags: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The 32-bit word that each page type is in ``page_type``, with no more said in it."""
    page, folio = types.struct("page"), types.struct("folio")
    enum = types.enum("pagetype")
    for name, bit in _PAGE_TYPES.items():
        if enum is not None:
            if f"PGTY_{name}" in enum:  # a number in the top byte: Linux 6.12 (4ffca5a96678)
                yield name, enum[f"PGTY_{name}"] << 24
            elif f"PG_{name}" in enum:  # a bit that is clear: Linux 6.11 (ff202303c398)
                yield name, ~enum[f"PG_{name}"] & 0xFFFFFFFF
        elif page and "page_type" in page.members and bit is not None:
            otherwise = {
                "hugetlb": "PG_hugetlb" in flags  # a flag of the second page: Linux 6.6 to 6.8
                or "compound_dtor" in page.members
                or (folio is not None and "_folio_dtor" in folio.members),
                "slab": "PG_slab" in flags,
            }
            if not otherwise.get(name):
                yield name, ~bit & 0xFFFFFFFF
