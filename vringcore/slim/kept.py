"""The bytes that a small core keeps, as an address space that it is written from."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, Piece, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vringcore.memory.space import HostSpace


class KeptSpace(AddressSpace[HostAddress]):
    """Copied bytes by address."""

    name = "a small core's memory"

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._data: list[bytes] = []

    def copy(self, space: HostSpace, extents: Iterable[tuple[int, int]]) -> None:
        """Copy what a space has of some extents, which are sorted and disjoint."""
        for start, end in extents:
            for piece in space.scan(HostAddress(start), end - start):
                if piece.data:
                    self._starts.append(piece.address)
                    self._data.append(piece.data)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(len, self._data))

    def extents(self) -> Iterator[tuple[int, int]]:
        """Yield ``(start, end)`` of what was copied, in order, touching ones joined."""
        low = high = 0
        for start, data in zip(self._starts, self._data, strict=True):
            if start != high:
                if high > low:
                    yield low, high
                low = start
            high = start + len(data)
        if high > low:
            yield low, high

    def change(self, change: Callable[[int, bytes], bytes]) -> None:
        """Replace each run of bytes by what ``change`` makes of it, of the same length.

        Runs that touch are given to it as one, so that nothing hides across two of them.
        """
        runs = list(self.extents())
        data = [self.read(HostAddress(start), end - start) for start, end in runs]
        self._starts = [start for start, _ in runs]
        self._data = [
            change(start, before) for start, before in zip(self._starts, data, strict=True)
        ]
        assert all(len(a) == len(b) for a, b in zip(self._data, data, strict=True))

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield the range as data and gaps."""
        place, end = int(address), int(address) + size
        index = max(0, bisect_right(self._starts, place) - 1)
        while place < end:
            start = self._starts[index] if index < len(self._starts) else end
            until = start + len(self._data[index]) if index < len(self._starts) else end
            if place < start:
                stop = min(start, end)
                yield Piece(place, stop - place, None, Gap(GapKind.OMITTED, place, stop - place))
                place = stop
            elif place < until:
                stop = min(until, end)
                data = self._data[index][place - start : stop - start]
                yield Piece(place, len(data), data, None)
                place = stop
            else:
                index += 1

    def ranges(self) -> Sequence[Range]:
        """Return what was copied."""
        return [Range(start, end - start, end - start) for start, end in self.extents()]


def segments_of(known: Iterable[Range], kept: Iterable[tuple[int, int]]) -> Iterator[Range]:
    """Yield the kept bytes as segments, with the rights they had; none is across two mappings.

    Holes have no segment: gdb shows what a segment does not hold as zeros.

    :param known: the original's ranges, sorted, disjoint
    :param kept: extents of the bytes to write, sorted, disjoint
    """
    parts = iter(known)
    part = next(parts, None)
    for start, end in kept:
        place = start
        while place < end and part is not None:
            reach = part.address + part.size
            if reach <= place:
                part = next(parts, None)
                continue
            place = max(place, part.address)
            until = min(end, reach)
            if place < until:
                yield msgspec.structs.replace(
                    part, address=place, size=until - place, readable=until - place, file_offset=-1
                )
            place = until


def without(
    extents: Iterable[tuple[int, int]], holes: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield what of some extents lies outside the holes; both sorted, disjoint."""
    cuts = list(holes)
    index = 0
    for start, end in extents:
        place = start
        while index < len(cuts) and cuts[index][1] <= place:
            index += 1
        at = index
        while at < len(cuts) and cuts[at][0] < end:
            if cuts[at][0] > place:
                yield place, cuts[at][0]
            place = max(place, cuts[at][1])
            at += 1
        if place < end:
            yield place, end
