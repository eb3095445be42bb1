from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore.addresses import HostAddress
from vringcore.errors import MemoryFault
from vringcore.memory.files import FileSource
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.overlay import FilePages, OverlaySpace
from vringcore.memory.segments import Segment, SegmentSpace

CORE = b"C" * 200
FILE = bytes(range(100))


def missing(address: int, size: int, file_offset: int) -> Gap:
    return Gap(GapKind.FILE_NEEDED, address, size, file="lib", file_offset=file_offset)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[FileSource, FileSource]:
    folder = tmp_path_factory.mktemp("overlay")
    (folder / "core").write_bytes(CORE)
    (folder / "lib").write_bytes(FILE)
    return FileSource.open(str(folder / "core")), FileSource.open(str(folder / "lib"))


def test_the_file_fills_what_the_core_left_out_and_only_that(
    sources: tuple[FileSource, FileSource],
) -> None:
    core, file = sources
    memory = SegmentSpace(core, [Segment(100, 150, 120, 0)])
    space = OverlaySpace(memory, [FilePages(110, 160, 10, file, missing)])
    assert space.read(HostAddress(115), 10) == b"C" * 5 + FILE[20:25]
    # Behind the segment's end the core has no header, and the file still maps it.
    assert space.read(HostAddress(145), 15) == FILE[45:60]
    with pytest.raises(MemoryFault) as caught:
        space.read(HostAddress(155), 10)
    assert (caught.value.address, caught.value.gap.kind) == (160, GapKind.UNMAPPED)
    assert space.file_offset_of(119) == 19
    assert space.file_offset_of(120) is None


def test_a_file_not_at_hand_is_named_with_the_offset(
    sources: tuple[FileSource, FileSource],
) -> None:
    memory = SegmentSpace(sources[0], [Segment(100, 150, 100, 0)])
    space = OverlaySpace(memory, [FilePages(100, 140, 1000, None, missing)])
    with pytest.raises(MemoryFault) as caught:
        space.read(HostAddress(130), 4)
    assert caught.value.gap == Gap(GapKind.FILE_NEEDED, 130, 4, file="lib", file_offset=1030)


def test_a_truncated_page_is_never_taken_from_the_file(
    sources: tuple[FileSource, FileSource],
) -> None:
    core, file = sources
    memory = SegmentSpace(core, [Segment(100, 150, 150, 180)])
    space = OverlaySpace(memory, [FilePages(100, 150, 0, file, missing)])
    assert space.read(HostAddress(100), 20) == b"C" * 20
    with pytest.raises(MemoryFault) as caught:
        space.read(HostAddress(100), 30)
    assert caught.value.gap.kind is GapKind.TRUNCATED


def test_a_file_shorter_than_its_mapping_leaves_a_gap(
    sources: tuple[FileSource, FileSource],
) -> None:
    core, file = sources
    space = OverlaySpace(SegmentSpace(core, []), [FilePages(0, 4096, 0, file, missing)])
    assert space.read(HostAddress(90), 10) == FILE[90:]
    with pytest.raises(MemoryFault) as caught:
        space.read(HostAddress(90), 20)
    assert (caught.value.address, caught.value.gap.kind) == (100, GapKind.NOT_DUMPED)
    assert file.path in str(caught.value)


def test_a_file_that_cannot_be_read_is_an_io_gap(
    sources: tuple[FileSource, FileSource], tmp_path: Path
) -> None:
    closed = FileSource.open(sources[1].path)
    closed.close()
    space = OverlaySpace(SegmentSpace(sources[0], []), [FilePages(0, 50, 0, closed, missing)])
    with pytest.raises(MemoryFault) as caught:
        space.read(HostAddress(0), 4)
    assert caught.value.gap.kind is GapKind.IO


PAGES = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 40), st.integers(0, 110), st.booleans()),
    max_size=5,
)
SEGMENTS = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 40), st.integers(0, 40)), max_size=5
)


@given(SEGMENTS, PAGES)
def test_pieces_and_ranges_agree_with_the_parts(
    sources: tuple[FileSource, FileSource],
    segments: list[tuple[int, int, int]],
    pages: list[tuple[int, int, int, bool]],
) -> None:
    core, file = sources
    memory = SegmentSpace(
        core, [Segment(start, start + max(m, f), start + f, 0) for start, m, f in segments]
    )
    space = OverlaySpace(
        memory,
        [FilePages(a, a + n, o, file if given else None, missing) for a, n, o, given in pages],
    )
    readable: set[int] = set()
    place = 0
    for piece in space.pieces(HostAddress(0), 200):
        assert piece.address == place
        place += piece.size
        if piece.data is not None:
            readable.update(range(piece.address, place))
            for address, byte in enumerate(piece.data, piece.address):
                own = memory.find(address, 1)
                if own is not None:
                    assert bytes([byte]) == own
                else:
                    assert any(
                        a <= address < a + n
                        and FILE[o + address - a : o + address - a + 1] == bytes([byte])
                        for a, n, o, given in pages
                        if given
                    )
    assert place == 200
    by_ranges: set[int] = set()
    known: set[int] = set()
    reach = 0
    for part in space.ranges():
        assert part.address >= reach
        reach = part.address + part.size
        by_ranges.update(range(part.address, part.address + part.readable))
        known.update(range(part.address, reach))
    assert by_ranges == readable
    assert known >= {a for r in memory.ranges() for a in range(r.address, r.address + r.size)}
