# SPDX-License-Identifier: GPL-2.0-or-later
"""Imitates the kernel's printk: three writers of a log, each of which knows what it still holds.

Source: kernel/printk/printk_ringbuffer.c of 6.12 and what changed in 6.18; kernel/printk/printk.c
of 5.4; kernel/printk.c of 3.2. Space between and behind what is written is noise, so that a reader
who looks at too much is found out.
"""

from __future__ import annotations

import abc
import string
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Optional, Union

Value = Union[int, str]

_RESERVED, _COMMITTED, _FINALIZED, _REUSABLE = range(4)
STATES = {
    "reserved": _RESERVED, "committed": _COMMITTED, "finalized": _FINALIZED, "reusable": _REUSABLE,
}  # fmt: skip
_ID_MASK = (1 << 62) - 1
_WORD_MASK = (1 << 64) - 1
_FAILED, _EMPTY_LINE = 1, 3


class Message(NamedTuple):
    """What a reader should find of one record."""

    ts_nsec: int
    caller_id: int
    text: bytes


def printed(messages: Sequence[Message], callers: bool) -> bytes:
    """The messages as --dump-dmesg shows them; `callers` with who printed each."""
    output = ""
    for ts_nsec, caller_id, text in messages:
        prefix = f"[{ts_nsec // 10**9:5}.{ts_nsec // 1000 % 10**6:06}] "
        if callers:
            who = f"C{caller_id - 2**31}" if caller_id >= 2**31 else f"T{caller_id}"
            prefix += f"[{who:>8}] "
        output += prefix
        for byte in text:
            character = chr(byte)
            if character == "\n":
                output += "\n" + len(prefix) * " "
            elif character in string.printable:
                output += character
            else:
                output += f"\\x{byte:02x}"
        output += "\n"
    return output.encode("ascii")


class Place(NamedTuple):
    """Addresses of the memory a log lies in, each of a stretch large enough."""

    image_vaddr: int  # for variables
    arrays_vaddr: int  # for descriptors
    infos_vaddr: int
    text_vaddr: int


@dataclass(frozen=True)
class Image:
    """A log as memory: VMCOREINFO's lines, and bytes at virtual addresses."""

    keys: Mapping[str, Value]
    pieces: Sequence[tuple[int, bytes]]


class LogWriter(abc.ABC):
    """One format of the log, written into as a running kernel does."""

    @abc.abstractmethod
    def store(self, text: bytes, ts_nsec: int = 0, caller_id: int = 0) -> None:
        """Print one message."""

    @abc.abstractmethod
    def clear(self) -> None:
        """`dmesg -C`."""

    @abc.abstractmethod
    def image(self, place: Place) -> Image:
        """The log in memory at the moment."""


@dataclass
class _Record:
    seq: int
    id: int
    state: int
    begin: int
    next: int
    message: Message
    text_len: int


class LocklessRing(LogWriter):
    """Linux 5.10 and later.

    :param first_lpos: logical position of the first text; the kernel starts a wrap before 0.
    :param fits_exactly: since 6.18 a block that ends where the array does is not moved.
    :param latched: clear_seq is a latch, since 5.13.
    :param padding: bytes added between the members of every structure.
    """

    def __init__(
        self,
        count_bits: int = 6,
        size_bits: int = 11,
        *,
        first_lpos: Optional[int] = None,
        fits_exactly: bool = False,
        latched: bool = True,
        padding: int = 0,
        seed: int = 1,
    ) -> None:
        self.count, self.size = 1 << count_bits, 1 << size_bits
        self._bits = (count_bits, size_bits)
        self._fits_exactly, self._latched, self._padding = fits_exactly, latched, padding
        self.head_id = self.tail_id = -(self.count + 1) & _ID_MASK
        self.head_lpos = self._tail_lpos = (
            -self.size if first_lpos is None else first_lpos
        ) & _WORD_MASK
        self._next_seq = self._clear_seq = 0
        self._noise = Random(seed)
        self._data = bytearray(self._noise.randbytes(self.size))
        # In its place before there are any is the descriptor of a record that never was.
        nobody = Message(0, 0, b"")
        self.slots: list[Optional[_Record]] = [None] * self.count
        self.slots[-1] = _Record(0, self.head_id, _REUSABLE, _FAILED, _FAILED, nobody, 0)
        self._blocks: deque[_Record] = deque()

    def store(
        self, text: bytes, ts_nsec: int = 0, caller_id: int = 0, state: str = "finalized",
        failed: bool = False,
    ) -> None:  # fmt: skip
        """Print one message.

        :param state: how far its writer came before the kernel died.
        :param failed: there was no room for the text.
        """
        head_id = self.head_id + 1 & _ID_MASK
        if head_id - self.tail_id & _ID_MASK >= self.count:
            self._push_tail()
        self.head_id = head_id
        record = _Record(
            self._next_seq, head_id, STATES[state], _FAILED, _FAILED,
            Message(ts_nsec, caller_id, text), len(text),
        )  # fmt: skip
        self.slots[head_id % self.count] = record
        self._next_seq += 1
        if not failed:
            self._allocate(record)

    def _push_tail(self) -> None:
        slot = self.slots[self.tail_id % self.count]
        assert slot is not None
        slot.state = _REUSABLE
        while slot in self._blocks:
            self._drop_block()
        self.tail_id = self.tail_id + 1 & _ID_MASK

    def _drop_block(self) -> None:
        record = self._blocks.popleft()
        record.state = _REUSABLE
        self._tail_lpos = record.next

    def _allocate(self, record: _Record) -> None:
        text = record.message.text
        if not text:
            record.begin = record.next = _EMPTY_LINE
            return
        size = 8 + len(text) + -len(text) % 8
        if size > self.size - 8:
            raise ValueError("the kernel refuses a text this long")
        record.begin = self.head_lpos
        record.next = record.begin + size & _WORD_MASK
        last = record.next - 1 if self._fits_exactly else record.next
        at = record.begin % self.size
        if (last & _WORD_MASK) // self.size != record.begin // self.size:
            start = at
            at = 0
            record.next = (record.next - record.next % self.size) + size & _WORD_MASK
            if self._fits_exactly:
                wrap = (record.begin // self.size + 1) * self.size
                record.next = wrap + size & _WORD_MASK
            self._put_id(start, record.id)
        while (record.next - self._tail_lpos & _WORD_MASK) > self.size:
            self._drop_block()
        self.head_lpos = record.next
        self._blocks.append(record)
        self._data[at : at + size] = self._noise.randbytes(size)
        self._put_id(at, record.id)
        self._data[at + 8 : at + 8 + len(text)] = text

    def _put_id(self, at: int, record_id: int) -> None:
        struct.pack_into("<Q", self._data, at, record_id)

    def reserve_and_die(self) -> None:
        """Take a descriptor, and get no further than to move the head: it still has its old ID."""
        old = self.slots[(self.head_id + 1) % self.count]
        self.store(b"", state="reserved")
        self.slots[self.head_id % self.count] = old
        self._next_seq -= 1

    def clear(self) -> None:
        self._clear_seq = self._next_seq

    def alive(self, partial: bool = False) -> list[_Record]:
        """Records of which the whole text is there, oldest first."""
        span = (self.head_id - self.tail_id & _ID_MASK) + 1
        slots = [self.slots[(self.tail_id + i) % self.count] for i in range(span)]
        return [
            slot
            for slot in slots
            if slot is not None
            and slot.state in (_COMMITTED, _FINALIZED)
            and (slot.begin, slot.next) != (_FAILED, _FAILED)
            and not (partial and slot.seq < self._clear_seq)
        ]

    def messages(self, partial: bool = False) -> list[Message]:
        """What a reader should find."""
        return [slot.message for slot in self.alive(partial)]

    def image(self, place: Place) -> Image:
        pad = self._padding
        keys: dict[str, Value] = {}

        def layout(name: str, **sizes: int) -> dict[str, int]:
            offsets, at = {}, pad
            for member, size in sizes.items():
                offsets[member] = at
                keys[f"OFFSET({name}.{member})"] = at
                at += size + pad
            keys[f"SIZE({name})"] = at
            return {**offsets, "": at}

        atomic = layout("atomic_long_t", counter=8)
        lpos = layout("prb_data_blk_lpos", begin=8, next=8)
        desc = layout("prb_desc", state_var=atomic[""], text_blk_lpos=lpos[""])
        info = layout(
            "printk_info", seq=8, ts_nsec=8, text_len=2, facility=2, caller_id=4, dev_info=64
        )
        data_ring = layout(
            "prb_data_ring", size_bits=8, data=8, head_lpos=atomic[""], tail_lpos=atomic[""]
        )
        desc_ring = layout(
            "prb_desc_ring", count_bits=8, descs=8, infos=8, head_id=atomic[""],
            tail_id=atomic[""], last_finalized_seq=atomic[""],
        )  # fmt: skip
        ring = layout(
            "printk_ringbuffer", desc_ring=desc_ring[""], text_data_ring=data_ring[""],
            fail=atomic[""],
        )  # fmt: skip

        def fill(layout_of: Mapping[str, int], *fields: tuple[int, str, int]) -> bytes:
            content = bytearray(self._noise.randbytes(layout_of[""]))
            for at, form, value in fields:
                struct.pack_into(form, content, at, value)
            return bytes(content)

        at, counter = ring["desc_ring"], atomic["counter"]
        text_at = ring["text_data_ring"]
        header = fill(
            ring,
            (at + desc_ring["count_bits"], "<I", self._bits[0]),
            (at + desc_ring["descs"], "<Q", place.arrays_vaddr),
            (at + desc_ring["infos"], "<Q", place.infos_vaddr),
            (at + desc_ring["head_id"] + counter, "<Q", self.head_id),
            (at + desc_ring["tail_id"] + counter, "<Q", self.tail_id),
            (text_at + data_ring["size_bits"], "<I", self._bits[1]),
            (text_at + data_ring["data"], "<Q", place.text_vaddr),
            (text_at + data_ring["head_lpos"] + counter, "<Q", self.head_lpos),
            (text_at + data_ring["tail_lpos"] + counter, "<Q", self._tail_lpos),
        )
        descs, infos = b"", b""
        for slot in self.slots:
            if slot is None:
                descs += bytes(desc[""])
                infos += bytes(info[""])
                continue
            block_at = desc["text_blk_lpos"]
            descs += fill(
                desc,
                (desc["state_var"] + counter, "<Q", slot.state << 62 | slot.id),
                (block_at + lpos["begin"], "<Q", slot.begin),
                (block_at + lpos["next"], "<Q", slot.next),
            )
            infos += fill(
                info,
                (info["seq"], "<Q", slot.seq),
                (info["ts_nsec"], "<Q", slot.message.ts_nsec),
                (info["text_len"], "<H", slot.text_len),
                (info["caller_id"], "<I", slot.message.caller_id),
            )
        clear_seq = struct.pack("<Q", self._clear_seq)
        if self._latched:
            latch = self._noise.randrange(1 << 32)
            values = [clear_seq, self._noise.randbytes(8)]
            keys["SIZE(latched_seq)"], keys["OFFSET(latched_seq.val)"] = 24, 8
            clear_seq = struct.pack("<Q", latch) + b"".join(values[:: -1 if latch & 1 else 1])
        variables = struct.pack("<Q", place.image_vaddr + 64) + clear_seq
        keys["SYMBOL(prb)"] = f"{place.image_vaddr:x}"
        keys["SYMBOL(clear_seq)"] = f"{place.image_vaddr + 8:x}"
        return Image(
            keys,
            [
                (place.image_vaddr, variables),
                (place.image_vaddr + 64, header),
                (place.arrays_vaddr, descs),
                (place.infos_vaddr, infos),
                (place.text_vaddr, bytes(self._data)),
            ],
        )


class RecordBuffer(LogWriter):
    """Linux 3.5 to 5.9.

    :param struct_name: "log" until 3.10, else "printk_log".
    :param caller: CONFIG_PRINTK_CALLER, which 5.1 brought.
    """

    def __init__(
        self, size: int = 2048, struct_name: str = "printk_log", caller: bool = False, seed: int = 1
    ) -> None:
        self._size, self._struct_name, self.caller = size, struct_name, caller
        self._header_size = 24 if caller else 16
        self._noise = Random(seed)
        self._buffer = bytearray(self._noise.randbytes(size))
        self.first_idx = self.next_idx = self.clear_idx = 0
        self._seq = self._clear_seq = 0
        self._records: deque[tuple[int, int, Message]] = deque()  # seq, place
        self._places: dict[int, int] = {}

    def store(self, text: bytes, ts_nsec: int = 0, caller_id: int = 0) -> None:
        dictionary = b"SUBSYSTEM=noise" if self._noise.random() < 0.3 else b""
        size = self._header_size + len(text) + len(dictionary)
        size += -size % 8
        if size + self._header_size > self._size:
            raise ValueError("the kernel refuses a text this long")
        while not self._has_space(size + self._header_size):
            self._records.popleft()
            self.first_idx = self._records[0][1] if self._records else self.next_idx
        if self.next_idx + size + self._header_size > self._size:
            self._buffer[self.next_idx : self.next_idx + self._header_size] = bytes(
                self._header_size
            )
            self.next_idx = 0
            if not self._records:
                self.first_idx = 0
        at = self.next_idx
        header = struct.pack("<QHHHBB", ts_nsec, size, len(text), len(dictionary), 0, 0xC6)
        if self.caller:
            header += struct.pack("<II", caller_id, 0)
        content = header + text + dictionary
        self._buffer[at : at + size] = content + self._noise.randbytes(size - len(content))
        self._records.append((self._seq, at, Message(ts_nsec, caller_id, text)))
        self._seq += 1
        self.next_idx += size

    def _has_space(self, needed: int) -> bool:
        if not self._records or self.next_idx > self.first_idx:
            free = max(self._size - self.next_idx, self.first_idx)
            if not self._records:
                free = max(self._size - self.next_idx, self.next_idx)
        else:
            free = self.first_idx - self.next_idx
        return free >= needed

    def clear(self) -> None:
        self.clear_idx, self._clear_seq = self.next_idx, self._seq

    def messages(self, partial: bool = False) -> list[Message]:
        """What a reader should find."""
        return [
            message for seq, _, message in self._records if not (partial and seq < self._clear_seq)
        ]

    def image(self, place: Place) -> Image:
        name = self._struct_name
        keys: dict[str, Value] = {
            f"SIZE({name})": self._header_size,
            f"OFFSET({name}.ts_nsec)": 0,
            f"OFFSET({name}.len)": 8,
            f"OFFSET({name}.text_len)": 10,
            f"OFFSET({name}.dict_len)": 12,
        }
        if self.caller:
            keys[f"OFFSET({name}.caller_id)"] = 16
        values = {
            "log_buf_len": self._size, "log_first_idx": self.first_idx,
            "clear_idx": self.clear_idx, "log_next_idx": self.next_idx,
        }  # fmt: skip
        return _with_variables(keys, values, bytes(self._buffer), place)


class ByteRing(LogWriter):
    """Linux 3.4 and before.

    :param log_end: characters printed before the first one; the counter has 32 bits.
    """

    def __init__(self, size: int = 1024, log_end: int = 0) -> None:
        self._size, self._end, self._logged = size, log_end, 0
        self._buffer = bytearray(size)
        self._printed = b""
        self._cleared_at = 0

    def store(self, text: bytes, ts_nsec: int = 0, caller_id: int = 0) -> None:  # noqa: ARG002
        """Print `text` as it is, with level and time stamp if there are any."""
        for byte in text:
            self._buffer[self._end % self._size] = byte
            self._end = self._end + 1 & 0xFFFFFFFF
            self._logged = min(self._logged + 1, self._size)
        self._printed += text

    def clear(self) -> None:
        self._logged, self._cleared_at = 0, len(self._printed)

    def text(self, partial: bool = False) -> bytes:
        """What a reader should find."""
        start = max(len(self._printed) - self._size, 0)
        return self._printed[max(start, self._cleared_at) if partial else start :]

    def image(self, place: Place) -> Image:
        values = {
            "log_end": self._end, "log_buf_len": self._size, "logged_chars": self._logged,
        }  # fmt: skip
        return _with_variables({}, values, bytes(self._buffer), place)


def _with_variables(
    keys: Mapping[str, Value], values: Mapping[str, int], buffer: bytes, place: Place
) -> Image:
    """Image of a log at log_buf, with u32 variables, each with its symbol."""
    symbols: dict[str, Value] = {"SYMBOL(log_buf)": f"{place.image_vaddr:x}"}
    variables = struct.pack("<Q", place.text_vaddr)
    for name, value in values.items():
        symbols[f"SYMBOL({name})"] = f"{place.image_vaddr + len(variables):x}"
        variables += struct.pack("<I", value)
    return Image({**symbols, **keys}, [(place.image_vaddr, variables), (place.text_vaddr, buffer)])
