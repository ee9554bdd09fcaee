# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: getopt's ways, makedumpfile's spellings, and what is refused."""

from __future__ import annotations

import pytest

from pydumpfile.cli.help import help_text
from pydumpfile.cli.options import OPTIONS, Options, parse, read
from pydumpfile.errors import UnsupportedError, UsageError

IN_OUT = ("vmcore", "dump")


@pytest.mark.parametrize(
    "arguments",
    [("-d", "31", *IN_OUT), ("-d31", *IN_OUT), (*IN_OUT, "-d", "31"), ("vmcore", "-d31", "dump"),
     ("-d", "1", "-d", "31", *IN_OUT), ("-d31", "--", *IN_OUT)],
)  # fmt: skip
def test_options_and_operands_in_any_order(arguments: tuple[str, ...]) -> None:
    assert parse(arguments) == Options(operands=IN_OUT, levels=(31,))


@pytest.mark.parametrize(
    "arguments",
    [("--num-threads", "3"), ("--num-threads=3",), ("--num-t", "3"), ("--num-t=3",)],
)
def test_long_options_by_prefix(arguments: tuple[str, ...]) -> None:
    assert parse((*arguments, *IN_OUT)).n_threads == 3


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [(("--num=3",), "n_threads", 3), (("--non",), "use_mmap", False),
     (("--prof",), "profile", True),
     (("-d", "1", "--", "--num"), "operands", ("--num", *IN_OUT))],
)  # fmt: skip
def test_options_of_ours_take_no_prefix_from_makedumpfiles(
    arguments: tuple[str, ...], field: str, value: object
) -> None:
    assert getattr(read((*arguments, *IN_OUT)), field) == value


@pytest.mark.parametrize("job", [("-R",), ("--reassemble", "part"), ("-g", "info", "-x", "vm")])
def test_of_several_levels_the_first_is_looked_at(job: tuple[str, ...]) -> None:
    """Whether there is one where nothing is filtered; makedumpfile looks no further."""
    operands = () if "-g" in job else ("dump",)
    assert parse(("-d", "0,31", *job, *operands)).levels == (0, 31)


def test_bundled_flags_and_the_last_codec_wins() -> None:
    options = parse(("-czlf", *IN_OUT))
    assert (options.compression, options.force) == ("lzo", True)


def test_a_name_that_begins_with_a_dash() -> None:
    assert parse(("--", "-x", "-y")).operands == ("-x", "-y")


# What the kdump services of Debian, Fedora and openSUSE run, in this order.
@pytest.mark.parametrize(
    ("command", "expected"),
    [("-c -d 31 -F /proc/vmcore",
      Options(("/proc/vmcore",), "zlib", levels=(31,), flattened=True)),
     ("--dump-dmesg /proc/vmcore dmesg.1", Options(("/proc/vmcore", "dmesg.1"), dump_dmesg=True)),
     ("-l --message-level 7 -d 31 --num-threads=4 /proc/vmcore vmcore-incomplete",
      Options(("/proc/vmcore", "vmcore-incomplete"), "lzo", levels=(31,), n_threads=4)),
     ("-l --message-level 7 -d 31 -F /proc/vmcore",
      Options(("/proc/vmcore",), "lzo", levels=(31,), flattened=True)),
     ("--check-params -l --message-level 7 -d 31 vmcore dumpfile",
      Options(("vmcore", "dumpfile"), "lzo", levels=(31,), check_params=True)),
     ("-R vmcore", Options(("vmcore",), rearrange=True)),
     ("-F -c --num-threads 2 --message-level 6 -d 31 /proc/vmcore",
      Options(("/proc/vmcore",), "zlib", levels=(31,), flattened=True, n_threads=2,
              message_level=6)),
     ("-F --message-level 8 --dump-dmesg /proc/vmcore",
      Options(("/proc/vmcore",), flattened=True, dump_dmesg=True, message_level=8))],
)  # fmt: skip
def test_what_the_services_say(command: str, expected: Options) -> None:
    assert parse(command.split()) == expected


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("65536", 65536), ("40M", 40 << 20), ("1k", 1024), ("2T", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse(("--max-rss", text, *IN_OUT)).max_rss == size


@pytest.mark.parametrize("name", ["none", "zlib", "lzo", "snappy", "zstd", "auto"])
def test_codecs_by_name(name: str) -> None:
    assert parse(("-c", "--compress", name, *IN_OUT)).compression == name


@pytest.mark.parametrize("text", ["1", "31", "0,31", "1,16,31"])
def test_levels(text: str) -> None:
    assert parse(("-d", text, *IN_OUT)).levels == tuple(map(int, text.split(",")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("-d", "all"), "dump level 'all' is not a number from 0 to 31"),
     (("-d", "32"), "dump level '32'"), (("-d", "-1"), "dump level '-1'"), (("-d", ""), "''"),
     (("-d", "1,"), "dump level ''"), (("-d", ",".join("1" * 33)), "33 dump levels"),
     (("-d", "٣"), "dump level '٣'"), (("-d", "9" * 5000), "is not a number"),
     (("--num-threads", "x"), "number of threads 'x'"), (("--max-rss", "M"), "size 'M'"),
     (("--max-rss", "4 M"), "size '4 M'"), (("--compress-level", "fast"), "compression level"),
     (("--compress-level", "-101"), "'-101' is not a number from -100 to 100"),
     (("--compress", "lz4"), "compression 'lz4' is not one of none, zlib"),
     (("--nonsense",), "nonsense"), (("-q",), "-q"), (("--partial-dmesg",), "--dump-dmesg"),
     (("extra",), "expected VMCORE DUMPFILE, found extra vmcore dump"),
     (("-F",), "expected VMCORE, found vmcore dump"),
     (("-R",), "expected DUMPFILE, found vmcore dump"), (("-R", "-c"), "-R and a codec"),
     (("-R", "-d1"), "-R and -d"), (("-R", "-F"), "-R and -F"),
     (("-R", "-d1,0"), "-R and -d"), (("-x", ""), "name of a file is empty"),
     (("-i", ""), "name of a file is empty"), (("-x", "v", "-g", ""), "name of a file is empty"),
     (("--num",), "number of threads 'vmcore'"), (("--c",), "c not a unique")],
)  # fmt: skip
def test_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse((*arguments, *IN_OUT))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "option", [option for option in OPTIONS if option.unsupported], ids=lambda o: o.flags.split()[0]
)
def test_what_is_not_there_yet_is_refused_by_name(option) -> None:
    flag = option.flags.split()[0]
    with pytest.raises(UnsupportedError) as caught:
        parse([flag, *(["argument"] if option.metavar else []), *IN_OUT])
    assert str(caught.value).startswith(f"{flag}: {option.unsupported} is not supported")


def test_the_first_of_several_jobs_says_which_operands_there_are() -> None:
    options = parse(("--dump-dmesg", "--mem-usage", *IN_OUT))
    assert options.job == "dump_dmesg"
    with pytest.raises(UsageError, match="expected VMCORE DUMPFILE"):
        parse(("--dump-dmesg", "--mem-usage", "vmcore"))
    assert parse(("--check-params", "-R", "dump")).job == "check_params"


def test_what_changes_nothing_is_accepted() -> None:
    ignored = ("-b4", "--cyclic-buffer=1024", "--num-buffers=8", "--non-cyclic", "--work-dir=/tmp")
    assert parse((*ignored, *IN_OUT)) == Options(IN_OUT)


def test_help_has_a_line_for_every_option_worth_one() -> None:
    text = help_text()
    assert max(map(len, text.splitlines())) <= 100
    for option in OPTIONS:
        for flag in option.flags.split():
            assert (f"  {flag}" in text or f", {flag}" in text) == bool(option.help), flag


def test_no_option_is_there_twice() -> None:
    flags = [flag for option in OPTIONS for flag in option.flags.split()]
    assert len(flags) == len(set(flags))
    assert {option.field for option in OPTIONS} <= {"", *Options._fields}
