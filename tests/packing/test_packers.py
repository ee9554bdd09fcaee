# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages to descriptors and data: the C, its reference, and what readers make of the result."""

from __future__ import annotations

import ctypes
import struct
from random import Random
from typing import NamedTuple, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pydumpfile.codecs import NAMES, Codec, Signature, make_codec
from pydumpfile.errors import NativeError, UsageError
from pydumpfile.packing import make_packer, native
from pydumpfile.packing.native import NativePacker
from pydumpfile.packing.reference import ReferencePacker, is_noise
from pydumpfile.variants import VARIANTS, variants
from tests.decompress import CODEC_FLAGS, decompress

PAGE = 4096
ZERO_OFF = 0x8000
DATA_OFF = 0x123456
RAW = make_codec("none")

AnyPacker = Union[NativePacker, ReferencePacker]


class Packed(NamedTuple):
    descriptors: bytes
    data: bytes
    n_zero: int


def _packed(packer, pages, lost, data_off, zero_off):
    """Both steps of a packer; zero pages share one if ``zero_off`` says where it is."""
    n_zero = packer.encode(pages, lost, share_zero=zero_off != 0)
    descriptors, data = packer.lay_out(data_off, zero_off)
    return Packed(bytes(descriptors), bytes(data), n_zero)


def random_page(rng: Random) -> bytes:
    """Zero, almost zero, text, or noise that no codec makes smaller."""
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(PAGE)
    if kind == 1:
        page = bytearray(PAGE)
        page[rng.choice([0, 1, 31, 63, 64, PAGE // 2, PAGE - 1])] = rng.randrange(1, 256)
        return bytes(page)
    if kind == 2:
        return rng.randbytes(PAGE)
    if kind == 3:  # about the size at which compressing pays no more
        n = PAGE - rng.randrange(0, 200)
        return rng.randbytes(n) + bytes(PAGE - n)
    return (rng.randbytes(rng.randrange(1, 64)) * PAGE)[:PAGE]


def random_bits(rng: Random, n_bits: int) -> bytearray:
    density = rng.choice([0.02, 0.3, 0.9, 1.0])
    bits = bytearray(n_bits // 8)
    for bit in range(n_bits):
        if rng.random() < density:
            bits[bit >> 3] |= 1 << (bit & 7)
    return bits


def unpack(descriptors: memoryview, data: memoryview, flag: int, zero_off: int) -> list[bytes]:
    """The pages that a reader of the format gets."""
    pages = []
    next_off = DATA_OFF
    for off, size, flags, page_flags in struct.iter_unpack("<qIIQ", descriptors):
        assert page_flags == 0
        if zero_off and off == zero_off:
            assert (size, flags) == (PAGE, 0)
            pages.append(bytes(PAGE))
            continue
        assert off == next_off
        next_off += size
        stored = bytes(data[off - DATA_OFF : off - DATA_OFF + size])
        assert len(stored) == size
        if flags == 0:
            assert size == PAGE
            pages.append(stored)
            continue
        assert flags == flag
        assert size < PAGE
        pages.append(decompress(flag, stored, PAGE))
    assert next_off == DATA_OFF + len(data)
    return pages


@pytest.mark.parametrize("compression", NAMES)
@pytest.mark.parametrize("zero_off", [0, ZERO_OFF])
@pytest.mark.parametrize("seed", range(6))
def test_both_packers_and_a_reader_agree(compression: str, zero_off: int, seed: int) -> None:
    rng = Random(f"{compression} {zero_off} {seed}")
    n_bits = 512
    bits = random_bits(rng, n_bits)
    memory = b"".join(random_page(rng) for _ in range(n_bits))
    packers: list[AnyPacker] = [
        make(PAGE, make_codec(compression), 64) for make in (NativePacker, ReferencePacker)
    ]
    bit = 0
    while True:
        starts = {packer.next_page(bits, bit) for packer in packers}
        assert len(starts) == 1
        (first,) = starts
        assert first == next((b for b in range(bit, n_bits) if bits[b >> 3] >> (b & 7) & 1), n_bits)
        if first == n_bits:
            break
        end = min(n_bits, first + rng.choice([1, 20, 500]))
        listed = {packer.list_pages(bits, first, end) for packer in packers}
        assert len(listed) == 1
        ((n, last_off),) = listed
        wanted = [b for b in range(first, end) if bits[b >> 3] >> (b & 7) & 1][:64]
        assert (n, last_off) == (len(wanted), (wanted[-1] - first) * PAGE)
        assert packers[0].spans() == packers[1].spans()
        pages = memoryview(memory)[first * PAGE : (first + last_off // PAGE + 1) * PAGE]
        dense = rng.random() < 0.5
        if dense:
            offs = [packer.make_dense() for packer in packers]
            assert offs[0] == offs[1] == [(b - first) * PAGE for b in wanted]
            pages = memoryview(b"".join(bytes(pages[off : off + PAGE]) for off in offs[0]))
        lost = sorted(rng.sample(range(n), rng.randrange(0, n + 1))) if dense else []
        results = [_packed(packer, pages, lost, DATA_OFF, zero_off) for packer in packers]
        assert bytes(results[0].descriptors) == bytes(results[1].descriptors)
        assert bytes(results[0].data) == bytes(results[1].data)
        assert results[0].n_zero == results[1].n_zero
        expected = [
            memory[b * PAGE : (b + 1) * PAGE] for i, b in enumerate(wanted) if i not in lost
        ]
        got = unpack(results[0].descriptors, results[0].data, CODEC_FLAGS[compression], zero_off)
        assert got == expected
        assert results[0].n_zero == (expected.count(bytes(PAGE)) if zero_off else 0)
        bit = wanted[-1] + 1


@pytest.mark.parametrize("make", [NativePacker, ReferencePacker])
def test_spans_join_over_small_gaps(make: type) -> None:
    packer = make(PAGE, RAW)
    bits = bytearray(8)
    for bit in (0, 1, 5, 14, 30, 31, 41):
        bits[bit >> 3] |= 1 << (bit & 7)
    packer.list_pages(bits, 0, 64)
    # Up to 8 pages between are read all the same.
    assert packer.spans() == [(0, 15 * PAGE), (30 * PAGE, 32 * PAGE), (41 * PAGE, 42 * PAGE)]


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(0, 700), st.integers(0, 700))
def test_listing_any_bits(seed: int, first: int, length: int) -> None:
    rng = Random(seed)
    bits = random_bits(rng, 1408)
    wanted = [b for b in range(first, first + length) if bits[b >> 3] >> (b & 7) & 1]
    one, other = NativePacker(PAGE, RAW), ReferencePacker(PAGE, RAW)
    assert one.next_page(bits, first) == other.next_page(bits, first)
    if wanted:
        listed = one.list_pages(bits, first, first + length)
        assert listed == (min(len(wanted), 512), (wanted[:512][-1] - first) * PAGE)
        assert listed == other.list_pages(bits, first, first + length)
        assert one.make_dense() == other.make_dense() == [(b - first) * PAGE for b in wanted[:512]]


def test_bits_behind_the_bitmap_are_refused() -> None:
    with pytest.raises(NativeError):
        NativePacker(PAGE, RAW).list_pages(bytearray(8), 0, 65)


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("page_size", [64, 4096, 16384, 65536])
def test_every_way_to_find_zero_pages(variant: str, page_size: int) -> None:
    """Against Python, for a byte in each place a loop may overlook."""
    places = [0, 1, 7, 8, 31, 32, 63, page_size // 2, page_size - 33, page_size - 1]
    contents = [bytes(page_size)] * 2
    for place in sorted({p for p in places if 0 <= p < page_size}):
        for value in (1, 0x80, 0xFF):
            page = bytearray(page_size)
            page[place] = value
            contents.append(bytes(page))
    contents.append(bytes(page_size))
    rng = Random(7)
    rng.shuffle(contents)
    packer = NativePacker(page_size, RAW, len(contents), variant)
    bits = bytearray(b"\xff" * (len(contents) // 8 + 1))
    n, _ = packer.list_pages(bits, 0, len(contents))
    assert n == len(contents)
    # An odd start: nothing says that pages are aligned in memory.
    buffer = memoryview(b"\xff" * 5 + b"".join(contents) + b"\xff" * 70)[5:]
    packed = _packed(packer, buffer, [], DATA_OFF, ZERO_OFF)
    found = [off == ZERO_OFF for off, _, _, _ in struct.iter_unpack("<qIIQ", packed.descriptors)]
    assert found == [not any(page) for page in contents]
    assert packed.n_zero == 3


def test_the_scalar_way_is_always_there() -> None:
    assert variants()[-1] == "scalar"
    assert set(variants()) <= set(VARIANTS)


def test_a_way_that_this_machine_lacks_is_refused() -> None:
    for variant in set(VARIANTS) - set(variants()):
        packer = NativePacker(PAGE, RAW, variant=variant)
        packer.list_pages(bytearray(b"\1" + bytes(7)), 0, 8)
        with pytest.raises(NativeError):
            _packed(packer, memoryview(bytes(PAGE)), [], DATA_OFF, ZERO_OFF)


def test_noise_is_stored_as_it_is() -> None:
    noise = Random(1).randbytes(PAGE)
    for compression in NAMES:
        for make in (NativePacker, ReferencePacker):
            packer = make(PAGE, make_codec(compression))
            packer.list_pages(bytearray(b"\1" + bytes(7)), 0, 8)
            packed = _packed(packer, memoryview(noise), [], DATA_OFF, ZERO_OFF)
            assert bytes(packed.data) == noise
            assert struct.unpack("<qIIQ", packed.descriptors) == (DATA_OFF, PAGE, 0, 0)


def test_packers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name: make_packer(PAGE, name).codec.flag for name in NAMES} == CODEC_FLAGS
    assert make_packer(PAGE, "zstd", 7).codec.level == 7
    monkeypatch.setenv("PYDUMPFILE_KERNEL", "python")
    assert isinstance(make_packer(PAGE, "zstd"), ReferencePacker)
    monkeypatch.setenv("PYDUMPFILE_KERNEL", "c")
    assert isinstance(make_packer(PAGE, "zstd"), NativePacker)
    monkeypatch.setenv("PYDUMPFILE_KERNEL", "fortran")
    with pytest.raises(UsageError, match="fortran"):
        make_packer(PAGE, "zstd")


Compress2 = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_ulong), ctypes.c_void_p, ctypes.c_ulong,
    ctypes.c_int,
)  # fmt: skip


class FixedCodec(Codec):
    """Gives the sizes it was told, whatever the pages are, by way of compress2()."""

    def __init__(self, sizes: list[int], status: int = 0) -> None:
        super().__init__("none")
        self._left = list(enumerate(sizes, 1))
        self._status = status
        self._callback = Compress2(self._compress2)
        self.signature, self.flag = Signature.COMPRESS2, 0x20
        self.function = ctypes.cast(self._callback, ctypes.c_void_p).value or 0

    def _compress2(self, out: int, out_size: object, *_: int) -> int:
        number, size = self._left.pop(0)
        out_size[0] = size  # type: ignore[index]
        ctypes.memset(out, number, min(size, PAGE))
        return self._status


MAKERS = [NativePacker, ReferencePacker]


@pytest.mark.parametrize("make", MAKERS)
def test_a_page_is_stored_compressed_only_if_that_is_smaller(make: type) -> None:
    """Readers refuse a descriptor of a compressed page that is as large as the page."""
    packer = make(PAGE, FixedCodec([PAGE - 1, PAGE, PAGE - 2, PAGE, 1]))
    packer.list_pages(bytearray(b"\x1f" + bytes(7)), 0, 8)
    pages = b"".join(bytes([0xF0 + i]) * PAGE for i in range(5))
    packed = _packed(packer, memoryview(pages), [], DATA_OFF, 0)
    stored = [PAGE - 1, PAGE, PAGE - 2, PAGE, 1]
    offs = [DATA_OFF + sum(stored[:i]) for i in range(5)]
    flags = [0x20, 0, 0x20, 0, 0x20]
    assert list(struct.iter_unpack("<qIIQ", packed.descriptors)) == [
        (off, size, flag, 0) for off, size, flag in zip(offs, stored, flags)
    ]
    assert packed.data == (
        b"\1" * (PAGE - 1) + b"\xf1" * PAGE + b"\3" * (PAGE - 2) + b"\xf3" * PAGE + b"\5"
    )


@pytest.mark.parametrize("make", MAKERS)
def test_a_library_that_finds_no_room_leaves_the_page_as_it_is(make: type) -> None:
    packer = make(PAGE, FixedCodec([17], status=-5))
    packer.list_pages(bytearray(b"\1" + bytes(7)), 0, 8)
    packed = _packed(packer, memoryview(b"x" * PAGE), [], DATA_OFF, 0)
    assert packed.data == b"x" * PAGE


@pytest.mark.parametrize("make", MAKERS)
def test_a_library_that_fails_is_an_error(make: type) -> None:
    packer = make(PAGE, FixedCodec([17], status=-2))
    packer.list_pages(bytearray(b"\1" + bytes(7)), 0, 8)
    with pytest.raises(NativeError):
        packer.encode(memoryview(b"x" * PAGE), [], share_zero=False)


def test_what_fails_keeps_no_page() -> None:
    """An error refers to the call's frame; the collector must not find a page in use there."""
    packer = NativePacker(PAGE, FixedCodec([17], status=-2))
    packer.list_pages(bytearray(b"\1" + bytes(7)), 0, 8)
    page = memoryview(b"x" * PAGE)
    with pytest.raises(NativeError) as caught:
        packer.encode(page, [], share_zero=False)
    assert caught.tb is not None
    page.release()  # is refused while anything has a pointer to it


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("signature", [Signature.COMPRESS2, Signature.ZSTD])
def test_a_library_without_memory_is_no_bug(make: type, signature: Signature) -> None:
    codec = FixedCodec([17], status=-4)  # Z_MEM_ERROR
    if signature is Signature.ZSTD:
        size_t = ctypes.c_size_t
        compress = ctypes.CFUNCTYPE(size_t, *[ctypes.c_void_p] * 2, size_t, ctypes.c_void_p, size_t)
        callback = compress(lambda *_: size_t(-64).value)  # ZSTD_error_memory_allocation
        codec.signature = signature
        codec.function = ctypes.cast(callback, ctypes.c_void_p).value or 0
    packer = make(PAGE, codec)
    packer.list_pages(bytearray(b"\1" + bytes(7)), 0, 8)
    with pytest.raises(MemoryError, match="compression library"):
        packer.encode(memoryview(b"x" * PAGE), [], share_zero=False)


@pytest.mark.parametrize("compression", NAMES)
def test_no_library_writes_past_its_room(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that do not stop at the size of a page get room for the worst they may make of one."""
    guard = b"\xa5" * 4096
    rng = Random(compression)
    for page_size in (64, PAGE, 65536):
        room = native.lib.pydump_encode_room(3, page_size)
        out = native.ffi.new("uint8_t[]", b"\xa5" * (room + len(guard)))
        packer = NativePacker(page_size, make_codec(compression), 3)
        packer.list_pages(bytearray(b"\7" + bytes(7)), 0, 8)
        monkeypatch.setattr(packer, "_out", out)
        for _ in range(20):
            noise = rng.randbytes(3 * page_size)
            assert packer.encode(memoryview(noise), [], share_zero=True) == 0
            assert packer.lay_out(DATA_OFF, ZERO_OFF).data == noise
        assert bytes(native.ffi.buffer(out))[room:] == guard + b"\0"


def test_too_little_room_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packer = NativePacker(PAGE, RAW, 1)
    packer.list_pages(bytearray(b"\1" + bytes(7)), 0, 8)
    monkeypatch.setattr(packer, "_out_size", PAGE)
    with pytest.raises(NativeError):
        packer.encode(memoryview(bytes(PAGE)), [], share_zero=False)


def _both_take_for_noise(page: bytes) -> bool:
    by_c = native.lib.pydump_is_noise(native.ffi.from_buffer("uint8_t[]", page), len(page))
    assert by_c == is_noise(page)
    return is_noise(page)


@given(
    seed=st.integers(0, 1 << 32),
    n_values=st.sampled_from([1, 2, 60, 200, 230, 240, 250, 256]),
    page_size=st.sampled_from([64, 1024, 1040, PAGE, 65536]),
)
def test_noise_is_the_same_to_both(seed: int, n_values: int, page_size: int) -> None:
    rng = Random(seed)
    _both_take_for_noise(bytes(rng.randrange(n_values) for _ in range(page_size)))


def test_what_is_taken_for_noise_does_not_get_smaller() -> None:
    rng = Random(1)
    zlib = make_codec("zlib")
    untried = make_codec("zlib")
    untried.passes_noise = False
    n_noise = 0
    for n_random in range(0, PAGE + 1, 16):
        page = rng.randbytes(n_random) + bytes(PAGE - n_random)
        if _both_take_for_noise(page):
            n_noise += 1
            for codec in (zlib, untried):
                assert ReferencePacker(PAGE, codec)._encoded(page) == page
    assert n_noise
    assert sum(_both_take_for_noise(rng.randbytes(PAGE)) for _ in range(200)) >= 198


@pytest.mark.parametrize("size", [1, 8, 32, 64, 256])
def test_records_with_something_random_in_each_are_no_noise(size: int) -> None:
    rng = Random(size)
    n_random = max(1, size // 4)
    records = [rng.randbytes(n_random) + bytes(size - n_random) for _ in range(PAGE // size)]
    assert not _both_take_for_noise(b"".join(records)) or size == 1


@pytest.mark.parametrize("page", [bytes(PAGE), bytes(range(256)) * 16, b"\xff" * PAGE])
def test_pages_more_even_than_chance_are_no_noise(page: bytes) -> None:
    assert not _both_take_for_noise(page)


@pytest.mark.parametrize("make", [NativePacker, ReferencePacker])
@pytest.mark.parametrize("compression", NAMES)
def test_only_deflating_passes_noise(make: type[AnyPacker], compression: str) -> None:
    """Half a page twice over: even enough for noise, and lzo and its like see through it."""
    rng = Random(4)
    half = next(
        half for half in iter(lambda: rng.randbytes(PAGE // 2), b"") if is_noise(half + half)
    )
    packer = make(PAGE, make_codec(compression), 1)
    packer.list_pages(bytearray(b"\x01"), 0, 1)
    _, data, _ = _packed(packer, memoryview(half + half), [], DATA_OFF, 0)
    assert (len(data) == PAGE) == (compression in {"none", "zlib"})
