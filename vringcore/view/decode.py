"""From the bytes of a C object to plain Python values, as ``fields`` shows them.

A type is compiled once per build into nested closures, which then decode any number of objects.
The rules are those of the JSON contract: integers are numbers, addresses and ``hwaddr`` are
:class:`~vringcore.model.values.Address`, enumerators carry their name, pointers their symbol, char
arrays are text, and every member of a union is shown.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Literal

from vringcore.errors import CorruptDataError
from vringcore.layout.access import is_float, is_signed
from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Named,
    Pointer,
    Qualified,
    Record,
    Type,
    Typedef,
)
from vringcore.model.values import Absent, Address, EnumValue, Wide
from vringcore.model.values import Pointer as PointerValue

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from vringcore.layout.provider import Layouts

    class Surroundings(Protocol):
        """What decoding needs beside the bytes."""

        def pointer_value(self, address: int) -> PointerValue:
            """Return a pointer with its symbol, if its address lies inside one."""
            ...

        def absence(self, offset: int, size: int) -> Absent | None:
            """Tell why the bytes at ``offset`` are missing; None if they are there."""
            ...

    Decode = Callable[[bytes, int, Surroundings], Any]

ADDRESS_TYPEDEFS = frozenset({"hwaddr", "ram_addr_t", "dma_addr_t"})
"""QEMU's integer types that hold addresses (include/exec/hwaddr.h, cpu-common.h)."""

FEATURE_WORDS = frozenset({"guest_features", "host_features", "backend_features"})
"""VirtIODevice's feature words; ``X_ex`` are their 128-bit forms (include/hw/virtio/virtio.h)."""

MAX_DEPTH = 64
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
"""What :mod:`struct` calls signed integers, by their size."""

MAX_OBJECT_SIZE = 1 << 24


class Decoders:
    """The compiled decoders of one build.

    :param checked: ask for every scalar whether its bytes are there; slower, for objects that
        cannot be read whole
    """

    def __init__(self, layouts: Layouts, *, checked: bool = False) -> None:
        self._layouts = layouts
        self._checked = checked
        self._order: Literal["big", "little"] = "big" if layouts.big_endian else "little"
        self._prefix = ">" if layouts.big_endian else "<"
        self._named: dict[str, Decode] = {}

    def of(self, type_: Type, *, hexadecimal: bool = False, depth: int = 0) -> Decode:
        """Return the decoder of a type.

        :raises LayoutMissingError: if a struct in it is not known
        :raises CorruptDataError: if types are nested beyond reason
        """
        if depth > MAX_DEPTH:
            raise CorruptDataError(
                "a type nested too deeply", expected=f"at most {MAX_DEPTH} levels"
            )
        match type_:
            case Qualified(of=inner):
                return self.of(inner, hexadecimal=hexadecimal, depth=depth + 1)
            case Named(kind="typedef", name=name):
                definition = self._layouts.definition(type_.key)
                inner = definition.type if isinstance(definition, Typedef) else definition
                return self.of(
                    inner, hexadecimal=hexadecimal or name in ADDRESS_TYPEDEFS, depth=depth + 1
                )
            case Named():
                known = self._named.get(type_.key)
                if known is None:
                    definition = self._layouts.definition(type_.key)
                    inner = definition.type if isinstance(definition, Typedef) else definition
                    known = self._named[type_.key] = self.of(inner, depth=depth + 1)
                return known
            case Record() | Enum():
                return self._definition(type_, depth)
            case Pointer(size=size):
                return self._leaf(self._pointer(size), size)
            case Array(of=element, count=count):
                return self._array(element, count or 0, hexadecimal, depth)
            case Base():
                return self._leaf(self._base(type_, hexadecimal), type_.size)
            case _:
                return lambda _data, _offset, _around: None

    def _definition(self, definition: Record | Enum, depth: int) -> Decode:
        if isinstance(definition, Enum):
            return self._leaf(self._enum(definition), definition.size)
        return self._record(definition, depth)

    def _leaf(self, decode: Decode, size: int) -> Decode:
        if not self._checked:
            return decode

        def checked(data: bytes, offset: int, around: Surroundings) -> Any:
            absent = around.absence(offset, size)
            return decode(data, offset, around) if absent is None else absent

        return checked

    def _record(self, record: Record, depth: int) -> Decode:
        named: list[tuple[str, int, Decode]] = []
        unnamed: list[tuple[int, Decode]] = []
        for member in record.members:
            if member.bit_size is not None:
                decode = self._bit_field(member.type, member.bit_size, member.bit_offset)
            else:
                word = (member.name or "").removesuffix("_ex") in FEATURE_WORDS
                decode = self.of(member.type, hexadecimal=word, depth=depth + 1)
            if member.name is None:
                unnamed.append((member.offset, decode))
            else:
                named.append((member.name, member.offset, decode))
        if not unnamed:

            def plain(data: bytes, offset: int, around: Surroundings) -> Any:
                return {name: decode(data, offset + at, around) for name, at, decode in named}

            return plain

        def flattened(data: bytes, offset: int, around: Surroundings) -> Any:
            # Members of an unnamed struct or union belong to the parent (C11 6.7.2.1).
            fields = {}
            for at, decode in unnamed:
                inner = decode(data, offset + at, around)
                if isinstance(inner, dict):
                    fields.update(inner)
            for name, at, decode in named:
                fields[name] = decode(data, offset + at, around)
            return fields

        return flattened

    def _array(self, element: Type, count: int, hexadecimal: bool, depth: int) -> Decode:
        size = self._layouts.size_of(element)
        if count * size > MAX_OBJECT_SIZE:
            raise CorruptDataError(
                "an array too large to show", seen=f"{count} elements of {size} bytes"
            )
        resolved = self._layouts.resolve(element)
        # Plain char is unsigned on some machines (arm64); it holds text there all the same.
        if isinstance(resolved, Base) and "char" in (resolved.encoding, resolved.name):
            return self._leaf(lambda data, at, _around: text(data[at : at + count]), count)
        decode = self.of(element, hexadecimal=hexadecimal, depth=depth + 1)
        steps = range(0, count * size, size) if size else range(0)

        def array(data: bytes, offset: int, around: Surroundings) -> Any:
            return [decode(data, offset + step, around) for step in steps]

        return array

    def _pointer(self, size: int) -> Decode:
        unpack = struct.Struct(self._prefix + ("Q" if size == 8 else "I")).unpack_from

        def pointer(data: bytes, offset: int, around: Surroundings) -> Any:
            return around.pointer_value(unpack(data, offset)[0])

        return pointer

    def _base(self, base: Base, hexadecimal: bool) -> Decode:
        if is_float(base):
            return self._float(base)
        signed = is_signed(base)
        unpack = self._integer(base.size, signed)
        if base.encoding == "bool":
            return lambda data, at, _around: _truth(unpack(data, at))
        if hexadecimal:
            mask = (1 << (8 * base.size)) - 1
            return lambda data, at, _around: Address(unpack(data, at) & mask)
        if base.size > 8:
            return lambda data, at, _around: Wide(unpack(data, at))
        if base.size in _CODES:
            # Most members are such: one call less for each.
            raw = self._scalar(base.size, signed).unpack_from
            return lambda data, at, _around: raw(data, at)[0]
        return lambda data, at, _around: unpack(data, at)

    def _scalar(self, size: int, signed: bool) -> struct.Struct:
        code = _CODES[size]
        return struct.Struct(self._prefix + (code if signed else code.upper()))

    def _integer(self, size: int, signed: bool) -> Callable[[bytes, int], int]:
        if size not in _CODES:
            order = self._order

            def wide(data: bytes, at: int) -> int:
                return int.from_bytes(data[at : at + size], order, signed=signed)

            return wide
        unpack = self._scalar(size, signed).unpack_from

        def integer(data: bytes, at: int) -> int:
            value: int = unpack(data, at)[0]
            return value

        return integer

    def _float(self, base: Base) -> Decode:
        code = {2: "e", 4: "f", 8: "d"}.get(base.size)
        if code is None or base.encoding == "complex":
            # An x87 or quad float: shown as its bytes, since Python has no type that holds it.
            return lambda data, at, _around: data[at : at + base.size].hex()
        unpack = struct.Struct(self._prefix + code).unpack_from
        return lambda data, at, _around: unpack(data, at)[0]

    def _enum(self, enum: Enum) -> Decode:
        unpack = self._integer(enum.size, enum.signed)
        names: dict[int, str] = {}
        for name, value in enum.enumerators.items():
            names.setdefault(value, name)

        def enumerator(data: bytes, offset: int, _around: Surroundings) -> Any:
            value = unpack(data, offset)
            return EnumValue(value, names.get(value))

        return enumerator

    def _bit_field(self, type_: Type, bits: int, bit_offset: int) -> Decode:
        resolved = self._layouts.resolve(type_)
        signed = is_signed(resolved)
        boolean = isinstance(resolved, Base) and resolved.encoding == "bool"
        size = (bit_offset + bits + 7) // 8
        order = self._order
        shift = bit_offset if order == "little" else 8 * size - bit_offset - bits
        mask = (1 << bits) - 1

        def field(data: bytes, offset: int, _around: Surroundings) -> Any:
            word = int.from_bytes(data[offset : offset + size], order)
            value = (word >> shift) & mask
            if signed and value >> (bits - 1):
                value -= 1 << bits
            return bool(value) if boolean else value

        return self._leaf(field, size)


def _truth(value: int) -> bool | int:
    # A byte other than 0 and 1 in a bool is damage worth seeing, so it is not folded to True.
    return bool(value) if value in (0, 1) else value


def text(data: bytes) -> str:
    """Return a char array as text: without its trailing NULs, invalid bytes as ``\\xNN``."""
    shown = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else _bytes_of(c) for c in shown)


def _bytes_of(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())
