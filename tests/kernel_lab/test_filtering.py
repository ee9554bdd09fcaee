# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge of the boots that filter: what a console must show, and what it must not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.errors import LabError

from .filtering import (
    N_LEVELS,
    FilterCase,
    every_kind,
    filter_cases,
    filter_errors,
    same_dumps_of_levels,
)
from .guest import Boot, Console

KASAN = "[    9.1] BUG: KASAN: slab-out-of-bounds in next_block+0x1c/0x30"
UBSAN = "[    9.2] UBSAN: shift-out-of-bounds in ../fs/proc/vmcore_pfn_lists.c:448:3"


def console(*messages: str, done: str = "levels") -> Console:
    lines = [f"LISTS DONE {done}", "LAB-BEGIN dmesg-end", *messages, "LAB-END dmesg-end"]
    return Console("".join(f"{line}\n" for line in lines))


def case(*complaints: str) -> FilterCase:
    return FilterCase("any", Boot(""), ("levels",), (), complaints=complaints)


def test_a_quiet_kernel_is_right() -> None:
    assert filter_errors(case(), console("[    1.0] vmcore: all is well")) == []


@pytest.mark.parametrize(
    "message",
    [KASAN, UBSAN, "[    9.3] WARNING: CPU: 0 PID: 1 at fs/proc/vmcore.c:1",
     "[    9.4] Call Trace:", "[    9.5] BUG: sleeping function called from invalid context",
     "[    9.6] Oops: 0000 [#1]"],
)  # fmt: skip
def test_a_kernel_that_complains_is_wrong(message: str) -> None:
    assert filter_errors(case(), console(message)) == [message]


def test_what_did_not_come_to_its_end_is_wrong() -> None:
    (error,) = filter_errors(case(), console(done="hostile"))
    assert error.startswith("hostile came to its end")


def test_a_kernel_with_mistakes_has_to_complain_of_each() -> None:
    wrong = case("KASAN: slab-out-of-bounds", "UBSAN: shift")
    assert filter_errors(wrong, console(KASAN, UBSAN)) == []
    assert filter_errors(wrong, console(KASAN)) == ["the kernel does not complain of UBSAN: shift"]
    assert len(filter_errors(wrong, console())) == 2


def test_a_kind_that_is_nowhere_is_missed() -> None:
    errors = every_kind(console())
    assert any("counted" in error for error in errors)
    assert len([error for error in errors if "left out at any level" in error]) >= 5


def test_every_sanitized_kernel_is_seen_to_be_one() -> None:
    sanitized = [one for one in filter_cases() if one.name.startswith("sanitized")]
    assert len(sanitized) >= 3
    assert all("watched" in [check.__name__ for check in one.checks] for one in sanitized)


def dumps_of_levels() -> dict[tuple[int, str], str]:
    """What dumps of all levels say when nothing is wrong, by level and place."""
    said = {}
    for level in range(N_LEVELS):
        judged = "judged in the kernel." if level > 1 else ""
        judged = judged or "not judged: no struct page matters at this level."
        for place, told in (("user", ""), ("kernel", f"Pages were {judged}\n")):
            table = f"= stored   {1000 - level}   3.9 MiB   {100 - level}.0%\n"
            said[level, place] = f"{level:064x}  -\n{table}{told}ended with 0\n"
    return said


def dump_errors(said: dict[tuple[int, str], str]) -> list[str]:
    return same_dumps_of_levels(
        Console(
            "".join(
                f"LAB-BEGIN dump-{level}-{place}\n{text}LAB-END dump-{level}-{place}\n"
                for (level, place), text in said.items()
            )
        )
    )


def test_dumps_that_are_the_same_are_right() -> None:
    assert dump_errors(dumps_of_levels()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        (f"{9:064x}", f"{99:064x}", "dumps differ"),
        (f"{9:064x}  -\n", "", "dumps differ"),
        ("991 ", "992 ", "other pages are counted"),
        ("ended with 0", "ended with 10", "not all went well"),
        ("judged in the kernel", "judged in user space", "the kernel did not judge"),
    ],
)
def test_each_level_has_to_give_the_same_dump(right: str, wrong: str, complaint: str) -> None:
    said = dumps_of_levels()
    assert right in said[9, "kernel"]
    said[9, "kernel"] = said[9, "kernel"].replace(right, wrong)
    (error,) = dump_errors(said)
    assert error.startswith(f"level 9: {complaint}")


def test_levels_that_give_the_same_dump_are_no_dumps() -> None:
    said = dumps_of_levels()
    for place in ("user", "kernel"):
        said[9, place] = said[8, place]
    assert dump_errors(said) == ["32 levels gave 31 dumps"]


def test_pages_have_to_be_judged_at_every_level_that_takes_it() -> None:
    said = dumps_of_levels()
    said[2, "kernel"] = said[2, "kernel"].replace(
        "judged in the kernel.", "not judged: no struct page matters at this level."
    )
    (error,) = dump_errors(said)
    assert error.startswith("level 2: the kernel did not judge")


def test_a_level_that_is_missing_is_an_error() -> None:
    said = dumps_of_levels()
    del said[31, "kernel"]
    with pytest.raises(LabError, match="dump-31-kernel"):
        dump_errors(said)


def test_the_document_has_each_case() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "kernel.md").read_text("utf-8")
    _, _, table = text.partition("\n| case | what | 6.1 and 6.12 |\n")
    names = re.findall(r"^\| (\S+) \|", table.partition("\n\n")[0], re.M)
    assert sorted(names) == sorted(case.name for case in filter_cases())
