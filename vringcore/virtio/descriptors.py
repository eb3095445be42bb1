"""A table of 16-byte descriptors, the ring's own or an indirect one (VirtIO 1.3, 2.7.5)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import msgspec

from vringcore.errors import AddressOverflowError, MemoryFault
from vringcore.virtio.constants import DESC_SIZE

if TYPE_CHECKING:
    from vringcore.memory.space import AddressSpace

A = TypeVar("A", bound=int)

BLOCK = 256
"""Descriptors read at a time: a page of them, and a whole table of most rings."""

_LITTLE = Struct("<QIHH")
_BIG = Struct(">QIHH")

RawDescriptor = tuple[int, int, int, int]
"""``addr``, ``len``, ``flags``, ``next``."""


class Descriptor(msgspec.Struct, frozen=True, gc=False):
    """One descriptor as the driver wrote it.

    ``index`` is its place in the table it lies in: the indirect table at ``table``, or the ring's
    own if that is None. ``address`` is guest-physical, or I/O-virtual behind an IOMMU; ``length``
    counts bytes. ``next`` means something only with the NEXT flag; of a packed ring, whose
    descriptors have no such word, it is the buffer id.
    """

    index: int
    address: int
    length: int
    flags: int
    next: int
    table: int | None = None


class DescriptorTable(Generic[A]):
    """``count`` descriptors at an address, read a block at a time when first asked for.

    A chain uses few of the descriptors a table may claim to have, so a false count costs nothing.

    :param space: where the table lies
    :param address: its first byte in ``space``
    :param count: how many descriptors it has
    :param big_endian: as a legacy driver of a big-endian guest writes them (2.7.3)
    """

    def __init__(
        self, space: AddressSpace[A], address: A, count: int, *, big_endian: bool = False
    ) -> None:
        self.space = space
        self.address = address
        self.count = count
        self.big_endian = big_endian
        self._format = _BIG if big_endian else _LITTLE
        self._blocks: dict[int, list[RawDescriptor]] = {}

    def __getitem__(self, index: int) -> RawDescriptor:
        """Return one descriptor; its neighbours need not be readable.

        :param index: 0 to ``count - 1``
        :raises MemoryFault: if it cannot be read
        :raises AddressOverflowError: if it leaves the address space
        """
        number, offset = divmod(index, BLOCK)
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = self._read_block(number * BLOCK)
        return block[offset] if block else self._read(index, 1)[0]

    def descriptors(self, table: int | None = None) -> tuple[Descriptor, ...]:
        """Return all descriptors; ``table`` is written into each (see :class:`Descriptor`).

        :raises MemoryFault: if any of them cannot be read
        :raises AddressOverflowError: if the table leaves the address space
        """
        return tuple(
            Descriptor(index, *raw, table) for index, raw in enumerate(self._read(0, self.count))
        )

    def _read_block(self, first: int) -> list[RawDescriptor]:
        """Read a block, or return an empty one if a part of it cannot be read."""
        try:
            return self._read(first, min(BLOCK, self.count - first))
        except (MemoryFault, AddressOverflowError):
            return []

    def _read(self, first: int, count: int) -> list[RawDescriptor]:
        address = cast("A", self.address + first * DESC_SIZE)
        return list(self._format.iter_unpack(self.space.read(address, count * DESC_SIZE)))
