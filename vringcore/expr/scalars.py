"""Numbers of C: from bytes and to bytes, and the types that computing gives them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError
from vringcore.expr.cvalue import CValue
from vringcore.layout.types import Base, Enum, Named, Pointer, Qualified, Type, Typedef

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.view.views import Views

_SIGNED = ("signed", "signed-char", "char")
_FLOATS = {2: "e", 4: "f", 8: "d"}

_X87_SIZES = (10, 12, 16)
"""Bytes that the 80-bit format takes with its padding (System V ABI, i386 and x86-64)."""


def base(layouts: Layouts, name: str) -> Base:
    """Return one of C's own types as Linux has it on the target; ``name`` as in gdb's ``ptype``."""
    word = layouts.pointer_size
    if name.endswith(("float", "double")):
        size = {"float": 4, "double": 8, "long double": 16 if word == 8 else 12}
        if name.startswith("complex "):
            return Base(name, 2 * size[name.removeprefix("complex ")], "complex")
        return Base(name, size[name], "float")
    if name == "_Bool":
        return Base(name, 1, "bool")
    if name == "char":
        return Base(name, 1, "char")
    kind = name.removeprefix("unsigned ").removeprefix("signed ")
    sizes = {"char": 1, "short": 2, "int": 4, "long": word, "long long": 8, "__int128": 16}
    if kind == "char":
        return Base(name, 1, "unsigned-char" if name.startswith("unsigned") else "signed-char")
    return Base(name, sizes[kind], "unsigned" if name.startswith("unsigned") else "signed")


def below_typedefs(layouts: Layouts, type_: Type) -> Type:
    """Return what a type is below its typedefs, its qualifiers kept; tags stay names.

    :raises LayoutMissingError: if a typedef is not known
    """
    layouts.resolve(type_)  # Refuses typedefs that lead back to themselves.
    if isinstance(type_, Qualified):
        return Qualified(type_.qualifier, below_typedefs(layouts, type_.of))
    if isinstance(type_, Named) and type_.kind == "typedef":
        definition = layouts.definition(type_.key)
        assert isinstance(definition, Typedef)
        return below_typedefs(layouts, definition.type)
    return type_


def is_float(type_: Type) -> bool:
    """Tell whether a resolved type is a real floating one."""
    return isinstance(type_, Base) and type_.encoding == "float"


def is_integral(type_: Type) -> bool:
    """Tell whether a resolved type is an integer, bool, character or enumeration."""
    if isinstance(type_, Base):
        return type_.encoding not in ("float", "complex")
    return isinstance(type_, Enum)


def is_signed(type_: Type) -> bool:
    """Tell whether a resolved integral type has negative numbers."""
    if isinstance(type_, Enum):
        return type_.signed
    return isinstance(type_, Base) and type_.encoding in _SIGNED


def integer_of(value: CValue) -> int:
    """Return the number that an integer, enumerator, bool, bit-field or pointer is.

    :raises MemoryFault: if its bytes are not in the core
    """
    type_ = value.views.layouts.resolve(value.type)
    data = value.data()
    big = value.views.layouts.big_endian
    number = int.from_bytes(data, "big" if big else "little")
    width = 8 * len(data)
    if value.bits is not None:
        size, offset = value.bits
        number >>= width - offset - size if big else offset
        number &= (1 << size) - 1
        width = size
    if is_signed(type_) and width and number >> (width - 1):
        number -= 1 << width
    return number


def float_of(value: CValue) -> float:
    """Return the number that a floating object is; of a ``long double`` the nearest ``double``.

    :raises ExpressionError: for a format that is not known here
    """
    data = value.data()
    order = value.views.layouts.byteorder
    code = _FLOATS.get(len(data))
    if code is not None:
        return struct.unpack(order + code, data)[0]  # type: ignore[no-any-return]
    if len(data) in _X87_SIZES and order == "<":
        return _x87(data)
    raise ExpressionError("a floating number of an unknown format", seen=f"{len(data)} bytes")


def _x87(data: bytes) -> float:
    mantissa = int.from_bytes(data[:8], "little")
    word = int.from_bytes(data[8:10], "little")
    sign = -1.0 if word >> 15 else 1.0
    exponent = word & 0x7FFF
    if exponent == 0x7FFF:
        # The highest bit of the mantissa is its whole part and says nothing here.
        return sign * float("inf") if mantissa % (1 << 63) == 0 else float("nan")
    power = max(exponent, 1) - 16383 - 63
    if power >= 0:
        try:
            return sign * float(mantissa << power)
        except OverflowError:
            return sign * float("inf")
    return sign * (mantissa / (1 << -power))


def nearest_float(number: float, size: int) -> float:
    """Return a number as a floating type of ``size`` bytes has it; floats are left alone."""
    if not isinstance(number, int):
        return number
    excess = number.bit_length() - 53
    if size < 8 and excess > 0:
        # Rounding twice, to 53 bits and then to fewer, can go wrong; rounding to odd first cannot.
        odd = abs(number) >> excess | (abs(number) & ((1 << excess) - 1) != 0)
        number = (odd << excess) * (-1 if number < 0 else 1)
    if size < 4 or size > 8:
        return float(number)
    return struct.unpack(_FLOATS[size], struct.pack(_FLOATS[size], float(number)))[0]  # type: ignore[no-any-return]


def make_integer(views: Views, type_: Type, number: int) -> CValue:
    """Return a number as a value of an integral or pointer type, cut to its size as C does."""
    layouts = views.layouts
    size = layouts.size_of(type_)
    resolved = layouts.resolve(type_)
    if isinstance(resolved, Base) and resolved.encoding == "bool":
        number = int(number != 0)
    cut = number & ((1 << (8 * size)) - 1)
    data = cut.to_bytes(size, "big" if layouts.big_endian else "little")
    return CValue(views, type_, data=data)


def make_float(views: Views, type_: Type, number: float) -> CValue:
    """Return a number as a value of a floating type.

    :raises ExpressionError: for ``long double``, which cannot be computed with exactly here
    """
    size = views.layouts.size_of(type_)
    code = _FLOATS.get(size)
    if code is None:
        raise ExpressionError(
            "a long double cannot be computed", hint="cast it to double, which is less exact"
        )
    number = nearest_float(number, size)
    try:
        data = struct.pack(views.layouts.byteorder + code, number)
    except OverflowError:
        data = struct.pack(views.layouts.byteorder + code, number * float("inf"))
    return CValue(views, type_, data=data)


def number_of(value: CValue) -> int | float:
    """Return the number that an arithmetic value is."""
    if is_float(value.views.layouts.resolve(value.type)):
        return float_of(value)
    return integer_of(value)


def address_in(value: CValue) -> int:
    """Return the address that a pointer holds, or that an integer is when used as one."""
    type_ = value.views.layouts.resolve(value.type)
    size = type_.size if isinstance(type_, Pointer) else value.views.layouts.pointer_size
    return integer_of(value) & ((1 << (8 * size)) - 1)
