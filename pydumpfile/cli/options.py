# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be said on the command line: one table, spelled as makedumpfile spells it.

Parsing is GNU getopt's: options and operands in any order, long options by a unique prefix,
``--opt VALUE`` and ``--opt=VALUE``, ``-d31`` and ``-d 31``. Unlike makedumpfile, an argument that
should be a number and is not is refused: a level read as 0 by accident fills disks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from getopt import GetoptError, gnu_getopt
from typing import Any, Callable, NamedTuple, Optional

from pydumpfile.codecs import AUTO, NAMES
from pydumpfile.errors import UnsupportedError, UsageError
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.level import MAX_LEVEL

_MAX_LEVELS = 32
_MAX_THREADS = 1 << 20
"""Of a machine with more CPUs than are of use nobody shall have no dump."""
_SUFFIXES = "KMGTPE"
_PAGE_SIZE = 4096


class SpellingError(UsageError):
    """Not even an option, or one without its argument: what getopt itself complains of."""


_JOBS = (
    "help", "version", "check_params", "make_vmcoreinfo", "rearrange", "reassemble", "dump_dmesg",
    "mem_usage",
)  # fmt: skip


class Options(NamedTuple):
    """One command line, understood."""

    operands: tuple[str, ...] = ()
    compression: str = "none"
    compress_level: Optional[int] = None
    levels: tuple[int, ...] = (0,)
    """Tried one after the other while there is no space for the dump."""
    elf: bool = False
    makedumpfile_bytes: bool = False
    flattened: bool = False
    size_limit: Optional[int] = None
    """Bytes."""
    split: bool = False
    splitblock_size: Optional[int] = None
    """Bytes of memory."""
    reassemble: bool = False
    dry_run: bool = False
    show_stats: bool = False
    rearrange: bool = False
    dump_dmesg: bool = False
    partial_dmesg: bool = False
    without_unused_mem_map: bool = False
    filter_in: FilterIn = FilterIn.USER
    mem_usage: bool = False
    vtop: Optional[int] = None
    """Virtual address."""
    vmlinux: str = ""
    vmcoreinfo_file: str = ""
    make_vmcoreinfo: str = ""
    """The file to be made."""
    profile: bool = False
    check_params: bool = False
    force: bool = False
    n_threads: Optional[int] = None
    max_rss: Optional[int] = None
    """Bytes."""
    use_mmap: bool = True
    message_level: int = 7
    debug: bool = False
    help: bool = False
    version: bool = False

    @property
    def job(self) -> str:
        """The field that says what is to be done: the first in makedumpfile's order; "" to dump."""
        return next((name for name in _JOBS if getattr(self, name)), "")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The operands that stand for VMCORE: a file, or all parts of a split dump."""
        if self.split:
            return self.operands[:1]
        n_outputs = len(operand_names(self)) - 1
        return self.operands[: len(self.operands) - n_outputs]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those that are written."""
        return self.operands[len(self.inputs) :]

    @property
    def only_asks(self) -> bool:
        """Nothing is to be read or written."""
        return self.help or self.version or self.check_params


class Option(NamedTuple):
    """One line of the table."""

    flags: str
    """``-d`` or ``--num-threads`` or both, separated by a blank."""
    field: str
    """Of :class:`Options`; empty for what is accepted and changes nothing."""
    help: str
    """Empty: not worth a line of ``--help``."""
    metavar: str = ""
    """Name of its argument; empty if it has none."""
    parse: Callable[[str], Any] = str
    value: Any = True
    """Of the field, where there is no argument."""
    unsupported: str = ""
    """What it would ask for that pydumpfile cannot do (yet)."""
    extra: bool = False
    """makedumpfile 1.7 does not know it, so it takes no abbreviation away from those it knows."""


def _number(what: str, most: int, least: int = 0) -> Callable[[str], int]:
    """From text to a decimal number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        digits = text[1:] if text[:1] == "-" and least < 0 else text
        is_number = digits.isascii() and digits.isdecimal() and len(digits) < 20
        if not (is_number and least <= int(text) <= most):
            raise UsageError(f"{what} {text[:40]!r} is not a number from {least} to {most}")
        return int(text)

    return parse


def _levels(text: str) -> tuple[int, ...]:
    level = _number("dump level", MAX_LEVEL)
    levels = tuple(level(part) for part in text.split(","))
    if len(levels) > _MAX_LEVELS:
        raise UsageError(f"{len(levels)} dump levels are too many: {_MAX_LEVELS} can be tried")
    return levels


def _size(text: str) -> int:
    """Bytes, or with one of the suffixes K, M, G, T, P, E; each 1024 times the one before."""
    digits, shift = text, 0
    if text[-1:].upper() in tuple(_SUFFIXES):
        digits, shift = text[:-1], 10 * (_SUFFIXES.index(text[-1].upper()) + 1)
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise UsageError(f"size {text[:40]!r} is not a number of bytes, as 40M or 65536")
    return int(digits) << shift


def _size_limit(text: str) -> int:
    """As C reads numbers (0x100000 and 010 are some), with one of the suffixes or without."""
    is_hex = text[:2].lower() == "0x"
    digits, shift = text, 0
    if text[-1:].upper() in tuple(_SUFFIXES[:-1] if is_hex else _SUFFIXES):
        digits, shift = text[:-1], 10 * (_SUFFIXES.index(text[-1].upper()) + 1)
    base = 16 if is_hex else 8 if digits[:1] == "0" else 10
    try:
        limit = int(digits, base) if digits.isascii() and digits.isalnum() else 0
    except ValueError:
        limit = 0
    if not 0 < limit << shift < 1 << 63:
        raise UsageError(f"Limit size({text[:40]}) is invalid; give bytes, or as 500M or 4G")
    return limit << shift


def _splitblock(text: str) -> int:
    size = _number("split block size", 1 << 40)(text) << 10
    if not size or size % _PAGE_SIZE:
        raise UsageError(
            f"a split block of {text} KiB is no multiple of the {_PAGE_SIZE >> 10} KiB of a page"
        )
    return size


def _address(text: str) -> int:
    """Decimal, or hexadecimal with 0x; also without, where nobody could take it for the other."""
    try:
        address = int(text, 0 if text.isdecimal() or text[:2].lower() == "0x" else 16)
    except ValueError:
        address = 1 << 64
    if not (text.isascii() and text.isalnum() and address < 1 << 64):
        raise UsageError(f"{text[:40]!r} is not a virtual address, as 0xffffffff81000000")
    return address


def _file_name(text: str) -> str:
    if not text:  # as of a variable of a script that was never set
        raise UsageError("the name of a file is empty")
    return text


def _codec(text: str) -> str:
    if text not in (*NAMES, AUTO):
        raise UsageError(f"compression {text[:40]!r} is not one of {', '.join(NAMES)}, {AUTO}")
    return text


OPTIONS = (
    Option("-c", "compression", "compress pages with zlib", value="zlib"),
    Option("-l", "compression", "compress pages with lzo", value="lzo"),
    Option("-p", "compression", "compress pages with snappy", value="snappy"),
    Option("-z", "compression", "compress pages with zstd", value="zstd"),
    Option("--compress", "compression", "compress pages with none, zlib, lzo, snappy or zstd; auto"
           " measures which one is done soonest here", "CODEC", _codec, extra=True),
    Option("--compress-level", "compress_level", "how hard to try, in the codec's own numbers",
           "N", _number("compression level", 100, -100), extra=True),  # zstd's fast ones are < 0
    Option("-d", "levels", "leave out pages by level, 0 to 31 (default: 0, none); of several"
           " the next is tried when there is no space", "LEVEL[,...]", _levels),
    Option("-E", "elf", "write an ELF core, uncompressed, of a VMCORE that is one"),
    Option("-L", "size_limit", "take SIZE bytes, as 500M or 4G, for all the space there is",
           "SIZE", _size_limit),
    Option("--split", "split", "write the dump as several DUMPFILEs, for several disks"),
    Option("--splitblock-size", "splitblock_size", "end parts at multiples of this much memory"
           " (default: 1048576, 1 GiB)", "KIB", _splitblock),
    Option("--reassemble", "reassemble", "make DUMPFILE of the PARTs that --split wrote"),
    Option("--dry-run", "dry_run", "write nothing, only say what would be"),
    Option("--show-stats", "show_stats", "show makedumpfile's report of pages by kind as well"),
    Option("-F", "flattened", "write to standard output, for a pipe; messages to standard error"),
    Option("-R", "rearrange", "make DUMPFILE of what -F wrote, from standard input"),
    Option("--dump-dmesg", "dump_dmesg", "write the kernel's log instead of a dump"),
    Option("--partial-dmesg", "partial_dmesg", "only of it what came after the last dmesg -c"),
    Option("-e --exclude-unused-vm", "without_unused_mem_map", "leave out the struct pages of pages"
           " left out as well; they are judged twice", extra=True),
    Option("--filter-in", "filter_in", "judge pages in the crash kernel, which takes a patched one,"
           " or in user space (the default); auto: in the kernel if it can", "WHERE", FilterIn.of,
           extra=True),
    Option("--mem-usage", "mem_usage", "only count pages by kind, of /proc/kcore or VMCORE"),
    Option("--vtop", "vtop", "show the page-table walk to a virtual address as well", "ADDRESS",
           _address),
    Option("-x", "vmlinux", "what VMCOREINFO lacks is in the debugging information of VMLINUX",
           "VMLINUX", _file_name),
    Option("-i", "vmcoreinfo_file", "what VMCOREINFO lacks is in FILE, which -g has made", "FILE",
           _file_name),
    Option("-g", "make_vmcoreinfo", "make FILE of the VMLINUX of -x, for -i", "FILE", _file_name),
    Option("-f", "force", "overwrite DUMPFILE if it exists"),
    Option("--num-threads", "n_threads", "threads that read and compress (default: what CPUs and"
           " memory allow)", "N", _number("number of threads", _MAX_THREADS)),
    Option("--max-rss", "max_rss", "memory to use at most, as 40M", "SIZE", _size, extra=True),
    Option("--non-mmap", "use_mmap", "read VMCORE with read(2), not mmap(2)", value=False),
    Option("--profile", "profile", "say what the time of a dump went into", extra=True),
    Option("--check-params", "check_params", "only say whether the command line is right"),
    Option("--message-level", "message_level", "what to say, 0 to 31 (default: 7)",
           "N", _number("message level", 31)),
    Option("-D", "debug", "say details as well"),
    Option("-v --version", "version", "show the version, and which codecs are there", extra=True),
    Option("-h --help", "help", "show a short help"),
    # Buffers are bounded without being told, and there are no other files than the dump.
    Option("-b", "", "", "ORDER", _number("block order", 31)),
    Option("--cyclic-buffer", "", "", "KIB", _number("buffer size", 1 << 40)),
    Option("--num-buffers", "", "", "N", _number("number of buffers", 1 << 20), extra=True),
    Option("--non-cyclic", "", "", extra=True),
    Option("--work-dir", "", "", "DIR"),
    # To compare: leaks what makedumpfile leaks.
    Option("--makedumpfile-bytes", "makedumpfile_bytes", "", extra=True),
    # Refused by name, so that nobody takes one for a spelling mistake.
    Option("-X", "", "", unsupported="leaving out Xen's domU pages"),
    Option("--config", "", "", "FILE", unsupported="erasing data"),
    Option("--eppic", "", "", "FILE", unsupported="erasing data"),
    Option("--extension", "", "", "FILE", unsupported="a filter extension"),
    Option("--diskset", "", "", "FILE", unsupported="a sadump disk set"),
    Option("--xen-syms", "", "", "FILE", unsupported="Xen"),
    Option("--xen-vmcoreinfo", "", "", "FILE", unsupported="Xen"),
    Option("--xen_phys_start", "", "", "ADDRESS", unsupported="Xen"),
)  # fmt: skip

_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags.split()}

# A job, and what does not go with it. -c stands for every codec; what has its default's value is as
# if it were not there.
_REFUSED_TOGETHER = (
    ("-g", "-c --compress-level -d -E -F -i -R -X --dry-run"),
    ("-R", "-c --compress-level -d -E -F -i -x -X --xen-syms --dump-dmesg --dry-run"),
    ("--reassemble", "-c --compress-level -d -E -F -g -i -x -X --split --dry-run"),
    ("-E", "-c --compress-level --split --num-threads"),
    ("--split", "-F --num-threads"),
    ("--dump-dmesg", "--dry-run --split"),
    ("-x", "-i"),
    ("--filter-in", "-g -R --reassemble --dump-dmesg --mem-usage"),
)

# What only means something beside another one.
_NEEDS = (
    ("--partial-dmesg", "--dump-dmesg"),
    ("--splitblock-size", "--split"),
    ("--makedumpfile-bytes", "-E"),
    ("--config", "-x"),
    ("-g", "-x"),
)


def parse(arguments: Sequence[str]) -> Options:
    """Understand ``arguments``, and refuse what cannot be meant.

    :raises UsageError: as :func:`read` and :func:`check` do.
    :raises UnsupportedError: an option of makedumpfile that pydumpfile does not have.
    """
    options = read(arguments)
    check(options)
    return options


def read(arguments: Sequence[str]) -> Options:
    """What ``arguments`` say, each for itself.

    :raises SpellingError: unknown options, missing arguments.
    :raises UsageError: arguments that are not what their options take.
    :raises UnsupportedError: an option of makedumpfile that pydumpfile does not have.
    """
    try:
        found, operands = gnu_getopt(_spelled_out(arguments), _letters(), list(_words()))
    except GetoptError as error:
        raise SpellingError(error.msg) from error
    options = Options(operands=tuple(operands))
    for flag, argument in found:
        option = _BY_FLAG[flag]
        if option.unsupported:
            raise UnsupportedError(f"{flag}: {option.unsupported}")
        value = option.parse(argument) if option.metavar else option.value
        if option.field:
            options = options._replace(**{option.field: value})
    return options


def check(options: Options, takes_parts: bool = True) -> None:
    """Whether they go together, and with their operands.

    :param takes_parts: all parts of a split dump can stand for VMCORE.
    :raises UsageError: they do not.
    """
    if options.help or options.version:
        return
    for flag, others in _REFUSED_TOGETHER:
        for other in others.split():
            if _is_given(options, flag) and _is_given(options, other):
                told = "a codec" if other == "-c" else other
                raise UsageError(f"{flag} and {told} do not go together")
    for flag, other in _NEEDS:
        if _is_given(options, flag) and not _is_given(options, other):
            raise UsageError(f"{flag} only goes with {other}")
    if options.compression == AUTO and options.compress_level is not None:
        raise UsageError("--compress-level is in the numbers of one codec, auto may take any")
    wanted, given = operand_names(options), len(options.operands)
    takes_more = any("..." in name for name in wanted) or (takes_parts and _has_parts(options))
    if given < len(wanted) or (given > len(wanted) and not takes_more):
        found = " ".join(options.operands) or "none"
        raise UsageError(f"expected {' '.join(wanted) or 'no operand'}, found {found}")


def glimpse(arguments: Sequence[str]) -> Options:
    """What shows of a command line that cannot be read: who listens. Rather once too often."""
    flags = [word for word in arguments if word[:1] == "-"]
    return Options(
        flattened=any("F" in word for word in flags if word[:2] != "--"),
        check_params=any(len(word) > 3 and "--check-params".startswith(word) for word in flags),
    )


def _has_parts(options: Options) -> bool:
    """Whether there are more inputs than one, and not by mistake: one of them is a part."""
    if operand_names(options)[:1] != ("VMCORE",) or len(options.inputs) < 2:
        return False
    from pydumpfile.sources.partset import is_part  # noqa: PLC0415

    return any(is_part(path) for path in options.inputs)


def _is_given(options: Options, flag: str) -> bool:
    field = _BY_FLAG[flag].field
    if field == "levels":
        return options.levels[0] > 0  # as makedumpfile looks at it
    # --num-threads 0 asks for none.
    return bool(field) and getattr(options, field) not in (getattr(Options(), field), 0)


def _spelled_out(arguments: Sequence[str]) -> list[str]:
    """With those abbreviations in full that makedumpfile understands, and getopt here would not.

    They fit one option of its own, and others that only pydumpfile has.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = list(arguments)
    for i, word in enumerate(arguments[:end]):
        name, equals, argument = word.partition("=")
        if name[:2] == "--" and name not in _BY_FLAG:
            fitting = [
                flag
                for flag, option in _BY_FLAG.items()
                if flag.startswith(name) and not option.extra
            ]
            if len(fitting) == 1:
                words[i] = fitting[0] + equals + argument
    return words


def _letters() -> str:
    """The short options as getopt wants them: ``d:F``."""
    return "".join(
        flag[1] + (":" if option.metavar else "")
        for flag, option in _BY_FLAG.items()
        if not flag.startswith("--")
    )


def _words() -> Iterator[str]:
    """The long ones: ``num-threads=``."""
    for flag, option in _BY_FLAG.items():
        if flag.startswith("--"):
            yield flag[2:] + ("=" if option.metavar else "")


def operand_names(options: Options) -> tuple[str, ...]:
    """The operands that ``options`` take; ``...`` behind a name means that there may be more."""
    job = options._replace(check_params=False).job
    if job in _OPERANDS:
        return _OPERANDS[job]
    if options.split:
        return ("VMCORE", "DUMPFILE", "DUMPFILE...")
    return ("VMCORE",) if options.flattened else ("VMCORE", "DUMPFILE")


_OPERANDS = {
    "make_vmcoreinfo": (),
    "rearrange": ("DUMPFILE",),
    "reassemble": ("PART...", "DUMPFILE"),
    "mem_usage": ("VMCORE",),
}
