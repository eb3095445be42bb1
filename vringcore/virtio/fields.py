"""Headers of requests: tables of their fields, and reading them from a request's buffers.

A header is read field by field and no further than its own bytes, so what lies behind it (a packet,
a file's name, a key) is never touched. A request that ends in the midst of its header gives the
fields that are whole, and ``short``.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vringcore.memory.space import AddressSpace

    Names = Mapping[int, str]


class Code(msgspec.Struct, frozen=True):
    """A number with the name that the specification gives it, None where it gives none."""

    value: int
    name: str | None


class GuestPointer(int):
    """An address of the guest's, in a header."""

    __slots__ = ()


class Header(msgspec.Struct, frozen=True):
    """What the header of a request says.

    :param operation: what is asked, in words: ``read(10)``, ``resource-flush``; ``type N`` where
        the specification has no name
    :param fields: the header's members under the names of the specification; int, str (hex digits
        of byte arrays), :class:`Code`, :class:`GuestPointer`, tuples and dicts of these
    :param size: bytes of the header, in what the device may read; behind them lies data
    :param short: the request ends before its header does
    :param answer: bytes at the start of what the device writes that are its answer and no data
    :param subject: the operation's objects in a few words, for people: ``lun 0:1 lba 2048``
    """

    operation: str
    fields: dict[str, Any]
    size: int
    short: bool = False
    subject: str = ""
    answer: int = 0


class Table:
    """The fields of a structure in their order: ``"type:I ioprio:I sector:Q"``.

    Codes are those of :mod:`struct`, ``A`` for a guest's address of 64 bits, and ``Ns`` for N bytes
    that are shown as hex digits. Fields named ``_`` are padding.

    :param names: by field, what its values are called
    """

    def __init__(self, fields: str, **names: Names) -> None:
        self.fields = [tuple(field.split(":")) for field in fields.split()]
        self.names = names
        codes = [code.replace("A", "Q") for _, code in self.fields]
        self._little = [Struct("<" + code) for code in codes]
        self._big = [Struct(">" + code) for code in codes]
        self.size = sum(each.size for each in self._little)

    def decode(self, data: bytes, *, big_endian: bool = False) -> dict[str, Any]:
        """Return the fields that are whole in ``data``."""
        found: dict[str, Any] = {}
        at = 0
        for (name, code), layout in zip(
            self.fields, self._big if big_endian else self._little, strict=True
        ):
            if at + layout.size > len(data):
                break
            if name != "_":
                found[name] = self._value(name, code, layout.unpack_from(data, at)[0])
            at += layout.size
        return found

    def _value(self, name: str, code: str, value: Any) -> Any:
        if code == "A":
            return GuestPointer(value)
        if isinstance(value, bytes):
            return value.hex()
        names = self.names.get(name)
        return value if names is None else Code(value, names.get(value))


class Request:
    """A request's buffers, and how far its header has been read.

    :param space: where the buffers lie
    :param readable: address and length of those that the device may read
    :param writable: bytes that the device may write
    :param role: what the queue is for (:func:`vringcore.virtio.roles.queue_role`)
    :param features: the negotiated feature word
    :param big_endian: numbers are written so, by a legacy driver of a big-endian guest
    """

    def __init__(
        self,
        space: AddressSpace[Any],
        readable: Sequence[tuple[int, int]],
        writable: int,
        *,
        role: str,
        features: int = 0,
        big_endian: bool = False,
    ) -> None:
        self._space = space
        self._buffers = readable
        self.readable = sum(length for _, length in readable)
        self.writable = writable
        self.role = role
        self.features = features
        self.big_endian = big_endian
        self.size = 0
        self.short = False

    @property
    def rest(self) -> int:
        """How many bytes lie behind what has been read of the header."""
        return self.readable - self.size

    def has(self, bit: int) -> bool:
        """Tell whether a feature was negotiated."""
        return bool(self.features >> bit & 1)

    def take(self, table: Table, *, little: bool = False) -> dict[str, Any]:
        """Read a structure: the header's next fields.

        :param little: they are little-endian whoever the guest is
        :raises MemoryFault: if a byte of it is not there
        :raises AddressOverflowError: if a buffer leaves the address space
        """
        data = self.bytes(table.size)
        return table.decode(data, big_endian=self.big_endian and not little)

    def take_all(self, table: Table, limit: int) -> tuple[dict[str, Any], ...]:
        """Read an array of structures to the end of the request, no more than ``limit`` of them."""
        return tuple(self.take(table) for _ in range(min(self.rest // table.size, limit)))

    def bytes(self, size: int) -> bytes:
        """Read the header's next bytes; fewer, and ``short``, if the request ends there."""
        found = b""
        skip = self.size
        for address, length in self._buffers:
            if skip >= length:
                skip -= length
                continue
            step = min(length - skip, size - len(found))
            found += self._space.read(address + skip, step)
            skip = 0
            if len(found) == size:
                break
        self.size += len(found)
        self.short |= len(found) < size
        return found

    def header(
        self, operation: str, fields: dict[str, Any], subject: str = "", *, answer: int = 0
    ) -> Header:
        """Return what was read."""
        return Header(operation, fields, self.size, self.short, subject, answer)


if TYPE_CHECKING:
    Decoder = Callable[[Request], Header]


def named(value: Any, what: str = "type") -> str:
    """Return the name of a :class:`Code`, ``type N`` without; ``unknown`` if it was not read."""
    if not isinstance(value, Code):
        return "unknown" if value is None else f"{what} {value}"
    return value.name or f"{what} {value.value:#x}"


def words(fields: Mapping[str, Any], *names: str) -> str:
    """Return some fields in words: ``resource_id 3 offset 0x1000``; those not there left out."""
    return " ".join(f"{name} {_word(fields[name])}" for name in names if name in fields)


def _word(value: Any) -> str:
    if isinstance(value, Code):
        return value.name or str(value.value)
    return f"{value:#x}" if isinstance(value, GuestPointer) else str(value)
