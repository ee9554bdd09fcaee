# SPDX-License-Identifier: GPL-2.0-or-later
"""Which codec gets a dump done soonest here: measured on pages of this machine and on the target.

Compressing and writing overlap, so the slower of the two counts. Where the target is slow a codec
that makes pages smaller pays for itself; where CPUs are few and the disk is fast it does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from pydumpfile.codecs import available
from pydumpfile.errors import FaultError
from pydumpfile.kernel.vmcore import Vmcore
from pydumpfile.packing import BATCH_PAGES, make_packer
from pydumpfile.pfn import AddressSet
from pydumpfile.sinks import Target

_N_PLACES = 32
_PAGES_A_PLACE = BATCH_PAGES // _N_PLACES
_PROBE_SIZE = 16 << 20
_PIECE_SIZE = 1 << 20
_STREAM_SPEED = 100e6
"""Bytes a second that a pipe is taken for: gigabit Ethernet, less what ssh takes."""
_AS_GOOD = 1.1
"""Within a tenth of the best the smallest dump wins."""


class Trial(NamedTuple):
    """How one codec did on the sample."""

    codec: str
    seconds_per_byte: float
    """Of one CPU, for each byte of a page."""
    ratio: float
    """Bytes stored for each byte of a page."""


class Choice(NamedTuple):
    """What was chosen, and by which figures."""

    codec: str
    trials: tuple[Trial, ...]
    target_speed: float
    """Bytes a second."""

    def told(self) -> Iterator[str]:
        """For people, a line each."""
        yield f"codec: {self.codec}, chosen for a target of {self.target_speed / 1e6:.0f} MB/s"
        for trial in self.trials:
            cost = trial.seconds_per_byte
            speed = f" at {1e-6 / cost:.0f} MB/s" if cost else ""
            yield f"  {trial.codec}: to {100 * trial.ratio:.0f} %{speed}"


def choose_codec(vmcore: Vmcore, target: Target, n_threads: int) -> Choice:
    """Try the codecs there are on a sample of memory, and the target on 16 MiB.

    The sample is of all memory, not only of what a dump level keeps. Nothing is left at the target.
    """
    sample = _sample(vmcore)
    names = [name for name, reason in available().items() if not reason]
    trials = tuple(_try_codec(name, sample, 1 << vmcore.page_shift) for name in names)
    speed = _target_speed(target) or _STREAM_SPEED
    n_cpus = min(n_threads, len(os.sched_getaffinity(0)))
    return Choice(pick(trials, speed, n_cpus), trials, speed)


def pick(trials: Iterable[Trial], target_speed: float, n_cpus: int) -> str:
    """The codec of the soonest dump; of several as good as the best, that of the smallest."""
    costs = {
        trial: max(trial.seconds_per_byte / n_cpus, trial.ratio / target_speed) for trial in trials
    }
    bound = _AS_GOOD * min(costs.values())
    return min((t for t, cost in costs.items() if cost <= bound), key=lambda t: t.ratio).codec


def _sample(vmcore: Vmcore) -> bytearray:
    """Pages that are not zero, from places spread over memory; fewer where there are none."""
    zero = bytes(1 << vmcore.page_shift)
    sample = bytearray()
    for first_pfn in _places(vmcore.source.data, vmcore.page_shift):
        for pfn in range(first_pfn, first_pfn + _PAGES_A_PLACE):
            try:
                page = vmcore.source.read_page(pfn, vmcore.page_shift)
            except FaultError:
                break  # the dump itself will count it
            if page != zero:
                sample += page
    return sample


def _places(memory: AddressSet, page_shift: int) -> Iterator[int]:
    """Evenly spread pfns."""
    step = max(memory.total // _N_PLACES, _PAGES_A_PLACE << page_shift)
    to_go = step // 2
    for start, end in memory:
        for paddr in range(start + to_go, end, step):
            yield paddr >> page_shift
        to_go = (to_go - (end - start)) % step


def _try_codec(name: str, sample: bytearray, page_size: int) -> Trial:
    n_pages = len(sample) // page_size
    if not n_pages:
        return Trial(name, 0.0, 1.0)
    packer = make_packer(page_size, name)
    bits = bytearray(b"\xff" * (n_pages // 8) + bytes(((1 << n_pages % 8) - 1,)))
    packer.list_pages(bits, 0, n_pages)
    started = time.thread_time()
    packer.encode(memoryview(sample), (), False)
    seconds = time.thread_time() - started
    stored = len(packer.lay_out(0, 0).data)
    return Trial(name, 0.0 if name == "none" else seconds / len(sample), stored / len(sample))


def _target_speed(target: Target) -> Optional[float]:
    """Bytes a second that reach the disk beside ``target``; None where that cannot be tried."""
    if target.fd is not None or target.dry_run:
        return None
    piece = os.urandom(_PIECE_SIZE)
    try:
        folder = os.path.dirname(os.path.abspath(target.path))
        fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            started = time.monotonic()
            for _ in range(_PROBE_SIZE // _PIECE_SIZE):
                os.write(fd, piece)
            os.fsync(fd)
            return _PROBE_SIZE / (time.monotonic() - started)
        finally:
            os.close(fd)
    except OSError:
        return None  # no room, or a file system without nameless files: the dump itself will tell
