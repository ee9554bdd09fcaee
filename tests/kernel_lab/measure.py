# SPDX-License-Identifier: GPL-2.0-or-later
"""The RFC's table: dd of /proc/vmcore with growing blocks, by ioremap and by the direct mapping.

One boot measures both, by the switch, and the ceiling, a plain copy.  Under -icount a nanosecond of
guest time is an instruction: those figures repeat, and they are what the gates are for.  Wall time
under emulation is information.
"""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from .builder import build_image
from .guest import Boot, Console, run_boot
from .pagetables import direct_ranges, module_addresses, table_costs
from .purecode import PMD_SHIFT, PUD_SHIFT, PureCode

BLOCKS_KIB = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
REPEATS = 3
# Smallest ratio of direct to ioremap, by block size, and share of the ceiling from 1 MiB on.
RATIO_GATES = {4: 3.5, 64: 8.0, 4096: 9.0}
CEILING_GATE = 0.93
CEILING_FROM_KIB = 1024

_MIB = 1 << 20


@dataclass(frozen=True)
class Table:
    """MB/s (10^6 bytes a second, or a 1000 instructions) by block size in KiB."""

    base: str
    icount: bool
    ioremap: dict[int, float]
    direct: dict[int, float]
    kernel_copy: float
    user_copy: float
    spread: float  # largest (max - min) / median of any cell

    @property
    def ceiling(self) -> float:
        """The fastest plain copy: 6.12's memcpy() has no rep movsq, its copy to user space has."""
        return max(self.kernel_copy, self.user_copy)

    def gate_errors(self) -> list[str]:
        """Which gates are missed."""
        errors = [
            f"{kib} KiB: {self.ratio(kib):.2f}x, wanted {gate}x"
            for kib, gate in RATIO_GATES.items()
            if self.ratio(kib) < gate
        ]
        errors += [
            f"{kib} KiB: {rate / self.ceiling:.3f} of the ceiling, wanted {CEILING_GATE}"
            for kib, rate in self.direct.items()
            if kib >= CEILING_FROM_KIB and rate < CEILING_GATE * self.ceiling
        ]
        return errors

    def ratio(self, kib: int) -> float:
        """How much faster the direct mapping is."""
        return self.direct[kib] / self.ioremap[kib]

    def markdown(self) -> str:
        """The table as documentation has it."""
        head = ["block", *(_block_name(kib) for kib in self.ioremap)]
        rows = [
            ["ioremap", *(f"{rate:.0f}" for rate in self.ioremap.values())],
            ["direct", *(f"{rate:.0f}" for rate in self.direct.values())],
            ["ratio", *(f"{self.ratio(kib):.1f}" for kib in self.ioremap)],
            ["of ceiling", *(f"{rate / self.ceiling:.2f}" for rate in self.direct.values())],
        ]
        lines = [head, ["---"] * len(head), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read what `save` wrote."""
        fields = json.loads(path.read_text("utf-8"))
        for name in ("ioremap", "direct"):
            fields[name] = {int(kib): rate for kib, rate in fields[name].items()}
        return cls(**fields)


def measure(base: str, logs: Path, *, icount: bool) -> Table:
    """Boot once and fill the table."""
    mib = 512
    blocks = " ".join(map(str, BLOCKS_KIB))
    slow_mib = 128
    steps = f"""
switch off
dds ioremap {slow_mib} {REPEATS} {blocks}
switch on
dds direct {mib} {REPEATS} {blocks}
ceilings 64 {REPEATS}
messages end
"""
    boot = Boot(steps, memory_mib=1536, cpu="max", icount=icount)
    name = f"{base}-measure-{'icount' if icount else 'wall'}"
    return read_table(run_boot(boot, build_image(base), logs / f"{name}.log"), base, icount)


def read_table(console: Console, base: str, icount: bool) -> Table:
    """Medians of what a measuring boot printed."""
    rates: dict[tuple[str, int], list[float]] = {}
    pattern = r"LAB-DD (\w+) (\d+) (\d+) bytes .* copied, ([0-9.e-]+) s,"
    for name, kib, size, seconds in re.findall(pattern, console.text):
        rates.setdefault((name, int(kib)), []).append(int(size) / float(seconds) / 1e6)
    kernel = _copy_rates(r"oldmem_lab: memcpy (\d+) MiB (\d+) ns", console.section("ceilings"))
    user = _copy_rates(r"LAB-USER-COPY (\d+) MiB (\d+) ns", console.text)
    everything = [*rates.values(), kernel]
    return Table(
        base,
        icount,
        {kib: statistics.median(rates["ioremap", kib]) for kib in BLOCKS_KIB},
        {kib: statistics.median(rates["direct", kib]) for kib in BLOCKS_KIB},
        statistics.median(kernel),
        statistics.median(user),
        max((max(cell) - min(cell)) / statistics.median(cell) for cell in everything),
    )


@dataclass(frozen=True)
class MappingCost:
    """What mapping the old memory cost in one boot.

    bound_kib: by oldmem_tables_needed() for the same ranges, as if no table existed before.
    """

    mapped_mib: int
    tables_kib: int
    bound_kib: int
    microseconds: int

    def __str__(self) -> str:
        return (
            f"{self.mapped_mib} MiB mapped, {self.tables_kib} KiB of page tables "
            f"(at most {self.bound_kib} by calculation), {self.microseconds} us"
        )


def measure_mapping(base: str, memory_mib: int, cpu: str, logs: Path) -> MappingCost:
    """Boot a guest with that much memory, nearly none of it touched."""
    steps = "module\nmessages end\n"
    boot = Boot(steps, memory_mib=memory_mib, cpu=cpu, crashkernel_mib=256, fill_percent=0)
    log = logs / f"{base}-mapping-{memory_mib}-{cpu}.log"
    return read_mapping_cost(run_boot(boot, build_image(base), log), base, cpu)


def read_mapping_cost(console: Console, base: str, cpu: str) -> MappingCost:
    """What the kernel said about mapping, and what was to be expected."""
    dmesg = console.section("dmesg-end")
    page_offset, _ = module_addresses(dmesg)
    costs = table_costs(dmesg)
    ranges = direct_ranges(dmesg)
    code = PureCode(base)
    bound = sum(
        code.tables_needed(
            page_offset + one.start_paddr,
            page_offset + one.end_paddr,
            leaf_shift=PMD_SHIFT if cpu == "qemu64" else PUD_SHIFT,
            five_level=cpu == "max",
        )
        for one in ranges
    )
    return MappingCost(
        sum(one.end_paddr - one.start_paddr for one in ranges) >> 20,
        sum(kib for kib, _ in costs),
        bound * 4,
        sum(us for _, us in costs),
    )


def _copy_rates(pattern: str, text: str) -> list[float]:
    return [int(mib) * _MIB / int(ns) * 1e3 for mib, ns in re.findall(pattern, text)]


def _block_name(kib: int) -> str:
    return f"{kib}K" if kib < 1024 else f"{kib // 1024}M"
