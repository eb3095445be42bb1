"""The memory of a slim core: of what is not there it is known who left it out."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.segments import HINTS, Segment, SegmentSpace
from vringcore.memory.space import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vringcore.addresses import HostAddress
    from vringcore.elfcore.slimnote import Lost, Mapped
    from vringcore.memory.files import FileSource

OMITTED_HINT = "ask the full core; `vringcore slim --include` keeps what it names"

_KINDS = {kind.value: kind for kind in (GapKind.NOT_DUMPED, GapKind.TRUNCATED, GapKind.IO)}


class SlimSpace(SegmentSpace):
    """Segments of a slim core, and what the process had mapped around them.

    A mapped byte that the core does not hold was OMITTED when the core was made small, unless
    ``lost`` says that the original did not have it either.
    """

    def __init__(
        self,
        source: FileSource,
        segments: Iterable[Segment],
        mapped: Iterable[Mapped],
        lost: Sequence[Lost],
        *,
        name: str = "memory",
    ) -> None:
        around = (
            Segment(m.start, m.end, m.start, 0, "w" in m.rights, "x" in m.rights) for m in mapped
        )
        super().__init__(source, [*segments, *around], name=name)
        self._lost = sorted(lost, key=lambda each: each.start)
        self._lost_starts = [each.start for each in self._lost]

    def scan(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield the range as data and gaps; see :meth:`SegmentSpace.scan`."""
        for piece in super().scan(address, size):
            if piece.gap is not None and piece.gap.kind is GapKind.NOT_DUMPED:
                yield from self._explained(piece.address, piece.address + piece.size)
            else:
                yield piece

    def _explained(self, start: int, end: int) -> Iterator[Piece]:
        index = max(0, bisect_right(self._lost_starts, start) - 1)
        while start < end:
            lost = self._lost[index] if index < len(self._lost) else None
            if lost is not None and lost.end <= start:
                index += 1
                continue
            if lost is None or start < lost.start:
                until = end if lost is None else min(end, lost.start)
                kind = GapKind.OMITTED
            else:
                until = min(end, lost.end)
                kind = _KINDS.get(lost.kind, GapKind.NOT_DUMPED)
            yield _gap(kind, start, until)
            start = until


def _gap(kind: GapKind, start: int, end: int) -> Piece:
    hint = OMITTED_HINT if kind is GapKind.OMITTED else HINTS.get(kind, "")
    return Piece(start, end - start, None, Gap(kind, start, end - start, hint))


def lost_of(pieces: Iterable[Piece]) -> Iterator[tuple[int, int, str]]:
    """Yield ``(start, end, kind)`` of the gaps that no mapped file could fill either."""
    for piece in pieces:
        if piece.gap is not None and piece.gap.kind.value in _KINDS:
            yield piece.address, piece.address + piece.size, piece.gap.kind.value


def joined(rows: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Return rows in order, those of one kind that touch made one."""
    result: list[tuple[int, int, str]] = []
    for start, end, kind in rows:
        if result and result[-1][1] == start and result[-1][2] == kind:
            result[-1] = (result[-1][0], end, kind)
        else:
            result.append((start, end, kind))
    return result
