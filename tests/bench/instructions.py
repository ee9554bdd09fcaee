# SPDX-License-Identifier: GPL-2.0-or-later
"""Instructions that the loops in C take for each page, counted by callgrind: no noise moves them.

    python -m tests.bench.instructions             a Markdown table
    python -m tests.bench.instructions --record    what test_instructions.py holds the loops to

What is counted is each loop alone, with what it calls of ours: not Python around it, nor memcpy(),
which is another on each processor. Each variant is asked for by name, so that the counts do not
depend on the processor; on the compiler they do, and it is recorded with them.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

from pydumpfile._pagescan import ffi, lib

from pydumpfile import _pagescan
from pydumpfile.bitmap import Bitmap
from pydumpfile.filter.answer import Answer
from pydumpfile.filter.level import Kind
from pydumpfile.filter.native import NativeClassifier, take_records
from pydumpfile.filter.plan import Plan
from pydumpfile.filter.tally import Tally
from pydumpfile.variants import VARIANTS, variants
from tests.bench.gates import table
from tests.bench.scan import BUDDY, MIXES, STRUCT_PAGE_SIZE, plan_of_6_12, struct_page

RECORD = Path(__file__).with_name("instructions.json")
PROJECT = Path(__file__).resolve().parent.parent.parent
N_STRUCT_PAGES = 1 << 13
N_PAGES = 256
PAGE_SIZE = 4096
NOWHERE = (1 << 64) - 1
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
    yield Call("pydump_pass_free", "", "largest blocks", N_STRUCT_PAGES, _passing(plan))
    yield Call("pydump_take_records", "", "runs of 16", N_STRUCT_PAGES, _following())
    offs = ffi.new("uint64_t[]", list(range(0, N_PAGES * PAGE_SIZE, PAGE_SIZE)))
    state = ffi.new("uint8_t[]", N_PAGES)
    for variant in variants():
        for kind in ("data", "zero"):
            pages = _pages(kind)

            def find(pages: object = pages, number: int = VARIANTS[variant]) -> None:
                lib.pydump_find_zero(pages, PAGE_SIZE, offs, N_PAGES, state, number)

            yield Call("pydump_find_zero", variant, kind, N_PAGES, find)
    listed = ffi.new("uint64_t[]", N_PAGES)
    for kind, byte in (("all kept", b"\xff"), ("every other kept", b"\x55")):
        bits = byte * (N_PAGES // 4)

        def listing(bits: bytes = bits) -> None:
            lib.pydump_list_pages(bits, 0, 8 * len(bits), PAGE_SIZE, listed, N_PAGES)

        yield Call("pydump_list_pages", "", kind, N_PAGES, listing)
    yield Call("pydump_spans", "", "every page", N_PAGES, _spanning(offs))
    yield Call("pydump_describe", "", "data", N_PAGES, _describing(offs))
    yield Call("pydump_encode", "", "as they are", N_PAGES, _encoding(offs))
    for kind in ("random", "zero"):
        page = ffi.new(
            "uint8_t[]",
            random.Random(1).randbytes(PAGE_SIZE) if kind == "random" else bytes(PAGE_SIZE),
        )
        yield Call("pydump_is_noise", "", kind, 1, partial(lib.pydump_is_noise, page, PAGE_SIZE))
    for kind, zero_off in (("as they are", NOWHERE), ("zero", 0)):
        yield Call("pydump_decode", "", kind, N_PAGES, _decoding(offs, zero_off))


def _struct_pages(mix: str) -> memoryview:
    run = 1 if mix.endswith("no runs") else 16
    chosen = random.Random(1).choices(MIXES[mix], k=N_STRUCT_PAGES // run)
    return memoryview(b"".join(page * run for page in chosen))


def _judging(classifier: NativeClassifier, pages: memoryview) -> Callable[[], object]:
    window = Bitmap(0, N_STRUCT_PAGES)
    window.set_ranges([(0, N_STRUCT_PAGES)])
    return lambda: classifier.classify(pages, 0, 0, N_STRUCT_PAGES, window, Tally())


def _passing(plan: Plan) -> Callable[[], object]:
    """Free blocks of the largest order, of which there has to be the first struct page."""
    classifier = NativeClassifier(plan)
    block = struct_page(0, 0, BUDDY, private=plan.max_order - 1)
    block += bytes((len(block) << (plan.max_order - 1)) - len(block))
    pages = memoryview(block * (N_STRUCT_PAGES * STRUCT_PAGE_SIZE // len(block)))
    window, tally = Bitmap(0, N_STRUCT_PAGES), Tally()
    window.set_ranges([(0, N_STRUCT_PAGES)])

    def pass_free() -> None:
        classifier.pass_free(pages, 0, 0, N_STRUCT_PAGES, window, tally)
        assert tally.resume_pfn == N_STRUCT_PAGES

    return pass_free


def _following() -> Callable[[], object]:
    run, kind = 16, int(Kind.CACHE)
    records = b"".join(
        struct.pack("<QQ", first_pfn, run << 8 | kind)
        for first_pfn in range(0, N_STRUCT_PAGES, run)
    )
    window = Bitmap(0, N_STRUCT_PAGES)
    window.set_ranges([(0, N_STRUCT_PAGES)])

    def follow() -> None:
        n = take_records(records, Answer(N_STRUCT_PAGES), window, Tally())
        assert n == N_STRUCT_PAGES // run

    return follow


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


def _encoding(offs: object) -> Callable[[], object]:
    batch = ffi.new("struct pydump_batch *", {"off": offs, "n": N_PAGES, "page_size": PAGE_SIZE})
    pages, state = _pages("data"), ffi.new("uint8_t[]", N_PAGES)
    sizes, out_size = ffi.new("uint32_t[]", N_PAGES), lib.pydump_encode_room(N_PAGES, PAGE_SIZE)
    out = ffi.new("uint8_t[]", out_size)

    def encode() -> None:
        batch.pages, batch.state = pages, state
        used = lib.pydump_encode(ffi.NULL, batch, out, out_size, sizes)
        assert used == N_PAGES * PAGE_SIZE

    return encode


def _decoding(offs: object, zero_off: int) -> Callable[[], object]:
    """Pages stored as they are, or that share the one at ``zero_off``."""
    stored_offs = offs if zero_off else ffi.new("uint64_t[]", N_PAGES)
    sizes, flags = ffi.new("uint32_t[]", [PAGE_SIZE] * N_PAGES), ffi.new("uint32_t[]", N_PAGES)
    data, decoders = _pages("data"), ffi.new("struct pydump_decoder[]", lib.PYDUMP_DECODERS)
    stored = ffi.new("struct pydump_stored *", {
        "off": stored_offs, "size": sizes, "flags": flags, "n": N_PAGES, "page_size": PAGE_SIZE,
        "zero_off": zero_off, "data": data, "data_size": N_PAGES * PAGE_SIZE,
    })  # fmt: skip
    pages = ffi.new("uint8_t[]", N_PAGES * PAGE_SIZE)

    def decode() -> None:
        alive = stored_offs, sizes, flags, data
        assert lib.pydump_decode(decoders, stored, offs, pages, len(pages)) == N_PAGES, alive

    return decode


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
        found[name] = float(f"{inclusive(dump, function) / n_pages:.5g}")
    return found


def inclusive(dump: str, function: str) -> int:
    """Instructions of ``function`` and of all it calls in its own object, as callgrind tells."""
    total, inside, is_foreign = 0, False, False
    for line in dump.splitlines():
        if line.startswith("fn="):
            inside = line == f"fn={function}"
        elif line.startswith("cob="):  # the next call is of another object
            is_foreign = True
        elif line[:1].isdigit():  # of a line, or of a call: where from, how many
            total += int(line.split()[1]) if inside and not is_foreign else 0
            is_foreign = False
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
