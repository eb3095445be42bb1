"""An address space of segments that lie in one file, as a core's PT_LOAD headers describe them.

The file may also be one that stands for a running process, where a byte's offset is its address.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import SPACE_END, HostAddress, end_of
from vringcore.errors import FileError
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, Piece, Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Protocol

    from vringcore.memory.trace import Trace

    class Source(Protocol):
        """Where the bytes are read from."""

        @property
        def size(self) -> int: ...
        def read(self, offset: int, size: int) -> bytes:
            """Return bytes, fewer only at the end; a FileError where they cannot be read."""


CHUNK = 1 << 20
"""The largest piece of data that ``pieces`` yields, in bytes."""

HINTS = {
    GapKind.UNMAPPED: "",
    GapKind.NOT_DUMPED: "a core holds it when taken after `echo 0x7f > /proc/PID/coredump_filter`"
    " or with gdb's `set dump-excluded-mappings on`",
    GapKind.TRUNCATED: "copy the core again, or make room where it is written",
}


class Segment(msgspec.Struct, frozen=True, gc=False):
    """Addresses ``[address, end)``, of which ``[address, file_end)`` should lie in the file.

    ``offset`` is the file offset of ``address``. ``hint`` says why bytes are not in the file.
    """

    address: int
    end: int
    file_end: int
    offset: int
    writable: bool = False
    executable: bool = False
    hint: str = ""


class SegmentSpace(AddressSpace[HostAddress]):
    """Segments of one file, found by bisection.

    A segment longer than its bytes in the file ends in a NOT_DUMPED gap; bytes that the file
    should hold and that lie beyond its end are a TRUNCATED gap. Of overlapping segments the one
    whose bytes are in the file wins over one that left them out, then the lower, then the earlier.

    :ivar trace: records every address that is asked for; None (the rule) records nothing
    """

    def __init__(
        self, source: Source, segments: Iterable[Segment], *, name: str = "memory"
    ) -> None:
        self.name = name
        self.trace: Trace | None = None
        self._source = source
        self._read = source.read
        sound = [s for s in segments if 0 <= s.address < s.end]
        sound.sort(key=attrgetter("address"))
        self._segments = _disjoint(sound, source.size)
        # The fast path of ``read`` works on plain lists of numbers.
        self._starts = [segment.address for segment in self._segments]
        size = source.size
        self._data_ends = [
            # Nearly always all that should be in the file is there; the rest is told apart below.
            s.file_end
            if s.file_end <= s.end and 0 <= s.offset <= size - (s.file_end - s.address)
            else _data_end(s, size)
            for s in self._segments
        ]
        self._deltas = [segment.offset - segment.address for segment in self._segments]

    def read(self, address: HostAddress, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        :raises MemoryFault: at the first byte that is not there
        :raises AddressOverflowError: if the range leaves the address space
        """
        data = self.find(address, size)
        return super().read(address, size) if data is None else data

    def find(self, address: int, size: int) -> bytes | None:
        """Return ``size`` bytes if they lie in one segment and the file, None otherwise."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or size < 0 or address + size > self._data_ends[index]:
            return None
        try:
            data = self._read(address + self._deltas[index], size)
        except FileError:
            return None
        if len(data) != size:
            return None
        if self.trace is not None:
            self.trace.add(address, size)
        return data

    def holds(self, address: int, size: int) -> bool:
        """Tell whether the bytes lie in one segment and the file."""
        index = bisect_right(self._starts, address) - 1
        return index >= 0 and 0 <= size <= self._data_ends[index] - address

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield the range as data, at most :data:`CHUNK` bytes each, and gaps.

        :raises AddressOverflowError: if the range leaves the address space
        """
        for piece in self.scan(address, size):
            if self.trace is not None:
                self.trace.add(piece.address, piece.size)
            yield piece

    def scan(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield as :meth:`pieces` does, without a trace."""
        place, end = int(address), end_of(address, size)
        index = bisect_right(self._starts, place) - 1
        while place < end:
            segment = self._segments[index] if index >= 0 else None
            if segment is None or place >= segment.end:
                index += 1
                until = self._starts[index] if index < len(self._starts) else SPACE_END
                if until > place:
                    yield _gap(GapKind.UNMAPPED, place, min(until, end))
                    place = min(until, end)
            elif place < self._data_ends[index]:
                until = min(self._data_ends[index], end, place + CHUNK)
                yield from self._data(place, until, segment)
                place = until
            else:
                lost = place < segment.file_end
                until = min(segment.file_end if lost else segment.end, end)
                kind, hint = (GapKind.TRUNCATED, "") if lost else (GapKind.NOT_DUMPED, segment.hint)
                yield _gap(kind, place, until, hint)
                place = until

    def ranges(self) -> Sequence[Range]:
        """Return the segments, sorted by address, disjoint."""
        return list(map(_range, self._segments, self._data_ends))

    def ranges_at(self, address: int, size: int) -> Sequence[Range]:
        """Return the segments that have an address in a stretch."""
        first = max(0, bisect_right(self._starts, address) - 1)
        if self._segments and self._segments[first].end <= address:
            first += 1
        last = bisect_left(self._starts, address + size)
        return list(map(_range, self._segments[first:last], self._data_ends[first:last]))

    def segment_at(self, address: int) -> Segment | None:
        """Return the segment that holds an address, dumped or not."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._segments[index].end:
            return None
        return self._segments[index]

    def file_offset_of(self, address: int) -> int | None:
        """Return where in the file the byte of an address lies, None if it is not in it."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._data_ends[index]:
            return None
        return address + self._deltas[index]

    def _data(self, start: int, end: int, segment: Segment) -> Iterator[Piece]:
        try:
            data = self._source.read(segment.offset + start - segment.address, end - start)
        except FileError as error:
            yield _gap(GapKind.IO, start, end, str(error))
            return
        if data:
            yield Piece(start, len(data), data, None)
        if len(data) < end - start:
            # The file has shrunk since it was opened.
            yield _gap(GapKind.TRUNCATED, start + len(data), end)


def _range(segment: Segment, data_end: int) -> Range:
    return Range(
        segment.address,
        segment.end - segment.address,
        data_end - segment.address,
        file_offset=segment.offset if data_end > segment.address else -1,
        writable=segment.writable,
        executable=segment.executable,
    )


def _gap(kind: GapKind, start: int, end: int, hint: str = "") -> Piece:
    gap = Gap(kind, start, end - start, hint or HINTS[kind])
    return Piece(start, end - start, None, gap)


def _data_end(segment: Segment, file_size: int) -> int:
    in_file = max(0, file_size - segment.offset)
    return min(segment.file_end, segment.end, segment.address + in_file)


def _disjoint(segments: list[Segment], file_size: int) -> list[Segment]:
    """Return sorted segments without overlaps; ``segments`` itself when it has none."""
    reach = 0
    for segment in segments:
        if segment.address < reach or segment.end > SPACE_END:
            break
        reach = segment.end
    else:
        return segments
    ends = [_data_end(segment, file_size) for segment in segments]
    pairs = list(zip(segments, ends, strict=True))
    with_data = [_cut(s, s.address, end) for s, end in pairs if s.address < end]
    without = [_cut(s, end, s.end) for s, end in pairs if end < s.end]
    return _merged(_clipped(with_data), _clipped(without))


def _cut(segment: Segment, start: int, end: int) -> Segment:
    """Return the part ``[start, end)`` of a segment."""
    if start == segment.address and end == segment.end <= SPACE_END and segment.file_end <= end:
        return segment  # nearly always: small cores have thousands, around which all was mapped
    return msgspec.structs.replace(
        segment,
        address=start,
        end=min(end, SPACE_END),
        file_end=max(start, min(segment.file_end, end)),
        offset=segment.offset + start - segment.address,
    )


def _clipped(segments: list[Segment]) -> list[Segment]:
    """Cut each segment back to what lies beyond all before it."""
    kept: list[Segment] = []
    reach = 0
    for segment in sorted(segments, key=attrgetter("address")):
        start = max(segment.address, reach)
        if start < min(segment.end, SPACE_END):
            kept.append(_cut(segment, start, segment.end))
            reach = kept[-1].end
    return kept


def _merged(winners: list[Segment], others: list[Segment]) -> list[Segment]:
    """Return the winners and what of the others lies between them; both sorted and disjoint."""
    result = list(winners)
    starts = [winner.address for winner in winners]
    for other in others:
        start = other.address
        index = bisect_right(starts, start) - 1
        if index >= 0:
            start = max(start, winners[index].end)
        while start < other.end:
            index += 1
            until = starts[index] if index < len(starts) else SPACE_END
            if start < until:
                result.append(_cut(other, start, min(other.end, until)))
            start = max(start, winners[index].end) if index < len(starts) else SPACE_END
    return sorted(result, key=attrgetter("address"))
