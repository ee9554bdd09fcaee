# SPDX-License-Identifier: GPL-2.0-or-later
"""The logs before Linux 5.10, both in the memory at ``log_buf``: bytes, later records, in a ring.

Bytes until 3.4; records of a header and a text since 7ff9554bb578 ("printk: convert byte-buffer to
variable-length record buffer"). Source: ``kernel/printk.c``, later ``kernel/printk/printk.c``.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Optional

from pydumpfile.errors import FaultError
from pydumpfile.kernel.facts import Facts
from pydumpfile.kernel.log_record import Log, Record, RecordLog
from pydumpfile.kernel.struct_layout import StructLayout
from pydumpfile.memory.space import AddressSpace

_U16, _U32, _U64 = Struct("<H"), Struct("<I"), Struct("<Q")
_MOST_SIZE = 1 << 31  # LOG_BUF_LEN_MAX
_PIECE = 4096
"""Bytes of a byte ring read at once, and the longest stretch given as one line."""


class _Buffer:
    """The ring's bytes: where they are, and how many."""

    def __init__(self, facts: Facts, memory: AddressSpace) -> None:
        self._memory = memory
        self.vaddr = memory.read_u64(facts.symbol("log_buf"))
        self.size = _read_u32(facts, memory, "log_buf_len")
        if not memory.is_kernel(self.vaddr) or not 0 < self.size <= _MOST_SIZE:
            raise FaultError(
                facts.symbol("log_buf"), "virtual", "should hold the address of the kernel's log, "
                f"but that is {self.vaddr:#x} and log_buf_len {self.size:#x}; the core's "
                "VMCOREINFO does not fit its memory, or the log is damaged",
            )  # fmt: skip

    def read(self, off: int, size: int) -> bytes:
        return self._memory.read(self.vaddr + off, size)

    def damaged(self, off: int, how: str) -> FaultError:
        return FaultError(
            self.vaddr + off, "virtual",
            f"should hold a record of the kernel's log, but {how}; the log is damaged from here on",
        )  # fmt: skip


def _read_u32(facts: Facts, memory: AddressSpace, symbol: str) -> int:
    """The unsigned int variable ``symbol``."""
    return int(_U32.unpack(memory.read(facts.symbol(symbol), _U32.size))[0])


class RecordBuffer(RecordLog):
    """The log of Linux 3.5 to 5.9: ``struct printk_log`` with its text behind it, again and again.

    A length of 0 says that the next record is at the start of the buffer.

    :param partial: only what was logged since the log was last cleared (``dmesg -C``).
    :raises MissingFactError: the description lacks a symbol, size or offset that is needed.
    :raises FormatError: one of them cannot be.
    :raises FaultError: there is no log where it should be.
    """

    def __init__(self, facts: Facts, memory: AddressSpace, partial: bool) -> None:
        self._buffer = _Buffer(facts, memory)
        # struct log until 62e32ac3505a (Linux 3.11).
        name = "printk_log" if facts.find("SIZE(printk_log)") is not None else "log"
        header = StructLayout(facts, name)
        self._header_size = header.size
        self._ts_nsec_off = header.offset("ts_nsec", 8)
        self._len_off = header.offset("len", 2)
        self._text_len_off = header.offset("text_len", 2)
        # Linux 5.1 (15ff2069cb7f), and only with CONFIG_PRINTK_CALLER.
        self._caller_id_off = header.find_offset("caller_id", 4)
        self._first_idx = _read_u32(facts, memory, "log_first_idx")
        self._next_idx = _read_u32(facts, memory, "log_next_idx")
        for idx in (self._first_idx, self._next_idx):
            if idx >= self._buffer.size:
                raise self._buffer.damaged(
                    0, f"log_first_idx is {self._first_idx:#x}, log_next_idx {self._next_idx:#x}, "
                    f"in a buffer of {self._buffer.size:#x} bytes",
                )  # fmt: skip
        self._clear_idx = _read_u32(facts, memory, "clear_idx") if partial else None

    def records(self) -> Iterator[Record]:
        cleared = self._clear_idx is not None and self._is_current(self._clear_idx)
        for idx, header in self._headers():
            cleared = cleared and idx != self._clear_idx
            if cleared or header is None:
                continue
            (text_len,) = _U16.unpack_from(header, self._text_len_off)
            (ts_nsec,) = _U64.unpack_from(header, self._ts_nsec_off)
            caller_id = None
            if self._caller_id_off is not None:
                (caller_id,) = _U32.unpack_from(header, self._caller_id_off)
            try:
                text = self._buffer.read(idx + self._header_size, text_len)
            except FaultError:
                self.unreadable += 1
                continue
            yield Record(ts_nsec, caller_id, text)

    def _is_current(self, clear_idx: int) -> bool:
        """Whether a record starts, or the next one would start, at ``clear_idx``.

        If none does, what was cleared has been overwritten, and all that is there came later. The
        kernel itself notices that by a number it does not export, clear_seq.
        """
        if clear_idx == self._next_idx:
            return True
        try:
            return any(idx == clear_idx for idx, _ in self._headers())
        except FaultError:
            return False

    def _headers(self) -> Iterator[tuple[int, Optional[bytes]]]:
        """Place and header of every record; None where the buffer starts over."""
        size = self._buffer.size
        idx = self._first_idx
        left = (self._next_idx - idx) % size
        while left:
            if idx + self._header_size > size:
                raise self._buffer.damaged(idx, f"a header does not fit at {idx:#x}")
            header = self._buffer.read(idx, self._header_size)
            (length,) = _U16.unpack_from(header, self._len_off)
            (text_len,) = _U16.unpack_from(header, self._text_len_off)
            to_next = length or size - idx
            if to_next > left or (length and self._header_size + text_len > length):
                raise self._buffer.damaged(
                    idx, f"its len is {length} and its text_len {text_len}, with "
                    f"{left} bytes left up to log_next_idx",
                )  # fmt: skip
            yield idx, header if length else None
            left -= to_next
            idx = (idx + to_next) % size


class ByteRing(Log):
    """The log until Linux 3.4: text as printed, time stamps and levels included if any.

    Given out as it is, which is what makedumpfile does, but for the pages that cannot be read. The
    first line of a full ring has lost its start.

    :param partial: only what was logged since the log was last cleared (``dmesg -c``).
    :raises MissingFactError: the description lacks a symbol that is needed.
    :raises FaultError: there is no log where it should be.
    """

    unit = "page"

    def __init__(self, facts: Facts, memory: AddressSpace, partial: bool) -> None:
        self._buffer = _Buffer(facts, memory)
        size = self._buffer.size
        if size & size - 1:
            raise self._buffer.damaged(0, f"log_buf_len is {size:#x}, expected a power of two")
        # All characters ever printed, modulo 2^32, and those since the last clearing, at most size.
        self._end = _read_u32(facts, memory, "log_end")
        self._n_bytes = min(self._end, size)
        if partial or facts.find_symbol("logged_chars") is not None:
            logged = min(_read_u32(facts, memory, "logged_chars"), size)
            # More of these than log_end counts: it has overflowed, and the ring is full.
            self._n_bytes = logged if partial else max(self._n_bytes, logged)

    def lines(self, callers: bool) -> Iterator[bytes]:  # noqa: ARG002 - the ring does not know them
        line = b""
        told = 0
        for piece in self._pieces():
            if self.unreadable > told:
                if line:
                    yield line + b"\n"
                    line = b""
                yield self._gap(self.unreadable - told)
                told = self.unreadable
            *whole, rest = (line + piece).split(b"\n")
            yield from (each + b"\n" for each in whole)
            line = rest
            if len(line) > _PIECE:
                yield line
                line = b""
        if line:
            yield line + b"\n"
        if self.unreadable > told:
            yield self._gap(self.unreadable - told)

    def _pieces(self) -> Iterator[bytes]:
        """The bytes in the order they were printed; what cannot be read is counted."""
        size = self._buffer.size
        left = self._n_bytes
        while left:
            off = (self._end - left) % size
            n = min(left, size - off, _PIECE - (self._buffer.vaddr + off) % _PIECE)
            try:
                yield self._buffer.read(off, n)
            except FaultError:
                self.unreadable += 1
            left -= n
