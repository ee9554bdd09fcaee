# SPDX-License-Identifier: GPL-2.0-or-later
"""The judge of the boots that filter: what a console must show, and what it must not."""

from __future__ import annotations

import pytest

from .filtering import FilterCase, every_kind, filter_cases, filter_errors
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
