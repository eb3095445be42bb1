"""Pages of mapped files under a core's own: what the core left out is read from the files."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from vringcore.addresses import HostAddress, end_of
from vringcore.errors import FileError
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.segments import CHUNK
from vringcore.memory.space import AddressSpace, Piece, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vringcore.memory.files import FileSource
    from vringcore.memory.segments import SegmentSpace

_FILLABLE = (GapKind.NOT_DUMPED, GapKind.UNMAPPED, GapKind.OMITTED)
"""A truncated page was written by the process, so the file's own bytes may differ from it."""


class FilePages(msgspec.Struct, frozen=True):
    """Addresses ``[address, end)`` that map a file from ``file_offset`` on.

    :param source: the file, None if it is not at hand
    :param missing: makes the gap for an address, size and file offset that ``source`` cannot fill
    """

    address: int
    end: int
    file_offset: int
    source: FileSource | None
    missing: Callable[[int, int, int], Gap]


class OverlaySpace(AddressSpace[HostAddress]):
    """A core's memory with mapped files beneath. The core's own bytes always win.

    The files must be the ones that were mapped: the caller checks build-ids.

    :ivar explain: may replace a gap by one that says more, such as that a hole in the core is the
        guest's memory; None leaves every gap as it is
    """

    def __init__(self, core: SegmentSpace, pages: Iterable[FilePages]) -> None:
        self.name = core.name
        self._core = core
        self._pages: list[FilePages] = []
        self._starts: list[int] = []
        self._ranges: list[Range] | None = None
        self.explain: Callable[[Gap], Gap] | None = None
        for page in sorted(pages, key=attrgetter("address")):
            if page.address < page.end and (not self._pages or page.address >= self._pages[-1].end):
                self._pages.append(page)
                self._starts.append(page.address)

    def lay(self, pages: Iterable[FilePages]) -> None:
        """Lay more files under the core, in place of what lay at their addresses before."""
        new = sorted(pages, key=attrgetter("address"))
        old = (
            page
            for page in self._pages
            if not any(p.address < page.end and page.address < p.end for p in new)
        )
        self._pages = sorted([*old, *new], key=attrgetter("address"))
        self._starts = [page.address for page in self._pages]
        self._ranges = None

    def read(self, address: HostAddress, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        :raises MemoryFault: at the first byte that neither the core nor a file has
        :raises AddressOverflowError: if the range leaves the address space
        """
        data = self._core.find(address, size)
        return super().read(address, size) if data is None else data

    def holds(self, address: int, size: int) -> bool:
        """Tell whether the core has the bytes in one segment."""
        return self._core.holds(address, size)

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield the range as data and gaps.

        :raises AddressOverflowError: if the range leaves the address space
        """
        return self._explained(self._filled_pieces(self._core.pieces(address, size)))

    def scan(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield as :meth:`pieces` does, for a search; see :meth:`AddressSpace.scan`."""
        return self._explained(self._filled_pieces(self._core.scan(address, size)))

    def _explained(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            if piece.gap is None or self.explain is None:
                yield piece
            else:
                yield msgspec.structs.replace(piece, gap=self.explain(piece.gap))

    def _filled_pieces(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            if piece.gap is None or piece.gap.kind not in _FILLABLE:
                yield piece
            else:
                yield from self._filled(piece, piece.gap)

    def ranges(self) -> Sequence[Range]:
        """Return the core's ranges and, beside them, those that only the files have."""
        if self._ranges is None:
            self._ranges = self._merged(self._core.ranges(), 0, 1 << 64)
        return self._ranges

    def ranges_at(self, address: int, size: int) -> Sequence[Range]:
        """Return the ranges that have an address in a stretch."""
        end = address + size
        merged = self._merged(self._core.ranges_at(address, size), address, end)
        return [r for r in merged if r.address < end and address < r.address + r.size]

    def _merged(self, ranges: Iterable[Range], reach: int, end: int) -> list[Range]:
        """Return the core's ranges and, between and behind them up to ``end``, the files'."""
        result: list[Range] = []
        for known in ranges:
            result.extend(self._file_ranges(reach, known.address))
            data_end = known.address + known.readable
            reach = known.address + known.size
            beneath = list(self._file_ranges(data_end, reach))
            if not beneath:
                result.append(known)
                continue
            if known.readable:
                result.append(msgspec.structs.replace(known, size=known.readable))
            for part in beneath:
                if part.address > data_end:
                    result.append(_left_out(known, data_end, part.address))
                result.append(part)
                data_end = part.address + part.size
            if data_end < reach:
                result.append(_left_out(known, data_end, reach))
        result.extend(self._file_ranges(reach, end))
        return result

    def file_offset_of(self, address: int) -> int | None:
        """Return where in the core file an address's byte lies, None if it is not from the core."""
        return self._core.file_offset_of(address)

    def _file_ranges(self, start: int, end: int) -> Iterator[Range]:
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self._pages) and self._starts[index] < end:
            pages = self._pages[index]
            low, high = max(start, pages.address), min(end, pages.end)
            if pages.source is not None and low < high:
                in_file = pages.source.size - pages.file_offset - (low - pages.address)
                yield Range(
                    low, high - low, min(high - low, max(0, in_file)), name=pages.source.path
                )
            index += 1

    def _filled(self, hole: Piece, gap: Gap) -> Iterator[Piece]:
        place, end = hole.address, end_of(hole.address, hole.size)
        index = bisect_right(self._starts, place) - 1
        while place < end:
            pages = self._pages[index] if index >= 0 else None
            if pages is not None and place < pages.end:
                until = min(end, pages.end, place + CHUNK)
                yield from _from_file(pages, place, until, gap)
                place = until
                continue
            index += 1
            until = min(end, self._starts[index]) if index < len(self._starts) else end
            if until > place:
                rest = msgspec.structs.replace(gap, address=place, size=until - place)
                yield Piece(place, until - place, None, rest)
                place = until


def _from_file(pages: FilePages, start: int, end: int, hole: Gap) -> Iterator[Piece]:
    offset = pages.file_offset + start - pages.address
    if pages.source is None and hole.kind is GapKind.OMITTED:
        gap = msgspec.structs.replace(hole, address=start, size=end - start)
        yield Piece(start, end - start, None, gap)
        return
    if pages.source is None:
        yield Piece(start, end - start, None, pages.missing(start, end - start, offset))
        return
    try:
        data = pages.source.read(offset, end - start)
    except FileError as error:
        gap = Gap(GapKind.IO, start, end - start, str(error))
        yield Piece(start, end - start, None, gap)
        return
    if data:
        yield Piece(start, len(data), data, None)
    start += len(data)
    if start < end:
        gap = Gap(
            GapKind.NOT_DUMPED,
            start,
            end - start,
            f"{pages.source.path} ends before offset {offset + len(data):#x}",
        )
        yield Piece(start, end - start, None, gap)


def _left_out(known: Range, start: int, end: int) -> Range:
    return msgspec.structs.replace(
        known, address=start, size=end - start, readable=0, file_offset=-1
    )
