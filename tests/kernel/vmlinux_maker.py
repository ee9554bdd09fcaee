# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmlinux of a few KiB, compiled from C that has the structures of a layout of the builders."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from tests.builders.layouts import Layout
from tests.builders.machine import LINKED_AT

BUILD_ID = "0123456789abcdef0123456789abcdef01234567"
BANNER = "Linux version {release} (someone@somewhere) #1 SMP synthetic\n"
_TEXT = 0xFFFFFFFF81010000
_WORDS = ("flags", "mapping", "index", "private", "memcg_data")


def page_source(layout: Layout, page_types: str) -> str:
    """``struct page``, the enumerations of its flags and types, and all of mmzone.h that counts."""
    members = [(name, "unsigned long", layout.offsets[name]) for name in _WORDS
               if name in layout.offsets]  # fmt: skip
    members += [("lru", "struct list_head", layout.offsets["lru"])]
    members += [(layout.compound_word, "unsigned long", layout.offsets["lru"])]
    members += [(name, "int", layout.offsets[name]) for name in ("_mapcount", "_refcount")]
    members += [("page_type", "unsigned int", layout.offsets["_mapcount"])]
    folio = ""
    if layout.compound == "page_dtor":
        members += [("compound_dtor", "unsigned char", layout.dtor_off)]
        members += [("compound_order", "unsigned char", layout.order_off)]
    elif layout.compound == "folio_dtor":
        folio = _members([
            ("_folio_dtor", "unsigned char", layout.size + layout.dtor_off),
            ("_folio_order", "unsigned char", layout.size + layout.order_off),
        ])  # fmt: skip
    flags = {f"PG_{name}": number for name, number in layout.flags.items()}
    if layout.pg_hugetlb is not None:
        flags["PG_hugetlb"] = layout.pg_hugetlb
    dtors = ""
    if "HUGETLB_PAGE_DTOR" in layout.extra_numbers:
        dtors = (
            "enum compound_dtor_id { NULL_COMPOUND_DTOR, COMPOUND_PAGE_DTOR, HUGETLB_PAGE_DTOR };"
        )
        dtors += "enum compound_dtor_id a_dtor;"
    zone_rest = 1472 - 192 - layout.free_area_length * (16 * layout.migrate_types + 8)
    # Zones and nodes as the builders' free lists have them, as far as anything is said of them.
    return f"""
struct list_head {{ struct list_head *next, *prev; }};
typedef struct {{ unsigned long bits[16]; }} nodemask_t;
struct page {{ {_members(members)} }} __attribute__((aligned(8)));
_Static_assert(sizeof(struct page) == {layout.size}, "SIZE(page)");
struct folio {{ {folio} struct page page; }};
struct mem_section {{ unsigned long section_mem_map; char rest[{layout.mem_section_size - 8}]; }};
struct free_area {{ struct list_head free_list[{layout.migrate_types}]; unsigned long nr_free; }};
struct zone {{ char _pad[104]; unsigned long spanned_pages; char _pad2[80];
    struct free_area free_area[{layout.free_area_length}]; char _pad3[{zone_rest}];
    long vm_stat[24]; }};
struct pglist_data {{ char node_zones[0x4e00]; int nr_zones; char _rest[0x1fc]; }};
struct zone *a_zone;
{_enum("pageflags", flags)}
{page_types}
enum zone_stat_item {{ NR_FREE_PAGES, NR_ZONE_LRU_BASE }};
enum node_states {{ N_POSSIBLE, N_ONLINE, N_NORMAL_MEMORY }};
{dtors}
struct folio *a_folio; nodemask_t a_mask; enum zone_stat_item an_item; enum node_states a_state;
struct mem_section *mem_section __attribute__((section(".at.mem_section")));
struct pglist_data *node_data[64] __attribute__((section(".at.node_data")));
unsigned long init_top_pgt[512] __attribute__((section(".at.init_top_pgt")));
"""


def version_source(release: str, banner: bool) -> str:
    """``init/version.c``: the kernel's name."""
    return f"""
struct new_utsname {{ char sysname[65], nodename[65], release[65], version[65], machine[65],
                      domainname[65]; }};
struct uts_namespace {{ int count; struct new_utsname name; }};
struct uts_namespace init_uts_ns __attribute__((section(".at.init_uts_ns"))) = {{
    1, {{ "Linux", "(none)", "{release}", "#1 SMP synthetic", "x86_64", "(none)" }} }};
""" + (f'const char linux_banner[] = "{BANNER.format(release=release)[:-1]}\\n";' if banner else "")


PRINTK_SOURCE = """
typedef struct { long counter; } atomic64_t;
typedef atomic64_t atomic_long_t;
struct prb_data_blk_lpos { unsigned long begin, next; };
struct prb_desc { atomic_long_t state_var; struct prb_data_blk_lpos text_blk_lpos; };
struct prb_data_ring { unsigned int size_bits; char *data; atomic_long_t head_lpos, tail_lpos; };
struct dev_printk_info { char subsystem[16]; char device[48]; };
struct printk_info { unsigned long long seq, ts_nsec; unsigned short text_len;
    unsigned char facility, flags:5, level:3; unsigned int caller_id;
    struct dev_printk_info dev_info; };
struct prb_desc_ring { unsigned int count_bits; struct prb_desc *descs; struct printk_info *infos;
    atomic_long_t head_id, tail_id; };
struct printk_ringbuffer { struct prb_desc_ring desc_ring; struct prb_data_ring text_data_ring;
    atomic_long_t fail; };
static struct printk_ringbuffer printk_rb_static;
static struct printk_ringbuffer *prb __attribute__((used)) = &printk_rb_static;
struct printk_ringbuffer *the_log(void) { return prb; }
"""

# How page types are told: macros (nothing in DWARF), bits to be clear (6.11), numbers (6.12).
MACROS = ""
BITS_6_11 = """enum pagetype { PG_buddy = 0x40000000, PG_offline = 0x20000000,
    PG_hugetlb = 0x04000000, PG_slab = 0x02000000, PAGE_TYPE_BASE = 0x80000000 };
enum pagetype a_type;"""
NUMBERS_6_12 = """enum pagetype { PGTY_buddy = 0xf0, PGTY_offline = 0xf1, PGTY_table = 0xf2,
    PGTY_hugetlb = 0xf4, PGTY_slab = 0xf5, PGTY_unaccepted = 0xf7, PGTY_mapcount_underflow = 0xff };
enum pagetype a_type;"""


def make_vmlinux(
    directory: Path,
    layout: Layout,
    *,
    page_types: str = NUMBERS_6_12,
    dwarf: int = 5,
    banner: bool = False,
    flags: Sequence[str] = (),
    sources: Optional[Mapping[str, str]] = None,
) -> Path:
    """Compile and link; raises CalledProcessError with the compiler's words.

    :param sources: C by file name, in place of those of the kernel.
    """
    files = sources or {
        "mm/page_alloc.c": page_source(layout, page_types),
        "init/version.c": version_source(layout.release, banner),
        "kernel/printk/printk.c": PRINTK_SOURCE,
    }
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "ascii")
    places = [f"-Wl,--section-start=.at.{name}={vaddr:#x}" for name, vaddr in LINKED_AT.items()]
    output = directory / "vmlinux"
    subprocess.run(
        ["gcc", f"-gdwarf-{dwarf}", "-gno-strict-dwarf", "-O1", "-ffreestanding", "-nostdlib",
         "-static", "-no-pie", "-fno-pic", "-mcmodel=kernel", "-fno-asynchronous-unwind-tables",
         *flags, f"-Wl,-Ttext={_TEXT:#x},-e,0,--build-id=0x{BUILD_ID},-z,max-page-size=4096",
         *places, "-o", str(output), *files],
        cwd=directory, check=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return output


def _members(members: Sequence[tuple[str, str, int]]) -> str:
    """Each at its offset, in a nameless structure of a nameless union, as the kernel nests them."""
    inside = [
        f"struct {{ char _pad{i}[{off}]; {kind} {name}; }} __attribute__((packed));"
        if off else f"{kind} {name};"
        for i, (name, kind, off) in enumerate(members)
    ]  # fmt: skip
    return f"union {{ {' '.join(inside)} }};"


def _enum(name: str, numbers: Mapping[str, int]) -> str:
    inside = ", ".join(f"{key} = {number}" for key, number in numbers.items())
    return f"enum {name} {{ {inside} }}; enum {name} a_{name};"
