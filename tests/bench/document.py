# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts figures into docs/performance.md: between marks, so that what people wrote there stays.

A section is what lies between ``<!-- measured: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .gates import Gate, Report, gate_table, table


def fill(document: str, name: str, text: str) -> str:
    """``document`` with ``text`` in section ``name``.

    :raises ValueError: there is no such section in it.
    """
    section = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)", re.S)
    filled, n_filled = section.subn(lambda found: f"{found[1]}{text.strip()}\n{found[2]}", document)
    if n_filled != 1:
        raise ValueError(f"the document has {n_filled} sections {name!r}, not 1")
    return filled


def section_text(report: Report, when: str, machine: str, load: float) -> str:
    """One section: when and where, its gates, its tables."""
    where = f"*{when}, {machine}; load before it {load:.1f}.*"
    gates = [gate_table(report.gates)] if report.gates else []
    return "\n\n".join([where, *gates, *report.tables])


def summary_text(sections: Iterable[tuple[str, Iterable[Gate]]]) -> str:
    """How many gates hold, a line for each section, and those that do not."""
    rows, missed = [], []
    for title, section_gates in sections:
        gates = list(section_gates)
        held = [gate for gate in gates if gate.holds]
        rows.append([title, f"{len(held)} of {len(gates)}"])
        missed += [gate.row() for gate in gates if not gate.holds]
    text = table(("section", "gates that hold"), rows)
    if missed:
        head = ("not held", "demanded", "found (range)", "holds")
        text += f"\n\n{table(head, missed)}"
    return text
