# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmlinux as a file: its sections, its symbols, and which kernel it is.

A vmlinux with debugging information is half a gigabyte, most of which nobody asks for, so sections
are mapped, and decompressed as a whole only where they are compressed. Source: elf(5); the gABI's
chapter "Section Compression".
"""

from __future__ import annotations

import ctypes
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from struct import Struct
from types import TracebackType
from typing import NamedTuple, Optional, Union

from pydumpfile.errors import FormatError, InputError, UnsupportedError
from pydumpfile.formats import elf
from pydumpfile.kernel.description import refuse_other_kinds

_ADVICE = "give the vmlinux of the kernel's debug package"

_SHDR = Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_SYMBOL = Struct("<IBBHQQ")  # Elf64_Sym
_CHDR = Struct("<IIQQ")  # Elf64_Chdr
_ZDEBUG = Struct(">4sQ")  # what .zdebug_* sections start with, from before the gABI knew any
_ELFCOMPRESS_ZLIB, _ELFCOMPRESS_ZSTD = 1, 2
_SHF_COMPRESSED = 0x800
_SHT_NOBITS, _SHT_NOTE = 8, 7
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_STB_GLOBAL = 1
_NT_GNU_BUILD_ID = 3
_MOST_BYTES = 8 << 30
"""Of a section, decompressed: several times as much as any has."""
_MOST_NOTES = 1 << 20
_PIECE_SIZE = 4 << 20
_MOST_TEXT = 512


class SectionHeader(NamedTuple):
    """``Elf64_Shdr``."""

    sh_name: int
    sh_type: int
    sh_flags: int
    sh_addr: int
    sh_offset: int
    sh_size: int
    sh_link: int
    sh_info: int
    sh_addralign: int
    sh_entsize: int


class Symbol(NamedTuple):
    """A name with its address as the linker gave it; ``size`` is 0 where nobody said."""

    vaddr: int
    size: int


class Section:
    """The bytes of one section, decompressed: ``size`` of them in ``buffer`` from ``start`` on."""

    def __init__(self, buffer: Union[bytes, bytearray, mmap.mmap], start: int, size: int) -> None:
        self._buffer = buffer
        self._start = start
        self.size = size

    def read(self, off: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``off`` on; fewer at the end of the section."""
        start = self._start + min(off, self.size)
        return bytes(self._buffer[start : min(start + size, self._start + self.size)])

    def places(self, wanted: bytes) -> Iterator[int]:
        """Where ``wanted`` occurs, ascending."""
        # Piece by piece, because a find() of mmap's takes ten times as long before Python 3.12.
        for off in range(0, self.size, _PIECE_SIZE):
            piece = self.read(off, _PIECE_SIZE + len(wanted) - 1)
            at = piece.find(wanted)
            while at >= 0:
                yield off + at
                at = piece.find(wanted, at + 1)


class Vmlinux:
    """An open vmlinux.

    :raises InputError: it cannot be opened or read.
    :raises UsageError: it is no regular file.
    :raises FormatError: it is no 64-bit little-endian ELF file with sections and symbols.
    :raises UnsupportedError: it is of a machine that is not known.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        refuse_other_kinds(path)
        try:
            with open(path, "rb") as file:
                if not os.path.getsize(path):
                    raise self.not_a_vmlinux(0, "an ELF file", "nothing: it is empty")
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except OSError as error:
            raise InputError(path, error.errno, "opening the vmlinux") from error
        try:
            self._headers = self._read_headers()
            self._sections: dict[str, Section] = {}
        except BaseException:
            self._map.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def __enter__(self) -> Vmlinux:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def not_a_vmlinux(self, off: int, expected: str, got: str) -> FormatError:
        """The error of a file that is something else, or damaged."""
        return FormatError(self.path, off, expected, got, _ADVICE)

    def has_section(self, name: str) -> bool:
        """Whether there is a section ``name`` with bytes, perhaps by its old compressed name."""
        return self._header_of(name) is not None

    def section(self, name: str) -> Section:
        """The section ``name``; one without bytes if there is none.

        :raises FormatError: it does not lie in the file, or cannot be decompressed.
        :raises UnsupportedError: it is compressed with what cannot be decompressed here.
        """
        if name not in self._sections:
            self._sections[name] = self._open_section(name)
        return self._sections[name]

    def _open_section(self, name: str) -> Section:
        header = self._header_of(name)
        if header is None:
            return Section(b"", 0, 0)
        off, size = header.sh_offset, header.sh_size
        if off + size > len(self._map):
            raise self.not_a_vmlinux(
                off, f"{size} bytes of {name}", f"the end of the file at {len(self._map):#x}"
            )
        if header.sh_flags & _SHF_COMPRESSED or name not in self._headers:
            content = self._decompressed(name, off, size)
            return Section(content, 0, len(content))
        return Section(self._map, off, size)

    def symbols(self, names: Iterable[str]) -> dict[str, Symbol]:
        """Those of ``names`` that are in the symbol table.

        Of several symbols of one name the global one counts; without one the name means nothing.

        :raises FormatError: there is no symbol table.
        """
        strings, table = self.section(".strtab"), self.section(".symtab")
        if not table.size or not strings.size:
            raise self.not_a_vmlinux(0, "a symbol table (.symtab)", "none: it was stripped")
        # The linker lets names share their ends, so a name may start inside another.
        name_at = {
            at: name for name in names for at in strings.places(name.encode("ascii") + b"\0")
        }
        found: dict[str, Symbol] = {}
        ambiguous: set[str] = set()
        globals_: set[str] = set()
        whole = table.size - table.size % _SYMBOL.size
        for name_off, info, _, shndx, value, size in _SYMBOL.iter_unpack(table.read(0, whole)):
            name = name_at.get(name_off, "")
            if not name or shndx == _SHN_UNDEF or name in globals_:
                continue
            if info >> 4 == _STB_GLOBAL:
                globals_.add(name)
                ambiguous.discard(name)
            elif name in found and found[name].vaddr != value:
                ambiguous.add(name)
            found[name] = Symbol(value, size)
        return {name: symbol for name, symbol in found.items() if name not in ambiguous}

    def data(self, vaddr: int, size: int) -> bytes:
        """What the kernel starts with at ``vaddr``: ``size`` bytes, or as many as the file has."""
        for header in self._headers.values():
            rest = header.sh_addr + header.sh_size - vaddr
            inside = header.sh_addr and header.sh_addr <= vaddr and rest > 0
            if inside and header.sh_type != _SHT_NOBITS:
                off = header.sh_offset + vaddr - header.sh_addr
                return self._map[off : off + min(size, rest)]
        return b""

    def text(self, vaddr: int) -> Optional[bytes]:
        """The string at ``vaddr``, up to its NUL; None where the file does not have it."""
        text, nul, _ = self.data(vaddr, _MOST_TEXT).partition(b"\0")
        return text if nul else None

    def build_id(self) -> Optional[str]:
        """The build ID in hexadecimal digits; None if it has none."""
        for name, header in self._headers.items():
            if header.sh_type != _SHT_NOTE:
                continue
            blob = self.section(name).read(0, _MOST_NOTES)
            for note in elf.iter_notes(blob):
                if note and note.name == b"GNU" and note.type == _NT_GNU_BUILD_ID:
                    return blob[note.desc_off : note.desc_off + note.desc_size].hex()
        return None

    def debug_link(self) -> str:
        """The file that has what was split off this one (.gnu_debuglink); empty if none is."""
        return self._name_in(".gnu_debuglink")

    def alternate_link(self) -> str:
        """The file that this one's debugging information needs besides (dwz); empty if none."""
        return self._name_in(".gnu_debugaltlink")

    def _name_in(self, section: str) -> str:
        content = self.section(section).read(0, 4096)
        return content.partition(b"\0")[0].decode("utf-8", "replace")

    def _read_headers(self) -> dict[str, SectionHeader]:
        """The section headers by name; sets :attr:`machine`."""
        if self._map[: len(elf.ELFMAG)] != elf.ELFMAG or len(self._map) < elf.EHDR.size:
            raise self.not_a_vmlinux(
                0, "an ELF file", f"the bytes {self._map[:8].hex(' ')}, as a vmlinuz may have"
            )
        header = elf.Ehdr._make(elf.EHDR.unpack_from(self._map))
        self.machine = elf.MACHINES.get(header.e_machine, f"machine {header.e_machine}")
        if (header.e_ident[elf.EI_CLASS], header.e_ident[elf.EI_DATA]) != (
            elf.ELFCLASS64, elf.ELFDATA2LSB,
        ):  # fmt: skip
            raise UnsupportedError(f"{self.path}: a vmlinux of a 32-bit or big-endian machine")
        end = header.e_shoff + header.e_shnum * _SHDR.size
        if not header.e_shnum or header.e_shentsize != _SHDR.size or end > len(self._map):
            raise self.not_a_vmlinux(
                header.e_shoff, f"section headers of {_SHDR.size} bytes inside the file",
                f"{header.e_shnum} of {header.e_shentsize}",
            )  # fmt: skip
        headers = [
            SectionHeader._make(_SHDR.unpack_from(self._map, header.e_shoff + i * _SHDR.size))
            for i in range(header.e_shnum)
        ]
        if header.e_shstrndx >= len(headers):
            raise self.not_a_vmlinux(62, "the number of a section", f"{header.e_shstrndx}")
        names_off = headers[header.e_shstrndx].sh_offset
        return {self._string(names_off + header.sh_name): header for header in headers}

    def _string(self, off: int) -> str:
        return self._map[off : off + _MOST_TEXT].partition(b"\0")[0].decode("ascii", "replace")

    def _header_of(self, name: str) -> Optional[SectionHeader]:
        header = self._headers.get(name) or self._headers.get(_old_name(name))
        return header if header and header.sh_type != _SHT_NOBITS else None

    def _decompressed(self, name: str, off: int, size: int) -> Union[bytes, bytearray]:
        """What the compressed section of ``size`` bytes at ``off`` holds."""
        form = _CHDR if name in self._headers else _ZDEBUG
        if size < form.size:
            raise self.not_a_vmlinux(off, f"{name}, compressed", f"{size} bytes")
        fields = form.unpack_from(self._map, off)
        kind, whole = (fields[0], fields[2]) if form is _CHDR else (_ELFCOMPRESS_ZLIB, fields[1])
        at = off + form.size
        if not 0 < whole <= _MOST_BYTES:
            raise self.not_a_vmlinux(off, f"{name} of up to {_MOST_BYTES} bytes", f"{whole} bytes")
        compressed = memoryview(self._map)[at : off + size]
        try:
            if kind == _ELFCOMPRESS_ZLIB:
                content: Union[bytes, bytearray] = zlib.decompress(
                    compressed, bufsize=max(whole, 1)
                )
            elif kind == _ELFCOMPRESS_ZSTD:
                content = _unzstd(bytes(compressed), whole, f"{self.path}: {name}")
            else:
                raise UnsupportedError(
                    f"{self.path}: {name} in compression {kind}",
                    "decompress it with objcopy --decompress-debug-sections",
                )
        except zlib.error as error:
            raise self.not_a_vmlinux(at, f"{name}, compressed by zlib", str(error)) from error
        finally:
            compressed.release()
        if len(content) != whole:
            raise self.not_a_vmlinux(at, f"{whole} bytes of {name}", f"{len(content)}")
        return content


def _old_name(name: str) -> str:
    """What a compressed section was called before SHF_COMPRESSED: ``.zdebug_info``."""
    return f".z{name[1:]}"


def _unzstd(compressed: bytes, whole: int, what: str) -> bytearray:
    """Decompress by the library; pydumpfile needs no package for that."""
    try:
        zstd = ctypes.CDLL("libzstd.so.1")
    except OSError as error:
        raise UnsupportedError(f"{what}, compressed by zstd, without libzstd.so.1",
                               "install libzstd1 (Fedora: libzstd)") from error  # fmt: skip
    content = bytearray(whole)
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    size = zstd.ZSTD_decompress(
        (ctypes.c_char * whole).from_buffer(content), ctypes.c_size_t(whole),
        compressed, ctypes.c_size_t(len(compressed)),
    )  # fmt: skip
    return content if size == whole else bytearray()
