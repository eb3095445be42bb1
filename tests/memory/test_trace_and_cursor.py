from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vringcore.addresses import HostAddress
from vringcore.errors import CoreFormatError, LayoutError, MemoryFault
from vringcore.memory import trace
from vringcore.memory.cursor import Cursor
from vringcore.memory.files import FileSource
from vringcore.memory.segments import Segment, SegmentSpace
from vringcore.memory.trace import TracingSpace, merge


@pytest.fixture
def memory(tmp_path: Path) -> SegmentSpace:
    (tmp_path / "core").write_bytes(bytes(range(100)))
    return SegmentSpace(FileSource.open(str(tmp_path / "core")), [Segment(0, 100, 100, 0)])


def test_a_trace_holds_what_was_read_merged(memory: SegmentSpace) -> None:
    space = TracingSpace(memory)
    assert space.read(HostAddress(10), 5) == memory.read(HostAddress(10), 5)
    space.read(HostAddress(15), 5)
    space.read(HostAddress(40), 2)
    space.read(HostAddress(12), 3)
    list(space.pieces(HostAddress(90), 4))
    space.ranges()
    assert space.touched() == [(10, 20), (40, 42), (90, 94)]


def test_a_failed_read_is_recorded_too(memory: SegmentSpace) -> None:
    space = TracingSpace(memory)
    with pytest.raises(MemoryFault):
        space.read(HostAddress(98), 10)
    assert space.touched() == [(98, 108)]


def test_a_long_trace_is_compacted(memory: SegmentSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_COMPACT_AT", 16)
    space = TracingSpace(memory)
    for turn in range(1000):
        space.read(HostAddress(turn % 90), 2)
        assert len(space.trace._extents) <= 16
    assert space.touched() == [(0, 91)]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))))
def test_merging_keeps_every_address_and_leaves_no_neighbours(
    extents: list[tuple[int, int]],
) -> None:
    merged = merge(extents)
    assert {a for s, e in merged for a in range(s, e)} == {
        a for s, e in extents for a in range(s, e)
    }
    assert all(first[1] < second[0] for first, second in pairwise(merged))


def test_a_cursor_takes_in_order() -> None:
    cursor = Cursor(struct.pack("<HI2Q", 1, 2, 3, 4) + b"tail", "record")
    assert cursor.take(struct.Struct("<HI"), "head") == (1, 2)
    assert list(cursor.take_rows(struct.Struct("<Q"), 2, "rows")) == [(3,), (4,)]
    assert cursor.left == 4
    assert cursor.take_bytes(4, "tail") == b"tail"
    assert cursor.left == 0


def test_a_cursor_names_what_was_too_short_and_where() -> None:
    cursor = Cursor(bytes(10), "NT_FILE of core.1", base=0x200)
    cursor.take_bytes(6, "start")
    with pytest.raises(CoreFormatError) as caught:
        cursor.take_rows(struct.Struct("<Q"), 1 << 60, "mappings")
    assert caught.value.where == "file offset 0x206"
    assert caught.value.seen == "4 bytes left"
    assert "NT_FILE of core.1" in str(caught.value)
    with pytest.raises(LayoutError):
        Cursor(b"", "bundle", error=LayoutError).take_bytes(1, "magic")


@pytest.mark.parametrize(
    ("data", "limit", "strings", "left"),
    [
        (b"a\0bc\0", 2, [b"a", b"bc"], 0),
        (b"a\0bc\0de\0", 2, [b"a", b"bc"], 3),
        (b"a\0bc", 2, [b"a"], 2),
        (b"", 2, [], 0),
        (b"\0\0", 5, [b"", b""], 0),
    ],
)
def test_strings_without_their_nul_are_not_taken(
    data: bytes, limit: int, strings: list[bytes], left: int
) -> None:
    cursor = Cursor(data, "names")
    assert cursor.take_strings(limit) == strings
    assert cursor.left == left
