"""What was read of a memory: what a small core must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vringcore.memory.space import AddressSpace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.memory.space import Piece, Range

A = TypeVar("A", bound=int)

_COMPACT_AT = 1 << 16


class Trace:
    """The addresses that were asked for, whether or not anything was there.

    :ivar muted: while it is true, nothing is recorded
    """

    def __init__(self) -> None:
        self.muted = False
        self._extents: list[tuple[int, int]] = []
        self._compact_at = _COMPACT_AT

    def add(self, address: int, size: int) -> None:
        """Record a range."""
        if self.muted or size <= 0:
            return
        self._extents.append((address, address + size))
        if len(self._extents) >= self._compact_at:
            self._extents = merge(self._extents)
            self._compact_at = max(_COMPACT_AT, 2 * len(self._extents))

    def touched(self) -> list[tuple[int, int]]:
        """Return what was asked for so far as ``(start, end)``, sorted, touching ones merged."""
        self._extents = merge(self._extents)
        return list(self._extents)


class TracingSpace(AddressSpace[A]):
    """Passes every read on, and records it whether or not it succeeds."""

    def __init__(self, space: AddressSpace[A]) -> None:
        self.name = space.name
        self.trace = Trace()
        self._space = space

    def read(self, address: A, size: int) -> bytes:
        """Return exactly ``size`` bytes; see :meth:`AddressSpace.read`."""
        self.trace.add(address, size)
        return self._space.read(address, size)

    def pieces(self, address: A, size: int) -> Iterator[Piece]:
        """Yield the range as data and gaps, recording each as it is taken."""
        for piece in self._space.pieces(address, size):
            self.trace.add(piece.address, piece.size)
            yield piece

    def ranges(self) -> Sequence[Range]:
        """Return what the traced space knows; asking is not reading."""
        return self._space.ranges()

    def touched(self) -> list[tuple[int, int]]:
        """Return what was read so far as ``(start, end)``, sorted, touching ones merged."""
        return self.trace.touched()


def merge(extents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return extents ``(start, end)`` sorted, empty ones dropped, touching ones joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(extents):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
