from __future__ import annotations

import os
import tempfile
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore.addresses import HostAddress
from vringcore.errors import AddressOverflowError, MemoryFault
from vringcore.memory import segments as segments_module
from vringcore.memory.files import FileSource
from vringcore.memory.gaps import GapKind
from vringcore.memory.segments import Segment, SegmentSpace

CONTENT = bytes(range(1, 251))
TOP = 1 << 64


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    path = tmp_path_factory.mktemp("segments") / "content"
    path.write_bytes(CONTENT)
    return FileSource.open(str(path))


def fault(space: SegmentSpace, address: int, size: int) -> tuple[int, GapKind]:
    with pytest.raises(MemoryFault) as caught:
        space.read(HostAddress(address), size)
    assert caught.value.gap.address == caught.value.address
    return caught.value.address, caught.value.gap.kind


def test_adjacent_segments_are_read_across(source: FileSource) -> None:
    space = SegmentSpace(source, [Segment(20, 30, 30, 100), Segment(10, 20, 20, 0)])
    assert space.read(HostAddress(15), 10) == CONTENT[5:10] + CONTENT[100:105]


def test_the_first_bad_address_is_named_with_its_reason(source: FileSource) -> None:
    space = SegmentSpace(
        source,
        [
            Segment(0x1000, 0x1020, 0x1010, 0),  # its second half was not dumped
            Segment(0x1020, 0x1030, 0x1030, len(CONTENT) - 8),  # the file ends in its middle
            Segment(0x1030, 0x1040, 0x1040, 0),
        ],
    )
    assert fault(space, 0x1008, 0x30) == (0x1010, GapKind.NOT_DUMPED)
    assert fault(space, 0x1020, 0x10) == (0x1028, GapKind.TRUNCATED)
    assert fault(space, 0x1038, 0x10) == (0x1040, GapKind.UNMAPPED)
    assert fault(space, 0xFF8, 0x10) == (0xFF8, GapKind.UNMAPPED)
    assert fault(space, 0, 1 << 63) == (0, GapKind.UNMAPPED)


def test_pieces_name_every_hole_in_order(source: FileSource) -> None:
    space = SegmentSpace(source, [Segment(10, 30, 20, 0), Segment(40, 60, 60, len(CONTENT) - 5)])
    seen = [
        (p.address, p.size, p.gap.kind if p.gap else p.data)
        for p in space.pieces(HostAddress(5), 60)
    ]
    assert seen == [
        (5, 5, GapKind.UNMAPPED),
        (10, 10, CONTENT[:10]),
        (20, 10, GapKind.NOT_DUMPED),
        (30, 10, GapKind.UNMAPPED),
        (40, 5, CONTENT[-5:]),
        (45, 15, GapKind.TRUNCATED),
        (60, 5, GapKind.UNMAPPED),
    ]


def test_an_empty_space_is_one_hole(source: FileSource) -> None:
    space = SegmentSpace(source, [])
    assert space.ranges() == []
    assert fault(space, 0, 1) == (0, GapKind.UNMAPPED)
    assert space.read(HostAddress(0), 0) == b""
    assert space.file_offset_of(0) is None


def test_a_segment_may_end_at_the_top_of_the_address_space_and_none_goes_beyond(
    source: FileSource,
) -> None:
    space = SegmentSpace(source, [Segment(TOP - 16, TOP + 100, TOP + 100, 0)])
    assert space.read(HostAddress(TOP - 16), 16) == CONTENT[:16]
    assert [(r.address, r.size, r.readable) for r in space.ranges()] == [(TOP - 16, 16, 16)]
    with pytest.raises(AddressOverflowError):
        space.read(HostAddress(TOP - 8), 16)
    with pytest.raises(AddressOverflowError):
        space.read(HostAddress(-8), 4)
    with pytest.raises(AddressOverflowError):
        list(space.pieces(HostAddress(0), -1))


def test_senseless_segments_are_left_out(source: FileSource) -> None:
    space = SegmentSpace(source, [Segment(50, 50, 50, 0), Segment(60, 10, 60, 0)])
    assert space.ranges() == []


def test_where_an_address_lies_in_the_file(source: FileSource) -> None:
    space = SegmentSpace(source, [Segment(0x100, 0x120, 0x110, 32)])
    assert space.file_offset_of(0x10F) == 32 + 15
    assert space.file_offset_of(0x110) is None
    assert space.file_offset_of(0xFF) is None
    assert space.segment_at(0x11F) == Segment(0x100, 0x120, 0x110, 32)
    assert space.segment_at(0x120) is None


def test_ranges_say_how_much_is_readable(source: FileSource) -> None:
    space = SegmentSpace(
        source,
        [
            Segment(0x100, 0x120, 0x110, 32, executable=True),
            Segment(0x200, 0x220, 0x200, 0, writable=True),
            Segment(0x300, 0x320, 0x320, 1000),
        ],
    )
    dumped, left_out, lost = space.ranges()
    assert (dumped.readable, dumped.file_offset, dumped.executable) == (16, 32, True)
    assert (left_out.readable, left_out.file_offset, left_out.writable) == (0, -1, True)
    assert (lost.size, lost.readable, lost.file_offset) == (0x20, 0, -1)


def test_large_data_comes_in_bounded_pieces(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments_module, "CHUNK", 64)
    space = SegmentSpace(source, [Segment(0, 200, 200, 0)])
    sizes = [piece.size for piece in space.pieces(HostAddress(10), 190)]
    assert sizes == [64, 64, 62]


def test_a_file_cut_while_open_gives_a_truncated_gap() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        with FileSource.open(file.name) as source:
            space = SegmentSpace(source, [Segment(0, 100, 100, 0)])
            os.truncate(file.name, 30)
            assert fault(space, 0, 100) == (30, GapKind.TRUNCATED)
            assert space.read(HostAddress(0), 30) == CONTENT[:30]


def test_a_read_error_is_an_io_gap(source: FileSource) -> None:
    closed = FileSource.open(source.path)
    closed.close()
    space = SegmentSpace(closed, [Segment(0, 100, 100, 0)])
    assert fault(space, 10, 4) == (10, GapKind.IO)


class Described(NamedTuple):
    """A segment as hypothesis draws it: any of them may overlap any other."""

    address: int
    memory_size: int
    file_size: int
    offset: int

    def covers(self, address: int) -> bool:
        return self.address <= address < self.address + max(self.memory_size, self.file_size)

    def byte(self, address: int) -> int | None:
        inside = address - self.address
        if not 0 <= inside < self.file_size or self.offset + inside >= len(CONTENT):
            return None
        return CONTENT[self.offset + inside]

    def reason(self, address: int) -> GapKind:
        promised = address - self.address < self.file_size
        return GapKind.TRUNCATED if promised else GapKind.NOT_DUMPED


BASES = st.sampled_from([0, TOP - 300])
DESCRIBED = st.lists(
    st.builds(
        Described, st.integers(0, 250), st.integers(0, 60), st.integers(0, 60), st.integers(0, 260)
    ),
    max_size=8,
)


def flat(described: list[Described], address: int) -> int | set[GapKind]:
    """The model: one byte after the other, no bisection, no merging."""
    for segment in sorted(described, key=lambda d: d.address):
        byte = segment.byte(address)
        if byte is not None and segment.covers(address):
            return byte
    reasons = {d.reason(address) for d in described if d.covers(address)}
    return reasons or {GapKind.UNMAPPED}


@given(BASES, DESCRIBED, st.integers(0, 300), st.integers(0, 150))
def test_reads_equal_a_flat_model(
    source: FileSource, base: int, described: list[Described], start: int, size: int
) -> None:
    size = min(size, 300 - start)
    space = SegmentSpace(
        source,
        [
            Segment(
                base + d.address,
                base + d.address + max(d.memory_size, d.file_size),
                base + d.address + d.file_size,
                d.offset,
            )
            for d in described
        ],
    )
    expected = [flat(described, start + index) for index in range(size)]
    place = 0
    for piece in space.pieces(HostAddress(base + start), size):
        assert piece.address == base + start + place
        assert piece.size > 0
        part = expected[place : place + piece.size]
        if piece.data is not None:
            assert list(piece.data) == part
        else:
            assert piece.gap is not None
            for byte in part:
                assert isinstance(byte, set)
                assert piece.gap.kind in byte
        place += piece.size
    assert place == size
    bad = next((i for i, byte in enumerate(expected) if isinstance(byte, set)), None)
    if bad is None:
        assert list(space.read(HostAddress(base + start), size)) == expected
    else:
        assert fault(space, base + start, size)[0] == base + start + bad
    for address in range(300):
        found = space.file_offset_of(base + address)
        byte = flat(described, address)
        assert (None if isinstance(byte, set) else byte) == (
            None if found is None else CONTENT[found]
        )
    reach = 0
    for known in space.ranges():
        assert known.address >= reach
        assert 0 <= known.readable <= known.size
        reach = known.address + known.size
