# SPDX-License-Identifier: GPL-2.0-or-later
"""The error hierarchy: exit codes, fields, context."""

from __future__ import annotations

import errno

import pytest

from pydumpfile import errors
from pydumpfile.errors import (
    FaultError,
    FormatError,
    InputError,
    MismatchError,
    MissingFactError,
    NativeError,
    NotInDumpError,
    OutOfMemoryError,
    OutputError,
    PageTableError,
    PydumpfileError,
    SizeLimitError,
    TruncatedError,
    UnsupportedError,
    UsageError,
)

EXAMPLES = [
    (UsageError("no such level"), 1),
    (FormatError("core", 16, "an ELF core", "an executable"), 3),
    (TruncatedError("core", 64, "64 bytes", "12 bytes"), 4),
    (UnsupportedError("a diskdump"), 5),
    (MissingFactError("SIZE(page)", "VMCOREINFO of core"), 6),
    (MismatchError("release", "6.1", "vmcoreinfo", "6.12", "core"), 2),
    (FaultError(0x1000, "physical"), 7),
    (NotInDumpError(0x1000), 8),
    (PageTableError(0xFFFF888000000000, 2, 0x42), 9),
    (OutputError("dump", errno.ENOSPC, "writing"), 10),
    (SizeLimitError("dump", 1000), 10),
    (NativeError("pydump_classify", -1), 11),
    (InputError("core", errno.EACCES, "opening"), 12),
    (OutOfMemoryError("8 bytes"), 13),
]


@pytest.mark.parametrize(("error", "code"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_exit_code(error: PydumpfileError, code: int) -> None:
    assert error.exit_code == code
    assert isinstance(error, PydumpfileError)


def test_each_kind_has_an_example_and_one_exits_with_2() -> None:
    kinds = {
        kind for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PydumpfileError)
    } - {PydumpfileError}  # fmt: skip
    assert kinds == {type(error) for error, _ in EXAMPLES}
    assert 0 not in {kind.exit_code for kind in kinds}
    assert [kind for kind in kinds if kind.exit_code == 2] == [MismatchError]


@pytest.mark.parametrize("error", [error for error, _ in EXAMPLES], ids=lambda e: type(e).__name__)
def test_context_is_prepended_to_the_same_error(error: PydumpfileError) -> None:
    before = str(error)
    again = error.within("reading mem_map").within("core")
    assert again is error
    assert str(error) == f"core: reading mem_map: {before}"
    error.message = before  # the examples are shared
    assert "\n" not in str(error)


def test_hierarchy() -> None:
    assert issubclass(TruncatedError, FormatError)
    assert issubclass(NotInDumpError, FaultError)
    assert issubclass(PageTableError, FaultError)


def test_fields_and_messages() -> None:
    form = FormatError("core", 0x10, "an ELF core", "e_type 2", "give a vmcore")
    assert (form.path, form.off, form.expected, form.got) == ("core", 16, "an ELF core", "e_type 2")
    assert str(form) == (
        "core: at file offset 0x10: expected an ELF core, found e_type 2; give a vmcore"
    )
    fact = MissingFactError("SIZE(page)", "VMCOREINFO of core", "only -d 1 works")
    assert (fact.name, fact.looked_in) == ("SIZE(page)", "VMCOREINFO of core")
    assert "SIZE(page)" in str(fact) and "VMCOREINFO of core" in str(fact)
    fault = PageTableError(0xFFFF888000000000, 2, 0x42)
    assert (fault.address, fault.space, fault.level, fault.entry) == (
        0xFFFF888000000000, "virtual", 2, 0x42)  # fmt: skip
    assert "0xffff888000000000" in str(fault) and "level-2" in str(fault) and "0x42" in str(fault)
    output = OutputError("dump", errno.ENOSPC, "writing", "use -z")
    assert (output.path, output.errno) == ("dump", errno.ENOSPC)
    assert "No space left on device" in str(output) and str(output).endswith("; use -z")
    assert output.reason == "No space left on device"
    limit = SizeLimitError("dump", 1000)
    assert isinstance(limit, OutputError)
    assert (limit.path, limit.errno) == ("dump", errno.EFBIG)
    assert limit.reason == "Size limit(1000) reached."
    assert "1000 bytes of -L" in str(limit)
    mismatch = MismatchError("release", "6.1", "/tmp/vmcoreinfo", "6.12", "/proc/vmcore")
    assert (mismatch.what, mismatch.given, mismatch.found) == ("release", "6.1", "6.12")
    assert "/tmp/vmcoreinfo" in str(mismatch) and "/proc/vmcore" in str(mismatch)
    unknown = InputError("core", None, "reading")
    assert unknown.errno is None and "failed" in str(unknown)
    unsupported = UnsupportedError("a diskdump", "convert it")
    assert unsupported.what == "a diskdump"
    assert str(unsupported) == "a diskdump is not supported; convert it"
