"""The bytes a small core keeps: extents, holes, segments, against plain sets of addresses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.qemu.support import Image
from vringcore.addresses import HostAddress
from vringcore.memory.space import Range
from vringcore.memory.trace import merge
from vringcore.slim.kept import KeptSpace, segments_of, without

EXTENTS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=12).map(merge)


def addresses(extents: object) -> set[int]:
    return {a for start, end in extents for a in range(start, end)}  # type: ignore[attr-defined]


@given(EXTENTS, EXTENTS)
def test_what_lies_outside_holes(
    extents: list[tuple[int, int]], holes: list[tuple[int, int]]
) -> None:
    left = list(without(extents, holes))
    assert addresses(left) == addresses(extents) - addresses(holes)
    assert left == sorted(left)
    assert all(start < end for start, end in left)


@given(EXTENTS, EXTENTS)
def test_a_copy_has_what_was_there_and_nothing_else(
    present: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    memory = Image({start: bytes(range(start, end)) for start, end in present})
    kept = KeptSpace()
    kept.copy(memory, wanted)
    there = addresses(present) & addresses(wanted)
    assert addresses(kept.extents()) == there
    assert kept.size == len(there)
    for piece in kept.pieces(HostAddress(0), 81):
        if piece.data is not None:
            assert piece.data == bytes(range(piece.address, piece.address + piece.size))
        else:
            assert not there & set(range(piece.address, piece.address + piece.size))
    kept.change(lambda start, data: bytes(b ^ 0xFF for b in data))
    assert addresses(kept.extents()) == there
    for start, end in kept.extents():
        assert kept.read(HostAddress(start), end - start) == bytes(
            a ^ 0xFF for a in range(start, end)
        )


@given(EXTENTS, EXTENTS)
def test_segments_are_the_kept_bytes_cut_at_mappings(
    mapped: list[tuple[int, int]], kept: list[tuple[int, int]]
) -> None:
    known = [
        Range(start, end - start, end - start, writable=bool(start & 1)) for start, end in mapped
    ]
    segments = list(segments_of(known, kept))
    assert addresses((s.address, s.address + s.size) for s in segments) == addresses(
        kept
    ) & addresses(mapped)
    for segment in segments:
        (around,) = (k for k in known if k.address <= segment.address < k.address + k.size)
        assert segment.address + segment.size <= around.address + around.size
        assert segment.writable == around.writable
        assert segment.readable == segment.size
