# SPDX-License-Identifier: GPL-2.0-or-later
"""From stored figures to the document: tables, lines, drawings; no guest is booted."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pydumpfile.comparison.judging import BY_MMAP, IN_PLACE
from pydumpfile.comparison.result import JUDGING, STEPS, Found
from pydumpfile.comparison.rounds import spread
from pydumpfile.errors import FormatError
from tests.kernel_lab.guest import Console
from tests.lab.errors import LabError

from . import command, document
from .boots import INSTRUCTIONS, PATCHED, SIZES_GIB, STOCK, TIME, Guest, Measured, read_comparison
from .figures import Figures, Place
from .repeating import repeated_ratios
from .samples import FIXED, PER_PAGE, pages, sample, sample_figures

HERE = Place("6.1", STOCK, INSTRUCTIONS)
WAY = (JUDGING, BY_MMAP)
STORED = Figures.load(command.stored_at(command.DOCUMENT))
AGAIN = Figures.load(command.stored_again_at(command.DOCUMENT))
STATED_SPREAD = 0.06
"""Of instructions, as the document says."""


@pytest.fixture
def figures() -> Figures:
    return sample_figures()


def rows(table: str) -> dict[str, list[str]]:
    """Cells by the first of each line, of all tables in a text."""
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    return {first: rest for first, *rest in cells}


def test_stored_figures_are_the_same(figures: Figures, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert list(Figures.load(path)) == []
    figures.save(path)
    assert list(Figures.load(path)) == list(figures)


def test_a_guest_that_is_measured_again_is_replaced(figures: Figures) -> None:
    again = sample(Guest("6.1", STOCK, 4096, INSTRUCTIONS))._replace(seconds=7)
    n = len(list(figures))
    figures.add(again)
    assert len(list(figures)) == n
    assert again in list(figures)


def test_lines_are_those_of_the_sample(figures: Figures) -> None:
    line = figures.line(HERE, WAY)
    assert line is not None
    assert line.per_x == pytest.approx(PER_PAGE[WAY][STOCK])
    assert line.fixed == pytest.approx(FIXED)
    assert figures.line(HERE, (JUDGING, IN_PLACE)) is None


def test_two_sizes_are_no_line() -> None:
    two = Figures(sample(Guest("6.1", STOCK, gib << 10, INSTRUCTIONS)) for gib in (4, 16))
    assert two.line(HERE, WAY) is None


def test_the_spread_of_a_place_is_its_widest(figures: Figures) -> None:
    assert figures.widest(HERE) == 0
    assert figures.widest(HERE._replace(unit=TIME)) == pytest.approx(0.01, rel=0.01)


def test_tables_have_each_kernel_and_size(figures: Figures) -> None:
    text = "\n\n".join(document.measured_tables(figures, INSTRUCTIONS))
    found = rows(text)
    count = (FIXED + PER_PAGE[WAY][STOCK] * pages(65536)) / 1e6
    assert found[BY_MMAP][2] == f"{count:.1f}"
    assert found[IN_PLACE][:3] == ["-", "-", "-"]
    assert len(found["Judging all pages"]) == 2 * len(SIZES_GIB)
    assert "6.1" in text


def test_the_growth_table_goes_beyond(figures: Figures) -> None:
    found = rows("\n\n".join(document.growth_tables(figures)))
    fixed, per_page, one_tib, *_ = found[f"judging: {BY_MMAP}"]
    assert (fixed, per_page) == ("5.0", "30.0")
    assert one_tib == f"{(FIXED + 30 * (1 << 28)) / 1e9:.2f} ± 0.0 %"


def test_the_answer_counts_from_the_slowest(figures: Figures) -> None:
    for guest in (Guest("6.12", kernel, 4096, INSTRUCTIONS) for kernel in (STOCK, PATCHED)):
        figures.add(sample(guest))
    found = rows(document.answer(figures))
    assert found["judging all pages"][::2] == [
        "6.1, 64 GiB: instructions a page",
        "6.12, 4 GiB: instructions a page",
    ]
    assert found["user space, read 4K, stock kernel"][1::2] == ["1.0", "1.0"]
    per_page, times, *_ = found["kernel, in place (direct mapping)"]
    assert per_page == "20.3"
    assert float(times) == pytest.approx(120 / 20, rel=0.02)
    assert found["user space, mmap, scalar loop as the kernel's"] == ["-"] * 4


def test_bitmaps_that_differ_stand_out(figures: Figures) -> None:
    assert "**not the same**" not in document.bitmaps_table(figures)
    measured = sample(Guest("6.1", STOCK, 4096, INSTRUCTIONS))
    odd = Found(JUDGING, "odd", (1,), "bb")
    comparison = measured.comparison._replace(found=(*measured.comparison.found, odd))
    figures.add(measured._replace(comparison=comparison))
    assert "**not the same**" in document.bitmaps_table(figures)


def test_second_boots_are_compared_by_their_ratios(figures: Figures) -> None:
    """Twice as slow a machine gives the same ratios, a way that alone is slower does not."""
    guest = Guest("6.1", STOCK, 4096, INSTRUCTIONS)
    measured = sample(guest)
    found = [
        one._replace(ns=tuple(2 * ns + (ns // 50 if one.way == BY_MMAP else 0) for ns in one.ns))
        for one in measured.comparison.found
    ]
    comparison = measured.comparison._replace(found=tuple(found))
    again = Figures([measured._replace(comparison=comparison)])
    text = document.repeat_table(figures, again)
    [judging] = [line for line in text.splitlines() if str(guest) in line]
    assert "| Judging all pages | 2 | 1.00% | user space, mmap: " in judging
    assert document.repeat_table(Figures(), again) == "Not measured."


def test_times_stand_beside_ratios_of_the_same_rounds(figures: Figures) -> None:
    found = rows("\n\n".join(document.measured_tables(figures, TIME)))
    assert ";" not in found["user space, read 4K"][0]
    ratio = (FIXED + 120 * pages(4096)) / (FIXED + 30 * pages(4096))
    assert found[BY_MMAP][0].endswith(f"; {ratio:.2f} ({ratio:.2f}-{ratio:.2f})")
    assert found[IN_PLACE][0] == "-"


def test_the_document_is_filled_between_its_marks(figures: Figures, tmp_path: Path) -> None:
    path = tmp_path / "comparison.md"
    names = document.sections(figures, Figures())
    marks = "".join(f"By hand.\n<!-- measured: {name} -->\nold\n<!-- end -->\n" for name in names)
    path.write_text(marks)
    figures.save(tmp_path / "comparison.json")
    command.render(path)
    text = path.read_text("utf-8")
    assert text.count("By hand.") == len(names)
    assert "old" not in text
    drawings = sorted(tmp_path.glob("*.svg"))
    assert [one.name for one in drawings] == [
        "comparison-growth-6.1.svg",
        "comparison-winners-6.1.svg",
    ]
    for one in drawings:
        root = ET.fromstring(one.read_text("utf-8"))
        assert root.tag.endswith("svg")
        assert "nan" not in one.read_text("utf-8")


def test_the_documents_own_marks_are_all_there() -> None:
    text = command.DOCUMENT.read_text("utf-8")
    for name in document.sections(Figures(), Figures()):
        assert text.count(f"<!-- measured: {name} -->\n") == 1


def test_the_document_is_that_of_its_figures() -> None:
    """What is checked in was rendered from the figures beside it."""
    text = command.DOCUMENT.read_text("utf-8")
    for section in document.sections(STORED, AGAIN).values():
        assert section.strip() in text


def test_stored_boots_all_agree_on_bitmaps() -> None:
    for one in (*STORED, *AGAIN):
        assert one.comparison.succeeded, one.guest


def test_stored_instruction_counts_repeat_from_round_to_round() -> None:
    for one in (*STORED, *AGAIN):
        for found in one.comparison.found:
            if one.guest.unit == INSTRUCTIONS and found.ns:
                median, low, high = spread(found.ns)
                assert high - low <= STATED_SPREAD * median, (one.guest, found)


def test_stored_ratios_repeat_from_boot_to_boot() -> None:
    first_boots = {one.guest: one.comparison for one in STORED}
    n_ratios = 0
    for second in AGAIN:
        for step in STEPS:
            ratios = repeated_ratios(first_boots[second.guest], second.comparison, step)
            for ratio in ratios:
                n_ratios += 1
                assert ratio.apart <= STATED_SPREAD, (second.guest, step, ratio)
    assert n_ratios


def test_nothing_measured_renders_as_that() -> None:
    sections = document.sections(Figures(), Figures())
    assert sections["instructions"] == sections["growth"] == "Not measured."


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["compare", *arguments])


def test_all_guests_by_default_small_ones_first() -> None:
    guests = list(command.guests(parsed()))
    assert len(guests) == 2 * 2 * 3 * 2
    assert guests[0] == Guest("6.1", STOCK, 4096, INSTRUCTIONS)
    assert [one.unit for one in guests] == [INSTRUCTIONS] * 12 + [TIME] * 12


def test_guests_can_be_chosen() -> None:
    options = parsed("6.12", "--kernel", PATCHED, "--unit", TIME, "--gib", "16")
    assert list(command.guests(options)) == [Guest("6.12", PATCHED, 16384, TIME)]


def test_what_is_stored_is_not_measured_again(
    figures: Figures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "comparison.md"
    path.write_text("".join(f"<!-- measured: {name} -->\n<!-- end -->\n" for name in
                            document.sections(figures, Figures())))  # fmt: skip
    figures.save(tmp_path / "comparison.json")
    figures.save(tmp_path / "comparison-again.json")
    booted: list[Guest] = []

    def measure(guest: Guest, logs: Path) -> Measured:
        assert logs == tmp_path
        booted.append(guest)
        return sample(guest)

    monkeypatch.setattr(command, "measure", measure)
    options = parsed("6.1", "6.12", "--missing", "--gib", "4", "--document", str(path))
    assert command.run(options, tmp_path) == 0
    assert {one.base for one in booted} == {"6.12"}
    assert len(list(Figures.load(tmp_path / "comparison.json"))) == 12 + 4
    twice = Guest("6.12", PATCHED, 4096, INSTRUCTIONS)
    assert [one for one in booted if booted.count(one) > 1] == [twice, twice]
    again = Figures.load(tmp_path / "comparison-again.json")
    assert [one.guest for one in again if one.guest.base == "6.12"] == [twice]


def test_a_console_without_figures() -> None:
    with pytest.raises(LabError, match="no compare"):
        read_comparison(Console("LAB-BEGIN other\nLAB-END other\n"))
    with pytest.raises(FormatError):
        read_comparison(Console("LAB-BEGIN compare\n{oops\nLAB-END compare\n"))


def test_the_console_gives_the_comparison() -> None:
    comparison = sample(Guest("6.1", STOCK, 4096, TIME)).comparison
    console = Console(f"x\nLAB-BEGIN compare\n{comparison.to_json()}\nLAB-END compare\n")
    assert read_comparison(console) == comparison


def test_each_guest_has_its_share_of_memory_used() -> None:
    shares = set()
    for gib in SIZES_GIB:
        boot = Guest("6.1", PATCHED, gib << 10, INSTRUCTIONS).boot(2)
        shares.add((boot.fill_percent, boot.cache_percent, boot.icount, boot.first_parameters))
    assert shares == {(4, 56, True, "init_on_alloc=0")}
