# SPDX-License-Identifier: GPL-2.0-or-later
"""A plausible random population of struct pages: every kind of page the dump levels tell apart."""

# ruff: noqa: ARG002 - the makers of all kinds are called alike
from __future__ import annotations

from random import Random
from typing import Callable

from .layouts import Layout
from .structpage import NODE_ZONE_BITS, WORD_MASK, StructPage

Block = list[StructPage]

# What a place in memory is to `populate`: usable, taken by the builder's own data, or no RAM.
USABLE, KERNEL, HOLE = 0, 1, 2

MAX_BUDDY_ORDER = 10
GIGANTIC_ORDER = 18
_HUGE_ORDER = 9
_FAKE_HEAD_STEP = 64  # struct pages in one 4 KiB page of vmemmap
_TAIL_MAPPING = 0xDEAD000000000400
_ANON, _MOVABLE = 1, 2  # include/linux/page-flags.h, PAGE_MAPPING_*
_DTOR_COMPOUND, _DTOR_HUGETLB = 1, 2


class PageMaker:
    """Makes blocks of struct pages, one method a kind of page.

    Every method, whether it needs them or not, takes (pfn, order limit) and returns 2^order
    records, order <= limit.

    :param page_vaddr: address of the struct page of a pfn.
    :param hwpoison: some pages are poisoned.
    :param hvo: hugetlb pages may have fake heads, if the layout knows them.
    :param bad_orders: some free blocks have an impossible order.
    :param all_free: nothing but free blocks, as large as possible.
    """

    def __init__(
        self,
        layout: Layout,
        rng: Random,
        page_vaddr: Callable[[int], int],
        *,
        hwpoison: bool,
        hvo: bool,
        bad_orders: bool = True,
        all_free: bool = False,
    ) -> None:
        self._layout = layout
        self._rng = rng
        self._page_vaddr = page_vaddr
        self._hvo = hvo
        self._bits = {name: 1 << bit for name, bit in layout.flags.items()}
        self._gigantic: dict[int, Block] = {}
        self.buddy_blocks: list[tuple[int, int]] = []  # (pfn, order), the sane ones only
        kinds: list[tuple[Callable[[int, int], Block], int]] = [
            (self.kernel, 10), (self.reserved, 2), (self.kernel_compound, 4), (self.movable, 3),
            (self.page_table, 3), (self.slab, 8), (self.buddy, 10), (self.largest_buddy, 4),
            (self.bad_buddy, 2),
            (self.anon, 20), (self.anon_compound, 6), (self.ksm, 3), (self.swapcache, 4),
            (self.cache, 20), (self.cache_compound, 6), (self.shmem, 5), (self.owner_private, 3),
            (self.hugetlb, 3), (self.offline, 3), (self.misaligned_head, 3), (self.late_head, 3),
        ]  # fmt: skip
        if hwpoison:
            kinds.append((self.poisoned, 4))
        if "unaccepted" in layout.types:
            kinds.append((self.unaccepted, 2))
        if not bad_orders:
            kinds = [(maker, weight) for maker, weight in kinds if maker != self.bad_buddy]
        if all_free:
            kinds = [(self.largest_buddy, 1)]
        self._makers = [maker for maker, _ in kinds]
        self._weights = [weight for _, weight in kinds]
        self.plain_kernel_page = StructPage()
        self.reserved_page = StructPage(flags=self._flags("reserved"))

    def random_block(self, pfn: int, limit: int) -> Block:
        """A block of a random kind."""
        maker = self._rng.choices(self._makers, self._weights)[0]
        return maker(pfn, limit)

    # Pieces of a struct page.

    def _flags(self, *names: str) -> int:
        flags = NODE_ZONE_BITS
        for name in names:
            flags |= self._bits.get(name, 0)
        return flags

    def _some_flags(self, *names: str) -> int:
        """`names`, and now and then flags that no rule may care about."""
        extra = [name for name in ("referenced", "uptodate", "dirty", "active") if self._one_in(2)]
        if self._one_in(5):
            extra.append("waiters")  # bit 7: the place where PG_slab is looked for by default
        return self._flags(*names, *extra)

    def _one_in(self, n: int) -> bool:
        return self._rng.randrange(n) == 0

    def _pointer(self) -> int:
        return 0xFFFF888000000000 | self._rng.randrange(1 << 32) << 6

    def _order(self, least: int, most: int, limit: int) -> int:
        return min(self._rng.randint(least, most), limit)

    def _type(self, name: str) -> int:
        return self._layout.types[name]

    def _single(self, flags: int, **words: int) -> StructPage:
        words.setdefault("lru_next", self._pointer())
        words.setdefault("lru_prev", self._pointer())
        return StructPage(flags=flags, **words)

    # Compound pages.

    def _compound(self, pfn: int, order: int, head: StructPage, hugetlb: bool = False) -> Block:
        """Head, the first tail that holds order and mark, and plain tails."""
        layout = self._layout
        head = head._replace(flags=head.flags | self._bits["head"])
        if hugetlb and layout.compound == "head_type":
            head = head._replace(mapcount=self._type("hugetlb"))
        link = self._page_vaddr(pfn) | 1
        if layout.compound_mask:
            link = ~((layout.size << order) - 1) & WORD_MASK | 1
        tail = StructPage(lru_next=link, mapping=_TAIL_MAPPING, refcount=0)
        first_tail = tail
        if layout.compound in ("page_dtor", "folio_dtor"):
            dtor = _DTOR_HUGETLB if hugetlb else _DTOR_COMPOUND
            first_tail = tail._replace(lru_prev=dtor | order << 8)
        else:
            first_flags = tail.flags | order
            if hugetlb and layout.pg_hugetlb is not None:
                first_flags |= 1 << layout.pg_hugetlb
            first_tail = tail._replace(flags=first_flags)
        block = [head, first_tail] + [tail] * ((1 << order) - 2)
        if hugetlb and layout.fake_heads and self._hvo and not self._one_in(3):
            # The vmemmap pages behind the first are the first one again (mm/hugetlb_vmemmap.c).
            block = block[:_FAKE_HEAD_STEP] * max(1, (1 << order) // _FAKE_HEAD_STEP)
        return block

    def _one_or_compound(self, pfn: int, order: int, head: StructPage) -> Block:
        return [head] if order == 0 else self._compound(pfn, order, head)

    # Kernel memory.

    def kernel(self, pfn: int, limit: int) -> Block:
        """Pages of no particular kind; never removed."""
        page = self._single(self._some_flags(), private=self._rng.randrange(16))
        return [page] * (1 << self._order(0, 4, limit))

    def reserved(self, pfn: int, limit: int) -> Block:
        """PG_reserved pages."""
        return [self.reserved_page] * (1 << self._order(0, 5, limit))

    def kernel_compound(self, pfn: int, limit: int) -> Block:
        """A compound allocation of the kernel; a later private bit set is no cache."""
        order = self._order(1, 9, limit)
        return self._one_or_compound(pfn, order, self._single(self._some_flags("private")))

    def page_table(self, pfn: int, limit: int) -> Block:
        """A page with a type that no rule knows."""
        return [self._single(self._flags(), mapcount=self._type("table"))]

    def movable(self, pfn: int, limit: int) -> Block:
        """A driver's movable page (bit 1 of mapping alone), not anonymous."""
        return [self._single(self._some_flags(), mapping=self._pointer() | _MOVABLE)]

    def slab(self, pfn: int, limit: int) -> Block:
        """Slab memory; from 6.2 a number, maybe odd, is where `mapping` would be."""
        mapping = self._rng.randrange(64) if self._layout.slab_in_mapping else self._pointer()
        mapcount = self._layout.types.get("slab", self._rng.randrange(1 << 20))
        head = self._single(self._flags("slab"), mapping=mapping, mapcount=mapcount)
        return self._one_or_compound(pfn, self._order(0, 5, limit), head)

    def owner_private(self, pfn: int, limit: int) -> Block:
        """PG_owner_priv_1 of a kernel page shares its bit with PG_swapcache."""
        return [self._single(self._flags("swapcache"))]

    # Free memory.

    def buddy(self, pfn: int, limit: int) -> Block:
        """A free block: only its first page has the type, and the order in private."""
        return self._buddy(pfn, self._order(0, MAX_BUDDY_ORDER, limit))

    def largest_buddy(self, pfn: int, limit: int) -> Block:
        """A free block as large as possible."""
        return self._buddy(pfn, min(MAX_BUDDY_ORDER, limit))

    def _buddy(self, pfn: int, order: int) -> Block:
        head = self._single(self._flags(), mapcount=self._type("buddy"), private=order, refcount=0)
        rest = StructPage(private=self._rng.randrange(8), refcount=0)
        self.buddy_blocks.append((pfn, order))
        return [head] + [rest] * ((1 << order) - 1)

    def bad_buddy(self, pfn: int, limit: int) -> Block:
        """A free page with an impossible order: kept, whatever else it is."""
        private = self._rng.choice((11, 12, 63, 64, 1 << 32, WORD_MASK, self._pointer()))
        flags = self._some_flags(*self._rng.choice(((), ("lru",), ("hwpoison",))))
        mapping = self._rng.choice((0, self._pointer() | _ANON))
        mapcount = self._type("buddy")
        return [self._single(flags, mapcount=mapcount, private=private, mapping=mapping)]

    def unaccepted(self, pfn: int, limit: int) -> Block:
        """Memory a confidential guest has not accepted: blocks of the highest order."""
        if limit < MAX_BUDDY_ORDER:
            return [self.plain_kernel_page]
        head = self._single(self._flags(), mapcount=self._type("unaccepted"), refcount=0)
        return [head] + [StructPage(refcount=0)] * ((1 << MAX_BUDDY_ORDER) - 1)

    # User data.

    def _anon_head(self, *flags: str) -> StructPage:
        return self._single(
            self._some_flags("lru", "swapbacked", *flags),
            mapping=self._pointer() | _ANON,
            mapcount=self._rng.randrange(-1, 4),
        )

    def anon(self, pfn: int, limit: int) -> Block:
        """Single anonymous pages, some off the LRU, some with PG_private."""
        page = self._anon_head(*(("private",) if self._one_in(6) else ()))
        if self._one_in(6):
            page = page._replace(flags=page.flags & ~self._bits["lru"])
        return [page]

    def anon_compound(self, pfn: int, limit: int) -> Block:
        """A transparent huge page of any order."""
        order = 9 if self._one_in(2) and limit >= 9 else self._order(2, 9, limit)
        return self._one_or_compound(pfn, order, self._anon_head())

    def ksm(self, pfn: int, limit: int) -> Block:
        """A merged page: bits 0 and 1 of mapping."""
        page = self._anon_head()
        return [page._replace(mapping=page.mapping | _MOVABLE)]

    def swapcache(self, pfn: int, limit: int) -> Block:
        """In the swap cache: anonymous, or not yet mapped and hence cache."""
        page = self._anon_head("swapcache")
        if self._one_in(2):
            page = page._replace(mapping=0, flags=page.flags & ~self._bits["lru"])
        return [page._replace(private=self._rng.randrange(1 << 40))]

    def hugetlb(self, pfn: int, limit: int) -> Block:
        """A 2 MiB hugetlb page, smaller where that does not fit; anonymous or a file's."""
        order = min(_HUGE_ORDER, limit)
        if order < 3:  # the kernel needs a few tails for its own records
            return [self.plain_kernel_page]
        mapping = self._pointer() | (_ANON if self._one_in(2) else 0)
        return self._compound(pfn, order, self._single(self._flags(), mapping=mapping), True)

    def gigantic(self, pfn: int) -> Block:
        """A 1 GiB hugetlb page; the same one each time it is asked for."""
        if pfn not in self._gigantic:
            head = self._single(self._flags(), mapping=self._pointer())
            self._gigantic[pfn] = self._compound(pfn, GIGANTIC_ORDER, head, True)
        return self._gigantic[pfn]

    # Cache.

    def cache(self, pfn: int, limit: int) -> Block:
        """File pages on the LRU, with and without PG_private."""
        flags = ("lru", "private") if self._one_in(3) else ("lru",)
        page = self._single(self._some_flags(*flags), mapping=self._pointer())
        return [page._replace(mapcount=self._rng.randrange(-1, 3))]

    def cache_compound(self, pfn: int, limit: int) -> Block:
        """A large folio of the page cache."""
        head = self.cache(pfn, limit)[0]
        return self._one_or_compound(pfn, self._order(1, 9, limit), head)

    def shmem(self, pfn: int, limit: int) -> Block:
        """tmpfs: swap-backed, on the LRU, not anonymous."""
        head = self._single(self._some_flags("lru", "swapbacked"), mapping=self._pointer())
        order = 9 if limit >= 9 and self._one_in(6) else 0
        return self._one_or_compound(pfn, order, head)

    # Pages that no dump gets.

    def poisoned(self, pfn: int, limit: int) -> Block:
        """PG_hwpoison alone, with user data or cache, on a whole compound page."""
        base = self._rng.choice((self._single(self._flags()), self._anon_head()))
        if self._one_in(3):
            base = self.cache(pfn, limit)[0]
        head = base._replace(flags=base.flags | self._bits["hwpoison"])
        order = self._order(1, 5, limit) if self._one_in(3) else 0
        return self._one_or_compound(pfn, order, head)

    def offline(self, pfn: int, limit: int) -> Block:
        """Logically offline pages, each with its type."""
        page = self._single(self._flags(), mapcount=self._type("offline"))
        return [page] * (1 << self._order(0, 6, limit))

    # Heads that are none.

    def misaligned_head(self, pfn: int, limit: int) -> Block:
        """A head whose order does not fit its pfn counts as one page."""
        head = self._rng.choice((self._anon_head(), self.cache(pfn, limit)[0]))
        block = self._compound(pfn, 4, head)
        if pfn % 16 == 0 or limit < 1:
            return [self.plain_kernel_page]
        return block[:2]

    def late_head(self, pfn: int, limit: int) -> Block:
        """A head in the last place of a group of 512: its order and mark are not looked at."""
        if pfn % 512 != 511:
            return [self.plain_kernel_page]
        if self._one_in(2):
            return [self._compound(pfn, 1, self._single(self._flags()), True)[0]]
        return [self._compound(pfn, 1, self._anon_head())[0]]


def populate(
    maker: PageMaker, start_pfn: int, kinds: bytes, gigantic_pfns: frozenset[int]
) -> list[StructPage]:
    """Struct pages for the pfns from `start_pfn` on.

    :param kinds: one byte a pfn, see `USABLE`.
    :param gigantic_pfns: first pfns of 1 GiB pages; the ranges they cover are usable throughout.
    """
    pages: list[StructPage] = []
    end = len(kinds)
    while len(pages) < end:
        at = len(pages)
        pfn = start_pfn + at
        if kinds[at] != USABLE:
            page = maker.plain_kernel_page if kinds[at] == KERNEL else maker.reserved_page
            run = 1
            while at + run < end and kinds[at + run] == kinds[at]:
                run += 1
            pages += [page] * run
            continue
        giga_pfn = pfn >> GIGANTIC_ORDER << GIGANTIC_ORDER
        if giga_pfn in gigantic_pfns:
            first = pfn - giga_pfn
            pages += maker.gigantic(giga_pfn)[first : first + end - at]
            continue
        blockers = (kinds.find(KERNEL, at), kinds.find(HOLE, at), end)
        room = min(blocker for blocker in blockers if blocker >= 0) - at
        aligned = (pfn & -pfn).bit_length() - 1 if pfn else GIGANTIC_ORDER
        pages += maker.random_block(pfn, min(aligned, room.bit_length() - 1))
    return pages
