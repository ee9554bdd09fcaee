# SPDX-License-Identifier: GPL-2.0-or-later
"""What the command can be asked to do: a function each, which returns the exit status."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from pydumpfile.budget import affordable_threads, look_around, shortage
from pydumpfile.cli.console import Console
from pydumpfile.cli.describe import open_vmcore
from pydumpfile.cli.options import Options
from pydumpfile.codecs import AUTO, NAMES, available, make_codec
from pydumpfile.dump import Statistics, dump_vmcore
from pydumpfile.errors import FaultError, MissingFactError, OutputError
from pydumpfile.filter.filter_in import FilterIn
from pydumpfile.filter.level import MAX_LEVEL, Level
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.report.summary import format_size, summary
from pydumpfile.sinks import STDOUT, Target, check_target

if TYPE_CHECKING:
    from pydumpfile.progress import Progress
    from pydumpfile.stopwatch import Stopwatch

_INCOMPLETE = "This is an incomplete dumpfile, but might analyzable."
"""makedumpfile's words, which people look for."""


def write_dump(options: Options, console: Console) -> int:
    """VMCORE to DUMPFILE, at the first level for which there is space."""
    stopwatch = _stopwatch() if options.profile else None
    target = _target(options, options.outputs, options.flattened)
    if target.flattened and not target.dry_run:
        console.make_way()
    with open_vmcore(options, console) as vmcore:
        check_target(target, *vmcore.files)
        console.say(_headline(vmcore))
        _tell_description(vmcore, console)
        if options.vtop is not None:
            _show_walk(vmcore, options.vtop, console)
        statistics = _dump_with_retries(vmcore, target, options, console, stopwatch)
    for warning in statistics.warnings:
        console.warn(warning)
    console.say(summary(statistics))
    if options.filter_in is not FilterIn.USER:
        console.say(_who_judged(statistics))
    if console.wants_report:
        from pydumpfile.report.makedumpfile import makedumpfile_report  # noqa: PLC0415

        console.report(makedumpfile_report(statistics))
    if stopwatch is not None:
        from pydumpfile.report.profile import profile  # noqa: PLC0415

        console.say(profile(statistics, stopwatch))
    console.say(_saved(options, statistics.path))
    return FaultError.exit_code if statistics.incomplete else 0


def write_log(options: Options, console: Console) -> int:
    """The dead kernel's log to DUMPFILE, or as it is to standard output with ``-F``."""
    from pydumpfile.kernel.log_record import counted  # noqa: PLC0415
    from pydumpfile.logfile import write_log_file  # noqa: PLC0415

    target = _target(options, options.outputs, flattened=False)
    with open_vmcore(options, console) as vmcore:
        check_target(target, *vmcore.files)
        _tell_description(vmcore, console)
        log = write_log_file(vmcore, target, options.partial_dmesg)
    if log.unreadable:
        n = counted(log.unreadable, log.unit)
        console.warn(f"{n} of the log could not be read; lines in it say where")
    if log.unfinished:
        n = counted(log.unfinished, log.unit)
        console.warn(f"{n} of the log left out: not whole, as if just being written")
    console.say(f"The dmesg log is saved to {target.path}.")
    return FaultError.exit_code if log.unreadable else 0


def reassemble_parts(options: Options, console: Console) -> int:
    """What ``--split`` wrote, to DUMPFILE."""
    from pydumpfile.reassemble import reassemble  # noqa: PLC0415

    *parts, path = options.operands
    progress = console.progress()
    try:
        joined = reassemble(parts, _target(options, (path,), flattened=False), progress)
    finally:
        if progress:
            progress.close()
    if joined.incomplete:
        console.warn(f"{path} is marked incomplete, as are {', '.join(joined.incomplete)}")
        console.say(_INCOMPLETE)
    console.say(_saved(options, path))
    return FaultError.exit_code if joined.incomplete else 0


def rearrange_stream(options: Options, console: Console) -> int:
    """What ``-F`` wrote, from standard input to DUMPFILE."""
    from pydumpfile.rearrange import rearrange  # noqa: PLC0415

    progress = console.progress()
    try:
        rearrange(sys.stdin.fileno(), _target(options, options.operands, False), progress)
    finally:
        if progress:
            progress.close()
    console.say(_saved(options, options.operands[0]))
    return 0


def check_params(options: Options) -> int:
    """Nothing but whether this command line could work here; the files need not exist."""
    writes_dump = not options._replace(check_params=False).job
    if writes_dump and options.compression != AUTO:
        make_codec(options.compression, options.compress_level)
    return 0


def show_help(console: Console) -> int:
    """``--help``."""
    from pydumpfile.cli.help import help_text  # noqa: PLC0415

    console.product(help_text())
    return 0


def show_version(console: Console) -> int:
    """The version, and the codecs as makedumpfile lists them."""
    from pydumpfile._version import VERSION  # noqa: PLC0415
    from pydumpfile.cli.drop_in import NAME, SURFACE  # noqa: PLC0415

    reasons = available()
    if console.drop_in:
        lines = [f"{NAME}: version {SURFACE} (as pydumpfile {VERSION} understands it)"]
        for name in ("lzo", "snappy", "zstd"):
            lines.append(f"{name}\t{'disabled' if reasons[name] else 'enabled'}")
    else:
        lines = [f"pydumpfile {VERSION}"]
        for name in NAMES[1:]:
            state = f"disabled: {reasons[name]}" if reasons[name] else "enabled"
            lines.append(f"{name}\t{state}")
    console.product("\n".join(lines))
    return 0


def _show_walk(vmcore: Vmcore, vaddr: int, console: Console) -> None:
    """For ``--vtop``; the dump is written all the same."""
    from pydumpfile.report.walk import walk  # noqa: PLC0415

    try:
        console.say(f"\n{walk(vmcore.memory, vaddr)}\n")
    except MissingFactError as error:
        console.warn(f"--vtop: {error}")


def _dump_with_retries(
    vmcore: Vmcore, target: Target, options: Options, console: Console,
    stopwatch: Optional[Stopwatch],
) -> Statistics:  # fmt: skip
    """A full disk is only the end at the last level of ``-d 1,31``; a pipe has no second try."""
    levels = options.levels
    spare = look_around()
    n_threads = affordable_threads(spare, options.n_threads, options.max_rss)
    lacking = shortage(spare, options.max_rss)
    if lacking:
        console.warn(lacking)
    console.detail(f"threads: {n_threads}")
    compression = options.compression
    if compression == AUTO:
        compression = _choose_codec(vmcore, target, n_threads, console)
    for level, next_level in zip(levels, (*levels[1:], None)):
        _tell_level(vmcore, level, console)
        target = target._replace(all_or_nothing=next_level is not None)
        progress = console.progress()
        try:
            if options.elf:
                return _dump_elf(vmcore, options, target, level, progress, stopwatch)
            return dump_vmcore(
                vmcore, target, Level.of(level), compression, progress, n_threads,
                options.compress_level, stopwatch, options.without_unused_mem_map,
                options.filter_in,
            )  # fmt: skip
        except OutputError as error:
            if not error.lacks_space:
                raise
            console.say(f"Can't write the dump file({error.path}). {error.reason}")
            if target.fd is not None or next_level is None:
                if target.fd is None and not target.dry_run:
                    console.say(_INCOMPLETE)
                tried = levels[: levels.index(level) + 1]
                error.message += _write_less(vmcore, options, tried, compression)
                raise
            console.say(f"Retry to create a dumpfile by dump_level({next_level}).")
            warning = f"no space for a dump of level {level}: trying again at level {next_level}"
            console.warn(f"{error.path}: {warning}")
            target = target._replace(overwrite=True)
        finally:
            if progress:
                progress.close()
    raise AssertionError("parse() gives at least one level")


def _write_less(vmcore: Vmcore, options: Options, tried: Sequence[int], compression: str) -> str:
    """What would have made the dump smaller and was not asked for; empty if there is nothing."""
    ways = []
    before = vmcore.source.dump_level or 0
    if all(level | before != MAX_LEVEL for level in tried):
        ways.append(f"-d {MAX_LEVEL}")
    if options.elf:
        ways.append("-z instead of -E")
    elif compression == "none":
        ways.append("-z")
    return f"; a smaller dump may fit ({', '.join(ways)})" if ways else ""


def _dump_elf(
    vmcore: Vmcore, options: Options, target: Target, level: int, progress: Optional[Progress],
    stopwatch: Optional[Stopwatch],
) -> Statistics:  # fmt: skip
    from pydumpfile.elfdump import dump_elf  # noqa: PLC0415

    return dump_elf(
        vmcore, target, Level.of(level), progress, stopwatch, options.makedumpfile_bytes,
        options.without_unused_mem_map, options.filter_in,
    )  # fmt: skip


def _tell_level(vmcore: Vmcore, level: int, console: Console) -> None:
    """What was left out before stays left out."""
    before = vmcore.source.dump_level or 0
    if level | before != level:
        console.say(
            f"dump_level is changed to {level | before}, because {vmcore.source.path} was created "
            f"by dump_level({before})."
        )


def _who_judged(statistics: Statistics) -> str:
    """In one line; and why not the kernel, if that was to."""
    if not statistics.judged_in:
        return "Pages were not judged: no struct page matters at this level."
    places = {FilterIn.KERNEL: "in the kernel", FilterIn.USER: "in user space"}
    judged = (told for place, told in places.items() if place in statistics.judged_in)
    why = f": {statistics.why_user}" if statistics.why_user else "."
    return f"Pages were judged {', then '.join(judged)}{why}"


def _saved(options: Options, path: str) -> str:
    """What was written, in makedumpfile's words; the truth if nothing was."""
    if options.dry_run:
        return "Nothing is written: this was a dry run."
    if options.split:
        *others, last = options.outputs
        return f"The dumpfiles are saved to {', '.join(others)}, and {last}."
    return f"The dumpfile is saved to {'STDOUT' if options.flattened else path}."


def _stopwatch() -> Stopwatch:
    from pydumpfile.stopwatch import Stopwatch  # noqa: PLC0415

    return Stopwatch()


def _choose_codec(vmcore: Vmcore, target: Target, n_threads: int, console: Console) -> str:
    from pydumpfile.codec_choice import choose_codec  # noqa: PLC0415

    choice = choose_codec(vmcore, target, n_threads)
    console.say("\n".join(choice.told()))
    return choice.codec


def _target(options: Options, names: tuple[str, ...], flattened: bool) -> Target:
    if options.flattened:
        target = Target(STDOUT, flattened=flattened, fd=sys.stdout.fileno())
    else:
        target = Target(names[0], options.force)
    if options.split:
        target = target._replace(parts=names)
    if options.splitblock_size is not None:
        target = target._replace(splitblock_size=options.splitblock_size)
    return target._replace(size_limit=options.size_limit, dry_run=options.dry_run)


def _headline(vmcore: Vmcore) -> str:
    """Which machine died, and when."""
    names = vmcore.utsname
    kernel = f"Linux {names.release} on {names.nodename}" if names else "an unknown kernel"
    memory = format_size(vmcore.source.exists.total)
    crashed = ""
    if vmcore.crash_time:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(vmcore.crash_time))
        crashed = f", crashed {stamp}"
    return f"{vmcore.source.path}: {kernel}, {vmcore.source.machine}, {memory}{crashed}"


def _tell_description(vmcore: Vmcore, console: Console) -> None:
    """VMCOREINFO, indented by two blanks as makedumpfile lists it: openSUSE's kdump reads that."""
    if vmcore.facts is not None:
        console.detail("\n".join(f"  {key}={value}" for key, value in vmcore.facts.lines.items()))
