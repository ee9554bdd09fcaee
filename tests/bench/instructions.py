# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that the loops in C take for each page, counted by callgrind: the same every time.

    python -m tests.bench.instructions             a Markdown table
    python -m tests.bench.instructions --record    what test_instructions.py holds the loops to

What is counted is each loop alone, with all it calls; Python around it is not. Each variant is
asked for by name, so that the counts do not depend on the processor; on the compiler they do, and
it is recorded with them.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, NamedTuple

from pydumpfile._pagescan import ffi, lib

from pydumpfile import _pagescan
from pydumpfile.bitmap import Bitmap
from pydumpfile.filter.native import NativeClassifier
from pydumpfile.filter.plan import Plan
from pydumpfile.filter.tally import Tally
from pydumpfile.variants import VARIANTS, variants
from tests.bench.gates import table
from tests.bench.scan import MIXES, plan_of_6_12

RECORD = Path(__file__).with_name("instructions.json")
PROJECT = Path(__file__).resolve().parent.parent.parent
N_STRUCT_PAGES = 1 << 13
N_PAGES = 256
PAGE_SIZE = 4096
_MODULE = "tests.bench.instructions"
_BE_COUNTED = "--be-counted"


class Call(NamedTuple):
    """One call of a loop, on pages of one kind."""

    function: str
    variant: str
    """Empty where there is only one."""
    pages: str
    n_pages: int
    run: Callable[[], object]

    @property
    def name(self) -> str:
        """How it is known in the record."""
        return ", ".join(word for word in (self.function, self.variant, self.pages) if word)


def calls(plan: Plan) -> Iterator[Call]:
    """All of them, in the same order each time. Struct pages are judged by ``plan``."""
    for variant in variants():
        classifier = NativeClassifier(plan, variant)
        for mix in MIXES:
            pages = _struct_pages(mix)
            yield Call("pydump_classify", variant, mix, N_STRUCT_PAGES, _judging(classifier, pages))
    offs = ffi.new("uint64_t[]", list(range(0, N_PAGES * PAGE_SIZE, PAGE_SIZE)))
    state = ffi.new("uint8_t[]", N_PAGES)
    for variant in variants():
        for kind in ("data", "zero"):
            pages = _pages(kind)

            def find(pages: object = pages, number: int = VARIANTS[variant]) -> None:
                lib.pydump_find_zero(pages, PAGE_SIZE, offs, N_PAGES, state, number)

            yield Call("pydump_find_zero", variant, kind, N_PAGES, find)
    for kind, byte in (("all kept", b"\xff"), ("every other kept", b"\x55")):
        bits = byte * (N_PAGES // 4)

        def listing(bits: bytes = bits) -> None:
            lib.pydump_list_pages(bits, 0, 8 * len(bits), PAGE_SIZE, offs, N_PAGES)

        yield Call("pydump_list_pages", "", kind, N_PAGES, listing)
    yield Call("pydump_spans", "", "every page", N_PAGES, _spanning(offs))
    yield Call("pydump_describe", "", "data", N_PAGES, _describing(offs))


def _struct_pages(mix: str) -> memoryview:
    run = 1 if mix.endswith("no runs") else 16
    chosen = random.Random(1).choices(MIXES[mix], k=N_STRUCT_PAGES // run)
    return memoryview(b"".join(page * run for page in chosen))


def _judging(classifier: NativeClassifier, pages: memoryview) -> Callable[[], object]:
    window = Bitmap(0, N_STRUCT_PAGES)
    window.set_ranges([(0, N_STRUCT_PAGES)])
    return lambda: classifier.classify(pages, 0, 0, N_STRUCT_PAGES, window, Tally())


def _pages(kind: str) -> object:
    """Pages of zeros, or that differ from them half way: entering the loop shall not count much."""
    pages = bytearray(N_PAGES * PAGE_SIZE)
    if kind == "data":
        pages[PAGE_SIZE // 2 :: PAGE_SIZE] = b"\1" * N_PAGES
    return ffi.from_buffer("uint8_t[]", pages)


def _spanning(offs: object) -> Callable[[], object]:
    spans = ffi.new("uint64_t[]", 2 * N_PAGES)
    return lambda: lib.pydump_spans(offs, N_PAGES, PAGE_SIZE, 8 * PAGE_SIZE, spans)


def _describing(offs: object) -> Callable[[], object]:
    batch = ffi.new("struct pydump_batch *", {"off": offs, "n": N_PAGES, "page_size": PAGE_SIZE})
    state = ffi.new("uint8_t[]", N_PAGES)  # zero is data
    sizes = ffi.new("uint32_t[]", [1000] * N_PAGES)
    descriptors = ffi.new("uint8_t[]", 24 * N_PAGES)

    def describe() -> None:
        batch.state = state
        lib.pydump_describe(batch, sizes, descriptors)

    return describe


def count(valgrind: str = "valgrind") -> dict[str, float]:
    """What callgrind counts for each call, by its name, over the pages it is about."""
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of_6_12()
        plan_path = Path(folder, "plan")  # making it takes long enough without valgrind
        plan_path.write_bytes(pickle.dumps(plan))
        functions = sorted({call.function for call in calls(plan)})
        command = [
            valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out",
            "--compress-strings=no", "--compress-pos=no",
            *(f"--dump-after={function}" for function in functions),
            sys.executable, "-m", _MODULE, _BE_COUNTED, str(plan_path),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=PROJECT, capture_output=True, check=True, text=True,
            env={**os.environ, "LD_BIND_NOW": "1"},  # looking up a symbol is no work of a loop
        )  # fmt: skip
        counted = json.loads(done.stdout)  # valgrind may know fewer variants than this processor
        dumps = [Path(folder, f"out.{i + 1}").read_text("utf-8") for i in range(len(counted))]
    found = {}
    for (name, function, n_pages), dump in zip(counted, dumps):
        assert f"--dump-after={function}" in dump, f"{name} is not what was counted"
        found[name] = round(inclusive(dump, function) / n_pages, 3)
    return found


def inclusive(dump: str, function: str) -> int:
    """Instructions of ``function`` and of all it calls, in callgrind's own words."""
    total, inside = 0, False
    for line in dump.splitlines():
        if line.startswith("fn="):
            inside = line == f"fn={function}"
        elif inside and line[:1].isdigit():  # of a line, or of a call: where from, how many
            total += int(line.split()[1])
    assert total, f"callgrind does not tell of {function}"
    return total


def made_by() -> dict[str, str]:
    """What the counts depend on: the compiler, less its last number, and the processor's kind."""
    module = Path(_pagescan.__file__).read_bytes()
    compiler = re.search(rb"GCC: \([^)]*\) (\d+)|clang version (\d+)", module)
    told = compiler[0].decode("ascii") if compiler else "unknown"
    name = "gcc" if told.startswith("GCC") else told.partition(" ")[0]
    return {"compiler": f"{name} {told.rpartition(' ')[2]}", "machine": platform.machine()}


def main() -> None:
    """Print the table, write the record, or be what is counted."""
    if sys.argv[1:2] == [_BE_COUNTED]:
        ran = []
        for call in calls(pickle.loads(Path(sys.argv[2]).read_bytes())):
            call.run()
            ran.append((call.name, call.function, call.n_pages))
        print(json.dumps(ran))
        return
    found = count()
    if sys.argv[1:] == ["--record"]:
        RECORD.write_text(json.dumps({**made_by(), "counts": found}, indent=1) + "\n", "utf-8")
    print(table(("loop", "instructions a page"), [[name, str(n)] for name, n in found.items()]))


if __name__ == "__main__":
    main()
