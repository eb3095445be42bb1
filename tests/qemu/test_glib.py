"""Hash tables of glib: both layouts, damage, bounds."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.support import Image, views_of
from vringcore.errors import AddressOverflowError, CorruptDataError, LimitError, MemoryFault
from vringcore.qemu.glib import MAX_SLOTS, hash_table
from vringcore.view.lists import collect

TABLE, KEYS, HASHES, VALUES = 0x1000, 0x10000, 0x20000, 0x30000

Slots = list[tuple[int, int, int]]
"""(hash, key, value); a hash of 0 is an empty slot, of 1 a tombstone."""


def build(
    slots: Slots,
    *,
    old: bool = False,
    order: str = "<",
    big: tuple[bool, bool] = (True, True),
    noise: int = 0,
    nnodes: int | None = None,
    values: int = VALUES,
) -> Image:
    """Lay a table out as glib's ghash.c does."""
    size = len(slots)
    live = sum(hash_ >= 2 for hash_, _, _ in slots) if nnodes is None else nnodes
    used = sum(hash_ >= 1 for hash_, _, _ in slots)
    bits = big[0] | big[1] << 1 | noise << 2
    if order == ">":
        bits = int(f"{bits & 0xFFFFFFFF:032b}"[::-1], 2)
    numbers = (7, size - 1, live, max(used, live), bits & 0xFFFFFFFF, KEYS, HASHES, values)
    if old:
        head = struct.pack(order + "iiIIII3Q", size, *numbers)
    else:
        head = struct.pack(order + "QiIIII4x3Q", size, *numbers)
    key_code, value_code = ("Q" if each else "I" for each in big)
    return Image(
        {
            TABLE: head + bytes(32),
            KEYS: struct.pack(f"{order}{size}{key_code}", *(key for _, key, _ in slots)),
            HASHES: struct.pack(f"{order}{size}I", *(hash_ for hash_, _, _ in slots)),
            VALUES: struct.pack(f"{order}{size}{value_code}", *(value for _, _, value in slots)),
        }
    )


def walk(image: Image, *, order: str = "<") -> list[tuple[int, int]]:
    views = views_of(image, big_endian=order == ">")
    return [(int(k), int(v)) for k, v in hash_table(views, TABLE)]


numbers = st.integers(1, 0xFFFFFFFF)
slot = st.tuples(st.one_of(st.sampled_from([0, 1]), st.integers(2, 0xFFFFFFFF)), numbers, numbers)
tables = st.integers(3, 6).flatmap(lambda n: st.lists(slot, min_size=1 << n, max_size=1 << n))


@given(tables, st.booleans(), st.sampled_from("<>"), st.integers(0, 0x3FFFFFFF))
def test_every_layout_gives_the_live_pairs(slots: Slots, old: bool, order: str, noise: int) -> None:
    expected = [(key, value) for hash_, key, value in slots if hash_ >= 2]
    assert walk(build(slots, old=old, order=order, noise=noise), order=order) == expected


@given(tables, st.booleans(), st.booleans(), st.sampled_from("<>"), st.integers(0, 0x3FFFFFFF))
def test_small_arrays(
    slots: Slots, big_keys: bool, big_values: bool, order: str, noise: int
) -> None:
    expected = [(key, value) for hash_, key, value in slots if hash_ >= 2]
    image = build(slots, order=order, big=(big_keys, big_values), noise=noise)
    assert walk(image, order=order) == expected


def test_pointers_of_64_bits() -> None:
    slots = [(0, 0, 0)] * 7 + [(9, 0x7F00_1234_5678, 0xFFFF_8000_0000_0000)]
    for old in (False, True):
        assert walk(build(slots, old=old)) == [(0x7F00_1234_5678, 0xFFFF_8000_0000_0000)]


def test_a_set_gives_its_keys_twice() -> None:
    slots = [(5, number, 0) for number in range(1, 9)]
    assert walk(build(slots, values=KEYS)) == [(n, n) for n in range(1, 9)]


def test_a_table_of_32_bits() -> None:
    order = "<"
    head = struct.pack(order + "IiIIII3I", 8, 7, 7, 2, 3, 0, KEYS, HASHES, VALUES)
    image = Image(
        {
            TABLE: head,
            KEYS: struct.pack("<8I", *range(10, 18)),
            HASHES: struct.pack("<8I", 0, 1, 2, 0, 0, 77, 0, 0),
            VALUES: struct.pack("<8I", *range(20, 28)),
        }
    )
    found = list(hash_table(views_of(image, pointer_size=4), TABLE))
    assert found == [(12, 22), (15, 25)]


def test_a_wrong_count_is_told_after_the_pairs() -> None:
    slots = [(5, 1, 2)] * 4 + [(0, 0, 0)] * 4
    found, error = collect(hash_table(views_of(build(slots, nnodes=5)), TABLE))
    assert found == [(1, 2)] * 4
    assert isinstance(error, CorruptDataError)
    assert (error.seen, error.expected) == ("4 pairs", "nnodes, 5")


def test_an_empty_table_needs_no_arrays() -> None:
    image = build([(0, 0, 0)] * 8)
    assert walk(Image({TABLE: image.blocks[TABLE]})) == []


def test_arrays_that_are_not_there_are_a_fault() -> None:
    image = build([(5, 1, 2)] * 8)
    del image.blocks[VALUES]
    with pytest.raises(MemoryFault):
        walk(image)


@pytest.mark.parametrize(
    ("size", "mask", "nnodes", "noccupied"),
    [(0, 0, 0, 0), (4, 3, 0, 0), (9, 8, 0, 0), (8, 8, 1, 1), (8, 7, 3, 2), (8, 7, 1, 9)],
)
def test_what_is_no_table_is_refused(size: int, mask: int, nnodes: int, noccupied: int) -> None:
    head = struct.pack("<QiIIII4x3Q", size, 7, mask, nnodes, noccupied, 3, KEYS, HASHES, VALUES)
    with pytest.raises(CorruptDataError):
        walk(Image({TABLE: head}))


def test_a_huge_table_is_refused_before_it_is_read() -> None:
    size = MAX_SLOTS * 2
    head = struct.pack("<QiIIII4x3Q", size, 7, size - 1, 1, 1, 3, KEYS, HASHES, VALUES)
    image = Image({TABLE: head})
    with pytest.raises(LimitError):
        walk(image)
    assert image.bytes_read <= len(head)


addresses = st.sampled_from([TABLE, KEYS, HASHES, VALUES, 0, 1, 1 << 63, (1 << 64) - 1])


@given(tables, st.data())
def test_a_damaged_table_is_refused_or_bounded(slots: Slots, data: st.DataObject) -> None:
    image = build(slots)
    place = data.draw(st.sampled_from(list(image.blocks)))
    block = bytearray(image.blocks[place])
    block[data.draw(st.integers(0, len(block) - 1))] ^= data.draw(st.integers(1, 255))
    image.blocks[place] = bytes(block)
    if data.draw(st.booleans()):
        head = bytearray(image.blocks[TABLE])
        arrays = data.draw(st.tuples(addresses, addresses, addresses))
        struct.pack_into("<3Q", head, 32, *arrays)
        image.blocks[TABLE] = bytes(head)
    found, error = collect(hash_table(views_of(image), TABLE))
    assert len(found) <= len(slots)
    assert error is None or isinstance(
        error, CorruptDataError | LimitError | MemoryFault | AddressOverflowError
    )
