# SPDX-License-Identifier: GPL-2.0-or-later
"""One kernel's facts and one dump level, folded into offsets, masks and values.

Everything that differs between kernels is decided here, by asking whether a number or member
exists; the loops that judge pages (csrc/page_judge.h and reference.py) see only the result.
docs/filter-rules.md gives the rules. Sources: ``include/linux/page-flags.h``,
``include/linux/mm_types.h`` and ``kernel/vmcore_info.c`` of the kernel releases named below.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from pydumpfile.errors import FormatError
from pydumpfile.filter.level import Level
from pydumpfile.kernel.facts import Facts

_U64 = (1 << 64) - 1
_U32 = (1 << 32) - 1


class PageTest(NamedTuple):
    """A test of one aligned 64-bit word: ``word at off & mask == value``.

    With ``after`` the word is in the struct page behind the one judged.
    """

    off: int
    mask: int
    value: int
    after: bool = False


NEVER = PageTest(0, 0, 1)


class Plan(NamedTuple):
    """``struct pydump_plan`` of csrc/vmcore_pfn_lists.h, where the fields are explained."""

    page_size: int
    flags_off: int
    mapping_off: int
    private_off: int
    order_off: int
    order_shift: int
    order_mask: int
    max_order: int
    drop_cache: bool
    drop_cache_private: bool
    drop_user: bool
    tail: PageTest
    head: PageTest
    slab_type: PageTest
    slab_flag: PageTest
    buddy: PageTest
    unaccepted: PageTest
    hugetlb: PageTest
    offline: PageTest
    hwpoison: PageTest
    lru_mask: int
    swapcache_mask: int
    private_mask: int


def field_test(off: int, size: int, mask: int, value: int, after: bool = False) -> PageTest:
    """A test of the ``size``-byte little-endian field at ``off``, which is naturally aligned."""
    shift = 8 * (off % 8)
    field = (1 << 8 * size) - 1
    return PageTest(off - off % 8, (mask & field) << shift, (value & field) << shift, after)


def needs_scan(facts: Facts, level: Level) -> bool:
    """Whether the struct pages matter at all for ``level`` on this kernel.

    They always do where the kernel knows poisoned pages: reading one can kill the machine.
    """
    return bool(
        level & (Level.CACHE | Level.CACHE_PRIVATE | Level.USER)
        or (level & Level.FREE and marks_free_pages(facts))
        or facts.number("PG_hwpoison") is not None
    )


def marks_free_pages(facts: Facts) -> bool:
    """Whether a struct page tells that it starts a free block; else the free lists have to."""
    if facts.find_offset("page", "private") is None:
        return False
    by_type = (
        facts.number("PAGE_BUDDY_MAPCOUNT_VALUE") is not None
        and facts.find_offset("page", "_mapcount") is not None
    )
    return by_type or facts.number("PG_buddy") is not None


def tells_slab(facts: Facts) -> bool:
    """Whether a struct page tells that it is slab's; else nobody can tell that it is user data.

    Of slab, what would be bit 0 of ``mapping`` has another meaning since Linux 6.2. Each kernel
    says what slab is, but what makedumpfile 1.7 writes of those since 6.12 (``-g``) does not.
    """
    by_type, by_flag = _type(facts, "PAGE_SLAB_MAPCOUNT_VALUE"), _slab_flag(facts)
    return (by_type, by_flag) != (NEVER, NEVER)


def make_plan(facts: Facts, level: Level) -> Plan:
    """Fold ``facts`` and ``level``. What the facts do not tell from something else is kept.

    :raises MissingFactError: the kernel does not say the least that is needed to judge a page.
    :raises FormatError: it says something that cannot be.
    """
    order_off, order_shift, order_mask, hugetlb = _compound(facts)
    return Plan(
        page_size=_struct_page_size(facts),
        flags_off=_word(facts, "flags"),
        mapping_off=_word(facts, "mapping"),
        private_off=_member(facts, "private", 8) or 0,
        order_off=order_off,
        order_shift=order_shift,
        order_mask=order_mask,
        max_order=_max_order(facts),
        drop_cache=bool(level & (Level.CACHE | Level.CACHE_PRIVATE)),
        drop_cache_private=bool(level & Level.CACHE_PRIVATE),
        drop_user=bool(level & Level.USER) and tells_slab(facts),
        tail=_tail(facts),
        head=_flags_any(facts, _head_mask(facts)),
        slab_type=_type(facts, "PAGE_SLAB_MAPCOUNT_VALUE"),
        slab_flag=_slab_flag(facts),
        buddy=_buddy(facts) if level & Level.FREE else NEVER,
        unaccepted=_unaccepted(facts) if level & Level.FREE else NEVER,
        hugetlb=hugetlb,
        offline=_type(facts, "PAGE_OFFLINE_MAPCOUNT_VALUE"),
        hwpoison=_flag(facts, "PG_hwpoison"),
        lru_mask=_bit(_number_or(facts, "PG_lru", 5)),
        swapcache_mask=_swapcache_mask(facts),
        private_mask=_bit(_number_or(facts, "PG_private", 11)),
    )


def _struct_page_size(facts: Facts) -> int:
    size = facts.size("page")
    if size % 8 or not 32 <= size <= 512:
        raise FormatError(facts.looked_in, 0, "a struct page of 32 to 512 bytes", f"{size} bytes")
    if facts.find_offset("page", "_refcount") is None:  # so named since Linux 4.7 (0139aa7b7fa1)
        facts.offset("page", "_count")
    return size


def _member(
    facts: Facts, name: str, size: int, struct: str = "page", base: int = 0
) -> Optional[int]:
    """Offset in struct page of a member of ``size`` bytes that is given from ``base`` on, or None.

    :raises FormatError: it does not lie in struct page, or not aligned.
    """
    off = facts.find_offset(struct, name)
    if off is None:
        return None
    page_size = facts.size("page")
    if (off - base) % size or not 0 <= off - base <= page_size - size:
        raise FormatError(
            facts.looked_in, 0, f"{struct}.{name} aligned and inside its {page_size} bytes",
            f"offset {off}", "the description is damaged",
        )  # fmt: skip
    return off - base


def _word(facts: Facts, name: str) -> int:
    """Offset in struct page of an unsigned long or pointer that has to be there."""
    facts.offset("page", name)
    return _member(facts, name, 8) or 0


def _flag_number(facts: Facts, name: str) -> Optional[int]:
    """The number of a page flag."""
    return facts.within(f"NUMBER({name})", 0, 63)


def _number_or(facts: Facts, name: str, default: int) -> int:
    said = _flag_number(facts, name)
    return default if said is None else said


def _bit(number: int) -> int:
    return 1 << number & _U64


def _flags_any(facts: Facts, mask: int) -> PageTest:
    """A single-bit test of page.flags; ``mask`` has one bit."""
    return PageTest(_word(facts, "flags"), mask, mask) if mask else NEVER


def _flag(facts: Facts, name: str) -> PageTest:
    number = _flag_number(facts, name)
    return NEVER if number is None else _flags_any(facts, _bit(number))


def _type(facts: Facts, name: str) -> PageTest:
    """The 32-bit word that is ``_mapcount`` or ``page_type``, compared whole.

    The numbers are opaque: flag bits up to Linux 6.11, an enumeration in the top byte since 6.12
    (4ffca5a96678).
    """
    value = facts.number(name)
    off = _member(facts, "_mapcount", 4)
    return NEVER if value is None or off is None else field_test(off, 4, _U32, value)


def _tail(facts: Facts) -> PageTest:
    """Bit 0 of compound_head, called compound_info since Linux 7.1, when it may be a mask."""
    off = _member(facts, "compound_head", 8)
    if off is None:
        off = _member(facts, "compound_info", 8)
    return NEVER if off is None else field_test(off, 8, 1, 1)


def _head_mask(facts: Facts) -> int:
    mask = facts.within("NUMBER(PG_head_mask)", 1, _U64)
    if mask is None:
        return _bit(_number_or(facts, "PG_head", 14))
    return mask


def _slab_flag(facts: Facts) -> PageTest:
    """PG_slab, where slab is a page flag.

    It is a page type since Linux 6.10 (46df8e73a4a3), and bit 7, its place in kernels too old to
    say, became PG_waiters: so bit 7 only counts where nothing is said of slab at all, and the
    kernel is older than any that says what PG_head_mask is, or has page.compound_head (4.4).
    """
    if facts.number("PG_slab") is not None:
        return _flag(facts, "PG_slab")
    newer = ("PAGE_SLAB_MAPCOUNT_VALUE", "PG_head_mask")
    if all(facts.number(name) is None for name in newer) and _tail(facts) == NEVER:
        return _flags_any(facts, _bit(7))
    return NEVER


def _swapcache_mask(facts: Facts) -> int:
    """PG_swapcache shares its bit with a flag of file systems since Linux 4.10 (6326fec1122c).

    Then it only means swap cache together with PG_swapbacked.
    """
    swapcache = _number_or(facts, "PG_swapcache", 15)
    private = _number_or(facts, "PG_private", 11)
    swapbacked = _flag_number(facts, "PG_swapbacked")
    if swapbacked is None and swapcache < private:
        swapbacked = private + 6
    return _bit(swapcache) | (0 if swapbacked is None else _bit(swapbacked))


def _max_order(facts: Facts) -> int:
    said = facts.within("LENGTH(zone.free_area)", 1, 63)
    return 64 if said is None else said


def _buddy(facts: Facts) -> PageTest:
    if not marks_free_pages(facts):
        return NEVER
    by_type = _type(facts, "PAGE_BUDDY_MAPCOUNT_VALUE")
    return by_type if by_type != NEVER else _flag(facts, "PG_buddy")  # a flag until 2.6.38


def _unaccepted(facts: Facts) -> PageTest:
    """Memory a confidential guest never accepted: free, in blocks of the largest order (6.16)."""
    if facts.length("zone.free_area") is None:
        return NEVER
    return _type(facts, "PAGE_UNACCEPTED_MAPCOUNT_VALUE")


def _compound(facts: Facts) -> tuple[int, int, int, PageTest]:
    """Where a compound page's order is, and what makes it hugetlb: the first form that exists.

    :return: word offset, shift and mask of the order in the second struct page; the hugetlb test.
    """
    flags_off = _word(facts, "flags")
    if facts.number("PAGE_HUGETLB_MAPCOUNT_VALUE") is not None:  # Linux 6.9 (d99e3140a4d3)
        return flags_off, 0, 0xFF, _type(facts, "PAGE_HUGETLB_MAPCOUNT_VALUE")
    flag = _flag_number(facts, "PG_hugetlb")
    if flag is not None:  # Linux 6.6 (9c5ccf2db04b)
        return flags_off, 0, 0xFF, PageTest(flags_off, _bit(flag), _bit(flag), after=True)
    dtor_id = facts.number("HUGETLB_PAGE_DTOR")
    head_size = facts.size("page")  # folio's offsets count from the head, not from the page behind
    order_off = _member(facts, "_folio_order", 1, "folio", head_size)
    dtor_off = _member(facts, "_folio_dtor", 1, "folio", head_size)
    if order_off is not None or dtor_off is not None:  # Linux 6.3
        return *_order(order_off, 1), _dtor(dtor_off, 1, dtor_id)
    order_off = _member(facts, "compound_order", 1)
    dtor_off = _member(facts, "compound_dtor", 1)
    if order_off is not None or dtor_off is not None:  # Linux 4.4
        # Adjacent bytes since Linux 4.16; before, wider fields of which 16 bits are used.
        wide = order_off is not None and dtor_off is not None and abs(order_off - dtor_off) > 1
        size = 2 if wide else 1
        order_off, dtor_off = (
            _member(facts, name, size) for name in ("compound_order", "compound_dtor")
        )
        return *_order(order_off, size), _dtor(dtor_off, size, dtor_id)
    return _compound_before_4_4(facts)


def _order(off: Optional[int], size: int) -> tuple[int, int, int]:
    """Word offset, shift and mask of the order at ``off``."""
    if off is None:
        return 0, 0, 0
    return off - off % 8, 8 * (off % 8), (1 << 8 * size) - 1


def _dtor(off: Optional[int], size: int, dtor_id: Optional[int]) -> PageTest:
    """The destructor's number is hugetlb's."""
    if off is None or dtor_id is None:
        return NEVER
    return field_test(off, size, _U64, dtor_id, after=True)


def _compound_before_4_4(facts: Facts) -> tuple[int, int, int, PageTest]:
    """The second page's lru held the order in ``prev`` and the destructor's address in ``next``."""
    unknown = 0, 0, 0, NEVER
    lru_off = _member(facts, "lru", 8)
    free_huge_page = facts.find_symbol("free_huge_page")
    next_off = facts.within("OFFSET(list_head.next)", 0, 8)
    prev_off = facts.within("OFFSET(list_head.prev)", 0, 8)
    if facts.find_offset("page", "compound_head") is not None:
        return unknown
    if lru_off is None or free_huge_page is None or next_off is None or prev_off is None:
        return unknown
    if lru_off + 16 > facts.size("page") or next_off % 8 or prev_off % 8:
        return unknown
    hugetlb = field_test(lru_off + next_off, 8, _U64, free_huge_page, after=True)
    return *_order(lru_off + prev_off, 2), hugetlb
