"""A core with some of its bytes changed, as a core taken in mid-update or damaged on disk has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.memory.space import AddressSpace, Piece
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vringcore.memory.space import HostSpace, Range


class Patched(AddressSpace[HostAddress]):
    """Memory with other bytes in some places; what was absent stays absent."""

    name = "patched memory"

    def __init__(self, space: HostSpace, patches: Mapping[int, bytes]) -> None:
        self._space = space
        self._patches = dict(patches)

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        for piece in self._space.pieces(address, size):
            if piece.data is None:
                yield piece
                continue
            data = bytearray(piece.data)
            for at, patch in self._patches.items():
                low, high = max(at, piece.address), min(at + len(patch), piece.address + piece.size)
                if low < high:
                    data[low - piece.address : high - piece.address] = patch[low - at : high - at]
            yield Piece(piece.address, piece.size, bytes(data), None)

    def ranges(self) -> Sequence[Range]:
        return self._space.ranges()


def patched(views: Views, patches: Mapping[int, bytes]) -> Views:
    """Return the views of a process whose memory has other bytes in some places."""
    return over(views, Patched(views.space, patches))


def over(views: Views, space: HostSpace) -> Views:
    """Return the same views over another memory."""
    return Views(space, views.layouts, views.bias, views.symbols)
