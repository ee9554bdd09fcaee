# SPDX-License-Identifier: GPL-2.0-or-later
"""What every source of a dead machine's memory offers, whatever file it comes from."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Optional

from pydumpfile.errors import FaultError
from pydumpfile.pfn import AddressSet, Range, Ranges

MAX_PADDR = 1 << 52
"""No supported machine addresses more: x86_64 has 52 physical address bits at most."""


class Source(abc.ABC):
    """Physical memory of a dead machine, and the notes its kernel left.

    Not for several threads at once, since the bytes that :meth:`view` gives are only good until the
    next call of any method: see :meth:`another`.
    """

    path: str
    machine: str
    """The architecture as utsname spells it: ``x86_64``."""
    exists: AddressSet
    """Physical byte addresses that the machine had as memory."""
    data: AddressSet
    """Those of them for which the file holds bytes, or should; a subset of ``exists``."""
    missing: Ranges = Ranges()
    """Those of an ELF core's ``data`` whose bytes would lie behind the end of the file: it was cut
    short. They cannot be read, like any other byte that is lost."""
    only_system_ram: bool
    """No memory of devices is among it: kexec lists what the kernel itself calls System RAM."""
    is_live: bool = False
    """The machine is running, and its memory changes while it is read."""
    phys_base_hint: Optional[int]
    """phys_base as the file's own layout suggests it, if it does."""
    notes_size: int
    """Bytes of all notes."""
    vmcoreinfo: Optional[bytes]
    """Text of the VMCOREINFO note, if there is one."""
    vmcoreinfo_off: int
    """Where that text starts within the notes; 0 without it."""
    nr_cpus: int
    """NT_PRSTATUS notes: one for each CPU that was up."""
    reads_gaps: bool = True
    """What lies between two wanted ranges costs little to be read along with them."""

    # What a file says that was a dump before; a vmcore says none of it.
    dump_level: Optional[int] = None
    """By what level pages were left out of it; None: it is no dump."""
    incomplete: bool = False
    """Nobody knows what it should have had besides: its writer never finished it."""
    lacks_end_mark: bool = False
    """Which is so because it is a stream that was cut off."""
    utsname_bytes: Optional[bytes] = None
    """``struct new_utsname`` as the writer found it."""
    crash_time: int = 0
    """Seconds since the epoch; 0 if it does not say."""
    eraseinfo: bytes = b""
    """Text that tells what was erased from its pages."""
    lacks_mem_map: bool = False
    """Struct pages of pages left out were left out as well (makedumpfile's ``-e``)."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it is read from, none of which may be written over."""
        return (self.path,)

    @abc.abstractmethod
    def view(self, paddr: int, size: int, wanted: Optional[Sequence[Range]] = None) -> memoryview:
        """The bytes of physical addresses ``[paddr, paddr + size)``, without copying if possible.

        :param wanted: byte ranges relative to ``paddr`` that will be looked at; the rest may be
            anything. Everything if None.
        :raises NotInDumpError: a wanted byte is not in the file; with its address.
        :raises FaultError: a wanted byte cannot be read from the file; with its address.
        """

    @abc.abstractmethod
    def stretch_end(self, paddr: int) -> int:
        """Up to which address :meth:`view` gives bytes from ``paddr`` on without assembling them.

        Equal to ``paddr`` where the file has nothing.
        """

    @abc.abstractmethod
    def drop_views(self) -> None:
        """Give back the memory that views take, until the next is asked for."""

    @abc.abstractmethod
    def another(self) -> Source:
        """The same memory for another thread: shares everything but the windows of its views.

        Good until this source is closed, and not to be closed itself.
        """

    @abc.abstractmethod
    def iter_notes(self) -> Iterator[bytes]:
        """The notes, all ``notes_size`` bytes of them, in pieces of bounded size."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def read(self, paddr: int, size: int) -> bytes:
        """A copy of the bytes at ``[paddr, paddr + size)``; raises as :meth:`view` does."""
        return bytes(self.view(paddr, size))

    def read_page(self, pfn: int, page_shift: int) -> bytes:
        """One page, with zeros for the bytes that the machine did not have or the file lacks.

        The first and last page of a range of memory may be fractional: low memory of a PC ends at
        0x9fc00.

        :raises FaultError: the file should have bytes of the page but cannot be read.
        """
        page = bytearray(1 << page_shift)
        start = pfn << page_shift
        for low, high in self.data.within(start, start + len(page)):
            page[low - start : high - start] = self.read(low, high - low)
        return bytes(page)


class LostPageError(FaultError):
    """The file should have the page, but its writer did not get that far, or it was cut off."""

    def __init__(self, address: int, why: str) -> None:
        super().__init__(address, "physical", f"is of a page that was lost: {why}")


class UnreadableError(FaultError):
    """The file should hold the byte, but reading it fails with ``errno``."""

    def __init__(self, address: int, errno: int, strerror: str) -> None:
        super().__init__(address, "physical", f"cannot be read: {strerror}")
        self.errno = errno
