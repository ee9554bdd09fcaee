# SPDX-License-Identifier: GPL-2.0-or-later
"""The arithmetic and the paper of the benchmark; nothing here is timed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import __main__ as command
from tests.bench import loads, memory, scanning, threads, whole
from tests.bench.contest import excluding_seconds, judging_seconds
from tests.bench.document import fill, section_text, summary_text
from tests.bench.gates import Gate, Report, table
from tests.bench.inputs import Synthetic
from tests.bench.plot import plot
from tests.bench.process import CommandFailedError, run, said_until
from tests.bench.rounds import Figures, figure, ratio, spread, take_turns
from tests.bench.stages import profile_of


def wall(seconds: float) -> Figures:
    return {"wall_s": seconds, "cpu_s": seconds, "peak_mib": 30.0, "dump_mib": 5.0}


ROUNDS = [
    {"ours": wall(1), "ours, 1": wall(2), "theirs": wall(4)},
    {"ours": wall(3), "ours, 1": wall(2), "theirs": wall(8)},
    {"ours": wall(9), "ours, 1": wall(9), "theirs": wall(9)},
]


def test_ratio_is_the_median_of_the_ratios_and_not_the_ratio_of_medians() -> None:
    assert ratio(ROUNDS, ["ours"], ["theirs"], "wall_s") == (0.375, 0.25, 1.0)
    assert ratio(ROUNDS, ["ours, 1"], ["theirs"], "wall_s").median == 0.5
    medians = [figure(ROUNDS, who, "wall_s").median for who in ("ours, 1", "theirs")]
    assert medians == [2, 8]


def test_ratio_takes_the_best_of_each_round_and_minds_no_absentee() -> None:
    best = ratio(ROUNDS, ["ours", "ours, 1", "nobody"], ["theirs", "nobody"], "wall_s")
    assert best == spread([1 / 4, 2 / 8, 9 / 9])


def test_turns_alternate_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []

    def contestant(name: str) -> Figures:
        order.append(name)
        return wall(len(order))

    rounds = take_turns({name: lambda name=name: contestant(name) for name in "ab"}, 2)
    assert "".join(order) == "abbaab"
    assert [[turn[name]["wall_s"] for name in "ab"] for turn in rounds] == [[4, 3], [5, 6]]
    assert [list(turn) for turn in rounds] == [["a", "b"]] * 2


@pytest.mark.parametrize(
    ("at_least", "found", "holds"),
    [(False, 1.0, True), (False, 1.01, False), (True, 1.0, True), (True, 0.99, False),
     (False, float("nan"), False), (True, float("nan"), False)],
)  # fmt: skip
def test_gate_holds_at_its_limit_and_not_without_a_figure(
    at_least: bool, found: float, holds: bool
) -> None:
    assert Gate("", 1, spread([found]), at_least).holds is holds


def test_gate_that_is_missed_by_little_does_not_look_held() -> None:
    row = Gate("close", 1.1, spread([1.102])).row()
    assert row == ["close", "at most 1.1", "1.102", "**no**"]


def test_table_of_a_section_tells_the_demand_and_whether_it_holds() -> None:
    report = Report([Gate("speed", 0.8, spread([0.5, 0.9, 1.2]))], [table(["a"], [["b"]])])
    text = section_text(report, "today", "here", 0.1)
    assert "*today, here; load before it 0.1.*" in text
    assert "| speed | at most 0.8 | 0.90 (0.50-1.20) | **no** |" in text
    assert text.endswith("| a |\n| --- |\n| b |")


def test_filling_changes_one_section_and_keeps_what_people_wrote() -> None:
    document = "".join(
        f"words of {name}\n<!-- measured: {name} -->\nold\n<!-- end -->\n" for name in "ab"
    )
    filled = fill(document, "b", r"new \1")
    assert filled == document[: len(document) // 2] + (
        "words of b\n<!-- measured: b -->\nnew \\1\n<!-- end -->\n"
    )
    assert fill(filled, "b", "old") == document
    with pytest.raises(ValueError, match="0 sections 'c'"):
        fill(document, "c", "")


def test_summary_names_what_is_missed() -> None:
    held, missed = Gate("good", 1, spread([1.0])), Gate("bad", 1, spread([2.0]))
    text = summary_text([("First", [held, missed]), ("Second", [held])])
    assert "| First | 1 of 2 |" in text and "| Second | 1 of 1 |" in text
    assert "| bad |" in text and "| good |" not in text
    assert "demanded" not in summary_text([("Second", [held])])


def test_plot_is_xml_with_a_bar_for_each_share() -> None:
    drawing = plot("a < b", [("-d 31", [("ours", 0.5), ("theirs", 1.0)]), ("-c", [("ours", 9.0)])])
    root = ElementTree.fromstring(drawing)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a < b" and {"0.50", "1.00", "9.00", "-d 31"} <= set(texts)
    width = float(root.attrib["viewBox"].split()[2])
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.get("x", 0)) + float(bar.attrib["width"]) <= width


def test_run_tells_what_a_command_took_wrote_and_said(tmp_path: Path) -> None:
    output = tmp_path / "out"
    program = "import sys; open(sys.argv[1], 'wb').truncate(1 << 20); bytes(1 << 27); print('ha')"
    done = run([sys.executable, "-c", program, str(output)], output)
    assert (done.dump_mib, done.said, done.in_time) == (1.0, "ha\n", True)
    assert done.wall_s > 0 and done.figures()["wall_s"] == done.wall_s


def test_run_pins_the_child_and_not_itself() -> None:
    own = os.sched_getaffinity(0)
    program = "import os; print(sorted(os.sched_getaffinity(0)))"
    assert run([sys.executable, "-c", program], cpus=[min(own)]).said == f"[{min(own)}]\n"
    assert os.sched_getaffinity(0) == own


def test_run_refuses_to_measure_failures_but_tells_of_ends_it_made() -> None:
    with pytest.raises(CommandFailedError, match="wait status 768"):
        run([sys.executable, "-c", "exit(3)"])
    with pytest.raises(CommandFailedError, match="cannot be started"):
        run(["/nonexistent"])
    assert not run(["sleep", "600"], time_limit_s=0.01).in_time


def test_said_until_ends_a_command_at_a_word() -> None:
    program = "import time; print('one', flush=True); print('two', flush=True); time.sleep(600)"
    assert said_until([sys.executable, "-c", program], "two") == "one\n"
    with pytest.raises(CommandFailedError, match="no 'three' in"):
        said_until([sys.executable, "-c", "print('one')"], "three")


def test_what_both_programs_say_of_their_scan_is_understood() -> None:
    assert judging_seconds("1.0 MiB written in 0.50 s (0.20 s judging, 0.30 s copying)") == 0.2
    step = "STEP [Excluding unnecessary pages] : {} seconds\n"
    assert excluding_seconds("Copying\r" + step.format("0.500000")) == 0.5
    twice_two_cycles = [step.format(each) for each in ("1.0", "2.0", "1.5", "1.5")]
    assert excluding_seconds("".join(twice_two_cycles)) == 3.0
    assert excluding_seconds("".join(twice_two_cycles[:3]), to_the_end=False) == 3.0
    assert excluding_seconds(step.format("0.5"), to_the_end=False) == 0.5


def test_profile_is_found_in_what_is_said() -> None:
    table = "where the time went  wall s\njudging pages  0.1\n  reading mem_map  0.1"
    assert profile_of(f"1 MiB written\n{table}\nThe dumpfile is saved to x.\n") == table


def test_synthetic_cores_are_told_by_their_size() -> None:
    assert [str(Synthetic(gib)) for gib in (64, 1024)] == ["synthetic, 64 GiB", "synthetic, 1 TiB"]


def _found() -> dict[str, Any]:
    """Figures of every section, as measure() would give them."""
    our_names, their_names = ["pydumpfile", "pydumpfile, 1 thread"], ["makedumpfile"]
    whole_round = {name: wall(1.0) for name in our_names} | {name: wall(4) for name in their_names}
    scan_round = {
        "pydumpfile": {**wall(1.0), "scan_s": 0.5},
        "makedumpfile": {**wall(4.0), "scan_s": 5.0},
    }
    pair = [{"pydumpfile, 1 thread": wall(1.0), "pydumpfile, 2 threads": wall(1.2)}]
    loads_round = {
        f"{who}, {loads_told}": wall(1.0)
        for loads_told in loads.CORES
        for who in ("pydumpfile", "makedumpfile")
    }
    return {
        "whole": [
            {"core": str(core), "case": i, "rounds": [whole_round]}
            for core in (whole.GATED, whole.OTHER)
            for i in range(len(whole.CASES))
        ],
        "scan": {
            "loop": {"n_pages": 400e6, "struct_page_size": 64, "scan_s": {"kept": [1.0]},
                     "copy_s": {"kept": [2.0]}},
            "zero": {"n_bytes": 1e9, "copy_s": [1.0], "find_s": {"scalar": [0.5]}},
            "large": [scan_round],
            "busy": [{who: {"scan_s": scan["scan_s"]} for who, scan in scan_round.items()}],
            "free": [scan_round],
        },
        "threads": {"pinned": {"-l": pair}, "beside": {"-l": pair}, "differ": [],
                    "theirs": {"none": 0.5, "two": 30.0, "done": False}},
        "loads": [loads_round],
        "memory": [
            {"core": str(core), "options": options + bound, "peak_mib": [39.0, 41.0]}
            for core in memory.CORES
            for options in memory.options_for(core)
            for bound, _ in memory.BOUNDS
        ],
        "stages": [{"options": "-l", "profile": "where the time went"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("section", "module", "missed"),
    [
        ("whole", whole, {"two threads over one"}),
        ("scan", scanning, set()),
        ("threads", threads, {"two threads / one"}),
        ("loads", loads, set()),
        ("memory", memory, {"--max-rss 40M"}),
    ],
)
def test_reports_judge_figures_by_the_gates(section: str, module: Any, missed: set[str]) -> None:
    report = module.report(_found()[section])
    bad = [gate.what for gate in report.gates if not gate.holds]
    assert report.gates and report.tables
    assert bool(bad) == bool(missed)
    assert all(any(part in what for part in missed) for what in bad)


def test_document_is_rendered_from_stored_figures_alone(tmp_path: Path) -> None:
    names = ["summary", *command.SECTIONS]
    document = tmp_path / "performance.md"
    document.write_text("".join(f"<!-- measured: {name} -->\n<!-- end -->\n" for name in names))
    for name, found in _found().items():
        result = {"when": "then", "machine": "there", "load": 0.5, "found": found}
        command._store(document, name, result)
    command.render(document)
    once = document.read_text("utf-8")
    assert "Whole dumps | 14 of 16 |" in once
    assert "6.12-cloud, 2 GiB" in once and "```text\nwhere the time went\n```" in once
    assert document.with_suffix(".svg").read_text("utf-8").startswith("<svg")
    command.render(document)
    assert document.read_text("utf-8") == once


def test_every_section_has_its_place_in_the_document() -> None:
    text = command.DOCUMENT.read_text("utf-8")
    for name in ("summary", *command.SECTIONS):
        assert text.count(f"<!-- measured: {name} -->") == 1


def test_peak_memory_is_the_commands_and_not_who_measures() -> None:
    """Which takes more than a Python that does nothing else."""
    code = (
        "room = bytearray(20 << 20)\n"
        "with open('/proc/self/status') as status:\n"
        "    print(*(line.split()[1] for line in status if line.startswith('VmHWM:')))\n"
    )
    here = bytearray(200 << 20)
    done = run([sys.executable, "-I", "-S", "-c", code])
    told_mib = int(done.said) / 1024
    assert 25 < told_mib < 60 < len(here) >> 20
    assert abs(done.peak_mib - told_mib) < 2


def test_figures_are_json_that_anybody_reads(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = command.DOCUMENT.with_suffix(".json").read_text("utf-8")
    assert json.loads(text, parse_constant=refuse)
    with pytest.raises(ValueError, match="not JSON compliant"):
        command._store(tmp_path / "document.md", "memory", {"found": float("nan")})


def test_a_peak_that_was_not_known_is_told_so() -> None:
    found = _found()["whole"]
    found[0]["rounds"] = [{who: {**wall(1.0), "peak_mib": None} for who in found[0]["rounds"][0]}]
    assert "| not known |" in whole.report(found).tables[0]
