# SPDX-License-Identifier: GPL-2.0-or-later
"""The lockless log of Linux 5.10 and later: a ring of descriptors, and a ring of text.

Introduced by 896fbe20b4e2 ("printk: use the lockless ringbuffer"). Source:
``kernel/printk/printk_ringbuffer.[ch]``, whose header comment tells how it works. docs/formats.md
has a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Optional

from pydumpfile.errors import FaultError
from pydumpfile.kernel.facts import Facts
from pydumpfile.kernel.log_record import Record, RecordLog
from pydumpfile.kernel.struct_layout import StructLayout
from pydumpfile.memory.space import AddressSpace

_U16, _U32, _U64 = Struct("<H"), Struct("<I"), Struct("<Q")
_WORD_SIZE = 8
_WORD_MASK = (1 << 64) - 1

# A descriptor's state_var: its state in the two highest bits, its ID in the others.
_ID_BITS = 62
_ID_MASK = (1 << _ID_BITS) - 1
_COMMITTED = 1  # written, but its printer may still append to it
_FINALIZED = 2
_REUSABLE = 3  # its place in either ring is given up
# 0 is reserved: somebody was writing it when the kernel died.

# Both ends of a text block odd: there is none. 3 and 3 says that the record is an empty line, 1 and
# 1 that there was no room for its text.
_EMPTY_LINE = (3, 3)

# The text ring is 2 GiB at most, LOG_BUF_LEN_MAX, with a descriptor for each 32 bytes of it.
_MOST_SIZE_BITS = 31
_MOST_COUNT_BITS = _MOST_SIZE_BITS - 5
_BATCH = 64
"""Descriptors read at once: 1.5 KiB, and 5.5 KiB of what goes with them."""


class PrintkRing(RecordLog):
    """The log behind the symbol ``prb``.

    :param partial: only what was logged since the log was last cleared (``dmesg -C``).
    :raises MissingFactError: the description lacks a symbol, size or offset that is needed.
    :raises FormatError: one of them cannot be.
    :raises FaultError: there is no ring where it should be.
    """

    def __init__(self, facts: Facts, memory: AddressSpace, partial: bool) -> None:
        self._memory = memory
        ring = StructLayout(facts, "printk_ringbuffer")
        self._vaddr = memory.read_u64(facts.symbol("prb"))
        self._check_pointer(self._vaddr, "its address")
        header = memory.read(self._vaddr, ring.size)
        self._read_text_ring(facts, ring, header)
        self._read_descriptor_ring(facts, ring, header)
        self._record = _RecordLayout(facts)
        self._first_seq = _clear_seq(facts, memory) if partial else 0

    def _read_text_ring(self, facts: Facts, ring: StructLayout, header: bytes) -> None:
        members = StructLayout(facts, "prb_data_ring")
        at = ring.offset("text_data_ring", members.size)
        (self._size_bits,) = _U32.unpack_from(header, at + members.offset("size_bits", 4))
        (self._text_vaddr,) = _U64.unpack_from(header, at + members.offset("data", 8))
        self._check(self._size_bits, _MOST_SIZE_BITS, "size_bits")
        self._check_pointer(self._text_vaddr, "data")
        self._text_size = 1 << self._size_bits

    def _read_descriptor_ring(self, facts: Facts, ring: StructLayout, header: bytes) -> None:
        members = StructLayout(facts, "prb_desc_ring")
        at = ring.offset("desc_ring", members.size)
        counter_off = facts.offset("atomic_long_t", "counter")
        ends = [members.offset(name, counter_off + 8) + counter_off
                for name in ("tail_id", "head_id")]  # fmt: skip
        (count_bits,) = _U32.unpack_from(header, at + members.offset("count_bits", 4))
        (self._descs_vaddr,) = _U64.unpack_from(header, at + members.offset("descs", 8))
        (self._infos_vaddr,) = _U64.unpack_from(header, at + members.offset("infos", 8))
        self._check(count_bits, _MOST_COUNT_BITS, "count_bits")
        self._check_pointer(self._descs_vaddr, "descs")
        self._check_pointer(self._infos_vaddr, "infos")
        self._count = 1 << count_bits
        self._tail_id, head_id = (_U64.unpack_from(header, at + off)[0] & _ID_MASK for off in ends)
        self._n_records = (head_id - self._tail_id & _ID_MASK) + 1
        self._check(
            self._n_records, self._count,
            f"number of descriptors from tail_id {self._tail_id:#x} to head_id {head_id:#x}",
        )  # fmt: skip

    def records(self) -> Iterator[Record]:
        record = self._record
        for record_id, desc, info in self._entries():
            if desc is None:
                self.unreadable += 1
                continue
            state_var = record.state_var(desc)
            state = state_var >> _ID_BITS
            if state_var & _ID_MASK != record_id or state not in (_COMMITTED, _FINALIZED):
                # Tail records are given up early, as it suits the text ring: that is no loss.
                self.unfinished += state != _REUSABLE or state_var & _ID_MASK != record_id
                continue
            if info is None:
                self.unreadable += 1
                continue
            if record.seq(info) < self._first_seq:
                continue
            try:
                text = self._text(*record.block(desc), record.text_len(info))
            except FaultError:
                self.unreadable += 1
                continue
            if text is None:
                self.unfinished += 1
                continue
            yield Record(record.ts_nsec(info), record.caller_id(info), text)

    def _entries(self) -> Iterator[tuple[int, Optional[memoryview], Optional[memoryview]]]:
        """ID, descriptor and printk_info of each record; None for what cannot be read."""
        record = self._record
        done = 0
        while done < self._n_records:
            first = (self._tail_id + done) % self._count
            n = min(_BATCH, self._n_records - done, self._count - first)
            descs = self._array(self._descs_vaddr, first, n, record.desc_size)
            infos = self._array(self._infos_vaddr, first, n, record.info_size)
            for i in range(n):
                yield self._tail_id + done + i & _ID_MASK, descs[i], infos[i]
            done += n

    def _array(self, vaddr: int, first: int, n: int, size: int) -> list[Optional[memoryview]]:
        """Elements ``[first, first + n)`` of an array."""
        lost: list[int] = []
        try:
            content = memoryview(self._memory.read(vaddr + first * size, n * size))
        except FaultError:
            salvaged, lost = self._memory.salvage(vaddr + first * size, n * size, size)
            content = memoryview(salvaged)
        return [None if i in lost else content[i * size : (i + 1) * size] for i in range(n)]

    def _text(self, begin: int, end: int, text_len: int) -> Optional[bytes]:
        """The text of the block from logical position ``begin`` to ``end``.

        None if these cannot delimit a block.

        :raises FaultError: its bytes cannot be read.
        """
        if begin & end & 1:
            return b"" if (begin, end) == _EMPTY_LINE else None
        if begin % _WORD_SIZE or end % _WORD_SIZE:
            return None
        # A block that would not fit before the end of the array starts over at its beginning.
        # Since 67e1b0052f6b (Linux 6.18) one that just fits is left where it is; before, it moved
        # too, so that no block ended there. Where the last byte is tells for both.
        last_wrap = (end - 1 & _WORD_MASK) >> self._size_bits
        start = begin % self._text_size
        size = end - begin & _WORD_MASK
        if begin >> self._size_bits != last_wrap:
            if (begin + self._text_size & _WORD_MASK) >> self._size_bits != last_wrap:
                return None
            start, size = 0, end % self._text_size
        if not _WORD_SIZE <= size <= self._text_size:
            return None
        # In front of the text stands the descriptor's ID. A record longer than its block is
        # damaged; what the block has of it is better than nothing.
        return self._memory.read(
            self._text_vaddr + start + _WORD_SIZE, min(text_len, size - _WORD_SIZE)
        )

    def _check(self, value: int, most: int, what: str) -> None:
        if not 1 <= value <= most:
            raise self._damaged(f"{what} is {value}, expected 1 to {most}")

    def _check_pointer(self, vaddr: int, what: str) -> None:
        if not self._memory.is_kernel(vaddr):
            raise self._damaged(f"{what} is {vaddr:#x}, expected an address of the kernel")

    def _damaged(self, how: str) -> FaultError:
        return FaultError(
            self._vaddr, "virtual", f"should hold the kernel's printk_ringbuffer, but {how}; the "
            "core's VMCOREINFO does not fit its memory, or the log is damaged",
        )  # fmt: skip


class _RecordLayout:
    """Where a record's descriptor (``prb_desc``) and ``printk_info`` have what is wanted."""

    def __init__(self, facts: Facts) -> None:
        counter_off = facts.offset("atomic_long_t", "counter")
        block = StructLayout(facts, "prb_data_blk_lpos")
        desc = StructLayout(facts, "prb_desc")
        info = StructLayout(facts, "printk_info")
        self.desc_size = desc.size
        self.info_size = info.size
        self._state_off = desc.offset("state_var", counter_off + 8) + counter_off
        block_off = desc.offset("text_blk_lpos", block.size)
        self._begin_off = block_off + block.offset("begin", 8)
        self._next_off = block_off + block.offset("next", 8)
        self._seq_off = info.offset("seq", 8)
        self._ts_nsec_off = info.offset("ts_nsec", 8)
        self._text_len_off = info.offset("text_len", 2)
        self._caller_id_off = info.find_offset("caller_id", 4)

    def state_var(self, desc: memoryview) -> int:
        return _number(_U64, desc, self._state_off)

    def block(self, desc: memoryview) -> tuple[int, int]:
        """Logical positions of the text block's start and end, which only ever grow."""
        return _number(_U64, desc, self._begin_off), _number(_U64, desc, self._next_off)

    def seq(self, info: memoryview) -> int:
        return _number(_U64, info, self._seq_off)

    def ts_nsec(self, info: memoryview) -> int:
        return _number(_U64, info, self._ts_nsec_off)

    def text_len(self, info: memoryview) -> int:
        return _number(_U16, info, self._text_len_off)

    def caller_id(self, info: memoryview) -> Optional[int]:
        if self._caller_id_off is None:
            return None
        return _number(_U32, info, self._caller_id_off)


def _number(form: Struct, content: memoryview, off: int) -> int:
    return int(form.unpack_from(content, off)[0])


def _clear_seq(facts: Facts, memory: AddressSpace) -> int:
    """Sequence number of the first record after the log was last cleared.

    A plain u64, or since 7d7a23a91c91 (Linux 5.13) a latch of two of which the first word's lowest
    bit tells the one that was not being written.
    """
    vaddr = facts.symbol("clear_seq")
    if facts.find_offset("latched_seq", "val") is None:
        return memory.read_u64(vaddr)
    latch = StructLayout(facts, "latched_seq")
    values_off = latch.offset("val", 2 * _U64.size)
    content = memory.read(vaddr, latch.size)
    (sequence,) = _U32.unpack_from(content)
    return int(_U64.unpack_from(content, values_off + (sequence & 1) * _U64.size)[0])
