"""A core with some of its bytes changed, as a core taken in mid-update or damaged on disk has."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.api import Core
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, Piece
from vringcore.qemu.block import BlockLayer
from vringcore.qemu.qom import ObjectModel
from vringcore.view.views import Views

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from vringcore.memory.space import HostSpace, Range
    from vringcore.qemu.process import Process


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


class Hidden(AddressSpace[HostAddress]):
    """Memory of which some ranges were cut off; what was absent stays absent."""

    name = "memory with holes"

    def __init__(self, space: HostSpace, holes: Iterable[tuple[int, int]]) -> None:
        self._space = space
        self._holes = sorted(holes)

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        place, end = int(address), int(address) + size
        for start, stop in self._holes:
            if stop <= place or start >= end:
                continue
            if place < start:
                yield from self._space.pieces(HostAddress(place), start - place)
            low, high = max(place, start), min(stop, end)
            yield Piece(low, high - low, None, Gap(GapKind.TRUNCATED, low, high - low))
            place = high
        if place < end:
            yield from self._space.pieces(HostAddress(place), end - place)

    def ranges(self) -> Sequence[Range]:
        return self._space.ranges()


def core_over(process: Process, space: HostSpace) -> Core:
    """Return an open core of the same process over another memory."""
    other = copy.copy(process)
    for name in ("guest_memory", "core_info", "qemu_info", "symbols"):
        other.__dict__.pop(name, None)
    other.limits = []
    other.views = over(process.views, space)
    other.objects = ObjectModel(other.views)
    other.block = BlockLayer(other.views)
    return Core(other)
