"""An address space whose pages are looked up: guest-virtual memory, a device behind an IOMMU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from vringcore.addresses import SPACE_END, GuestAddress, HostAddress, end_of
from vringcore.errors import MemoryFault
from vringcore.memory.gaps import Gap
from vringcore.memory.space import AddressSpace, Piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vringcore.memory.space import Range
    from vringcore.qemu.flat_space import GuestSpace

A = TypeVar("A", bound=int)

PAGE_BITS = 12
MAX_KEPT = 1 << 14
"""Pages that are remembered; with one more, all are forgotten."""


class Mapping(msgspec.Struct, frozen=True):
    """A page: addresses ``[start, start + size)`` show guest-physical memory.

    :param physical: address of its first byte; None if it is not there
    :param gap: why not
    :param readable: whether who looks through it may read; nothing here is refused by it
    :param writable: whether it may write
    """

    start: int
    size: int
    physical: int | None
    gap: Gap | None = None
    readable: bool = True
    writable: bool = True


class PagedSpace(AddressSpace[A], Generic[A]):
    """Guest-physical memory as somebody sees it through tables.

    What they do not map is a gap that names the entry which says so; where a table itself cannot
    be read the gap is that of the table.
    """

    def __init__(self, memory: GuestSpace, name: str) -> None:
        self._memory = memory
        self.name = name
        self._known: dict[int, Mapping] = {}

    def look_up(self, address: int) -> Mapping:
        """Return the page that an address lies in, or the stretch that the same entry denies."""
        raise NotImplementedError

    def mapping(self, address: int) -> Mapping:
        """Return as :meth:`look_up` does; what was looked up before is remembered."""
        number = address >> PAGE_BITS
        known = self._known.get(number)
        if known is None or not known.start <= address < known.start + known.size:
            if len(self._known) >= MAX_KEPT:
                self._known.clear()
            known = self._known[number] = self.look_up(address)
        return known

    def guest_address(self, address: A) -> GuestAddress:
        """Return the guest-physical address that an address leads to.

        :raises MemoryFault: if it is not mapped, or a table cannot be read
        """
        page = self.mapping(address)
        if page.physical is None:
            assert page.gap is not None
            raise MemoryFault(f"translating an address of {self.name}", address, page.gap)
        return GuestAddress(page.physical + address - page.start)

    def host_address(self, address: A) -> HostAddress:
        """Return where in the QEMU process an address lies; errors as :meth:`guest_address`.

        :raises MemoryFault: also if no RAM answers there
        """
        return self._memory.host_address(self.guest_address(address))

    def ranges(self) -> Sequence[Range]:
        """Return nothing: what is mapped is found by asking."""
        return ()

    def read(self, address: A, size: int) -> bytes:
        """Return exactly ``size`` bytes; see :meth:`AddressSpace.read`."""
        if 0 <= address < SPACE_END and size >= 0:
            page = self.mapping(address)
            inside = address - page.start
            if page.physical is not None and inside + size <= page.size:
                try:
                    return self._memory.read(GuestAddress(page.physical + inside), size)
                except MemoryFault:
                    pass  # told below in the addresses that were asked for
        return super().read(address, size)

    def pieces(self, address: A, size: int) -> Iterator[Piece]:
        """Yield the range page by page as data and gaps, in the addresses that were asked for."""
        place, end = int(address), end_of(address, size)
        while place < end:
            page = self.mapping(place)
            until = min(end, page.start + page.size)
            if page.physical is None:
                assert page.gap is not None
                gap = msgspec.structs.replace(page.gap, address=place, size=until - place)
                yield Piece(place, until - place, None, gap)
            else:
                physical = page.physical + place - page.start
                for piece in self._memory.pieces(GuestAddress(physical), until - place):
                    yield shifted(piece, place - physical)
            place = until


def shifted(piece: Piece, by: int) -> Piece:
    """Return a piece of guest-physical memory under another address."""
    gap = piece.gap
    if gap is not None:
        hint = gap.hint or f"the page is at guest-physical {gap.address:#x}"
        gap = msgspec.structs.replace(gap, address=gap.address + by, hint=hint)
    return Piece(piece.address + by, piece.size, piece.data, gap)
