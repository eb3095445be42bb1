"""What every address space is: ``read``, ``pieces`` and ``ranges``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from vringcore.addresses import HostAddress
from vringcore.errors import MemoryFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.memory.gaps import Gap

A = TypeVar("A", bound=int)


class Piece(msgspec.Struct, frozen=True):
    """A part of a range: bytes that are there, or the gap that is there instead."""

    address: int
    size: int
    data: bytes | None
    gap: Gap | None


class Range(msgspec.Struct, frozen=True):
    """A stretch of addresses that an address space knows of.

    ``readable`` is the number of bytes, from the start, that can be read; the rest is a gap.
    ``file_offset`` is where the first byte lies in the core file, -1 where it does not lie in it.
    """

    address: int
    size: int
    readable: int
    name: str = ""
    file_offset: int = -1
    writable: bool = False
    executable: bool = False


class AddressSpace(Generic[A]):
    """Memory by address. Nothing is padded: a byte is there, or a gap says why it is not."""

    name: str = "memory"

    def pieces(self, address: A, size: int) -> Iterator[Piece]:
        """Yield the range in order as data and gaps, without holes or overlaps.

        A large range comes in bounded chunks, so a caller can stream it.

        :raises AddressOverflowError: if the range leaves the address space
        """
        raise NotImplementedError

    def read(self, address: A, size: int) -> bytes:
        """Return exactly ``size`` bytes.

        :raises MemoryFault: at the first byte that is not there
        :raises AddressOverflowError: if the range leaves the address space
        """
        parts = []
        for piece in self.pieces(address, size):
            if piece.gap is not None:
                raise MemoryFault(f"reading {size} bytes of {self.name}", piece.address, piece.gap)
            assert piece.data is not None
            parts.append(piece.data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def holds(self, address: int, size: int) -> bool:  # noqa: ARG002
        """Tell whether it is plain at once that all bytes are there; False proves nothing."""
        return False

    def scan(self, address: A, size: int) -> Iterator[Piece]:
        """Yield as :meth:`pieces` does, for a search: what is looked through is not needed.

        Where reads are recorded, these are not; what is found is read again.
        """
        return self.pieces(address, size)

    def ranges(self) -> Sequence[Range]:
        """Return what is known to be mapped, sorted by address, disjoint."""
        raise NotImplementedError

    def ranges_at(self, address: int, size: int) -> Sequence[Range]:
        """Return those of :meth:`ranges` that have an address in a stretch, whole."""
        end = address + size
        return [r for r in self.ranges() if r.address < end and address < r.address + r.size]


HostSpace = AddressSpace[HostAddress]


class Coverage:
    """Which addresses of a space can be read, by its ranges."""

    def __init__(self, space: HostSpace) -> None:
        self._space = space

    def total(self, address: int, size: int) -> int:
        """Return how many of the bytes can be read."""
        if self._space.holds(address, size):
            return size
        return sum(end - start for start, end in self._parts(address, size))

    def prefix(self, address: int, size: int) -> int:
        """Return how many bytes can be read from the first one on."""
        reach = address
        for start, end in self._parts(address, size):
            if start > reach:
                break
            reach = end
        return reach - address

    def _parts(self, address: int, size: int) -> Iterator[tuple[int, int]]:
        for part in self._space.ranges_at(address, size):
            start = max(address, part.address)
            end = min(address + size, part.address + part.readable)
            if start < end:
                yield start, end
