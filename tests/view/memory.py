"""A small process memory and layouts built by hand, for the views to look at."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from vringcore.addresses import HostAddress, end_of
from vringcore.layout.bundle import Bundle, Typed, key_of, put_type
from vringcore.layout.provider import Layouts
from vringcore.layout.types import Definition, Variable
from vringcore.memory.gaps import Gap, GapKind
from vringcore.memory.space import AddressSpace, Piece, Range
from vringcore.view.views import Views


class Memory(AddressSpace[HostAddress]):
    """Bytes by address; what was not put there was not dumped."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}

    def put(self, address: int, data: bytes) -> None:
        """Lay bytes at an address."""
        for offset, byte in enumerate(data):
            self.bytes[address + offset] = byte

    def take(self, address: int, size: int) -> None:
        """Make a hole."""
        for place in range(address, address + size):
            self.bytes.pop(place, None)

    def pieces(self, address: HostAddress, size: int) -> Iterator[Piece]:
        """Yield single bytes, and single-byte holes."""
        for place in range(address, end_of(address, size)):
            byte = self.bytes.get(place)
            if byte is None:
                yield Piece(place, 1, None, Gap(GapKind.NOT_DUMPED, place, 1, "dump it"))
            else:
                yield Piece(place, 1, bytes([byte]), None)

    def ranges(self) -> Sequence[Range]:
        """Return every byte as a range of its own."""
        return [Range(place, 1, 1) for place in sorted(self.bytes)]


class Names:
    """Symbols by address range."""

    def __init__(self, known: dict[int, tuple[str, int]] | None = None) -> None:
        self.known = known or {}

    def lookup(self, address: int) -> tuple[str, int] | None:
        """Return the symbol that covers an address."""
        for start, (name, size) in self.known.items():
            if start <= address < start + size:
                return name, address - start
        return None


def layouts_of(definitions: Iterable[Definition], *, big_endian: bool = False) -> Layouts:
    """Return layouts that know these definitions and a variable `head` at 0x100."""
    bundle = Bundle(build_id="ab" * 20, big_endian=big_endian)
    for definition in definitions:
        put_type(bundle, key_of(definition), Typed(definition))
    bundle.variables["head"] = Variable("head", 0x100)
    return Layouts(bundle)


def views_of(
    memory: Memory,
    definitions: Iterable[Definition],
    *,
    names: Names | None = None,
    bias: int = 0,
    big_endian: bool = False,
) -> Views:
    """Return views over a memory."""
    return Views(memory, layouts_of(definitions, big_endian=big_endian), bias, names or Names())


def word(value: int) -> bytes:
    """Return a little-endian 64-bit word."""
    return struct.pack("<Q", value)
