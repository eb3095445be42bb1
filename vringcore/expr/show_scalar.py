"""Numbers, enumerators and truth values as gdb writes them, and its letters of format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import UsageError
from vringcore.expr import show_float
from vringcore.expr.show_text import Kind, Limits, character
from vringcore.layout.types import Base, Enum, Pointer

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.layout.types import Type

FORMATS = {
    "x": "hexadecimal",
    "d": "signed decimal",
    "u": "unsigned decimal",
    "c": "character",
    "s": "string",
    "o": "octal",
    "t": "binary",
    "z": "hexadecimal with leading zeros",
    "a": "address and symbol",
    "f": "floating point",
}
"""gdb's letters behind ``print /``."""

_BYTE = Kind(1)
_WIDEST = 8


def check_format(letter: str) -> str:
    """Return a letter of format, or "" for the value's own.

    :raises UsageError: if gdb has no such letter, or it is not one of ``print``
    """
    if letter and letter not in FORMATS:
        raise UsageError(
            "no such format", seen=f"/{letter}", expected=", ".join(f"/{name}" for name in FORMATS)
        )
    return letter


def is_signed(type_: Type) -> bool:
    """Tell whether a resolved type's values can be negative."""
    if isinstance(type_, Enum):
        return type_.signed
    return isinstance(type_, Base) and type_.encoding in ("signed", "signed-char", "char", "float")


def enumerator(enum: Enum, number: int) -> str:
    """Return an enumeration's value: a name, ``(A | B)`` for one of flags, else the number."""
    for name, value in enum.enumerators.items():
        if value == number:
            return name
    values = enum.enumerators.values()
    if any(value < 0 or value & (value - 1) for value in values):
        return str(number)
    rest = number
    found = []
    for name, value in enum.enumerators.items():
        if rest & value:
            rest &= ~value
            found.append(name)
    if rest:
        found.append(f"unknown: {rest & ((1 << 64) - 1):#x}")
    return f"({' | '.join(found)})" if found else "0"


def truth(number: int) -> str:
    """Return a ``_Bool``; a value other than 0 and 1 is damage, and shown as it is."""
    return {0: "false", 1: "true"}.get(number, str(number))


class Scalars:
    """Writes the scalars of one machine.

    :param order: ``little`` or ``big``
    :param machine: tells the format of ``long double``
    :param symbolic: gives `` <name+offset>`` for an address, "" where none is known
    """

    def __init__(
        self, order: str, machine: str, limits: Limits, symbolic: Callable[[int], str]
    ) -> None:
        self._order = order
        self._machine = machine
        self._limits = limits
        self._symbolic = symbolic

    def natural(self, type_: Base | Enum, raw: int, kind: Kind | None) -> str:
        """Return a scalar without any format.

        :param raw: its bits as an unsigned number
        :param kind: what character it is, None if none
        """
        if isinstance(type_, Enum):
            return enumerator(type_, _number(type_, raw))
        if type_.encoding == "complex":
            return self._complex(type_, raw)
        if type_.encoding == "float":
            return self._float(type_.name, raw, type_.size)
        number = _number(type_, raw)
        if type_.encoding == "bool":
            return truth(number)
        if kind is None:
            return str(number)
        return f"{number} {character(number, kind, self._order, self._limits)}"

    def formatted(self, type_: Type, raw: int, size: int, letter: str) -> str:
        """Return a scalar as ``print /LETTER`` does; ``raw`` holds its bits.

        :raises UsageError: if the format cannot be applied to the type
        """
        if letter == "x":
            return f"{raw:#x}"
        if letter == "z":
            return f"0x{raw:0{2 * size}x}"
        if letter == "o":
            return f"0{raw:o}" if raw else "0"
        if letter == "t":
            return f"{raw:b}"
        if letter == "u":
            return str(raw)
        if letter == "d":
            return str(_extended(raw, 8 * size))
        if letter == "f":
            return self._as_float(type_, raw, size)
        number = self._integer(type_, raw)
        if letter == "a":
            address = number & ((1 << 64) - 1)
            return f"{address:#x}{self._symbolic(address)}"
        low = number & 0xFF
        shown = _extended(low, 8) if is_signed(type_) else low
        return f"{shown} {character(low, _BYTE, self._order, self._limits)}"

    def _integer(self, type_: Type, raw: int) -> int:
        """Return a scalar as C converts it to an integer."""
        if isinstance(type_, Base):
            if type_.encoding == "complex" or (type_.size > _WIDEST and type_.encoding != "float"):
                raise UsageError(
                    "this format takes no integer of more than 8 bytes", seen=type_.name
                )
            if type_.encoding == "float":
                form = show_float.format_of(type_.name, type_.size, self._machine)
                return 0 if form is None else show_float.truncated(self._ordered(raw, form), form)
        return _number(type_, raw)

    def _as_float(self, type_: Type, raw: int, size: int) -> str:
        name = type_.name if isinstance(type_, Base) and type_.encoding == "float" else ""
        if size in (4, 8, 16) or name:
            return self._float(name, raw, size)
        return str(_number(type_, raw))

    def _float(self, name: str, raw: int, size: int) -> str:
        form = show_float.format_of(name, size, self._machine)
        return f"{raw:#x}" if form is None else show_float.written(self._ordered(raw, form), form)

    def _ordered(self, raw: int, form: show_float.Format) -> int:
        """Return a pair's bits with its first number above the other."""
        if not form.pair or self._order == "big":
            return raw
        return (raw & ((1 << 64) - 1)) << 64 | raw >> 64

    def _complex(self, type_: Base, raw: int) -> str:
        half = type_.size // 2
        low, high = raw & ((1 << 8 * half) - 1), raw >> 8 * half
        real, imaginary = (low, high) if self._order == "little" else (high, low)
        parts = (self._float(type_.name, part, half) for part in (real, imaginary))
        return " + ".join(parts) + "i"


def _number(type_: Type, raw: int) -> int:
    if isinstance(type_, Base | Enum | Pointer) and is_signed(type_):
        return _extended(raw, 8 * type_.size)
    return raw


def _extended(raw: int, bits: int) -> int:
    return raw - (1 << bits) if bits and raw >> (bits - 1) else raw


def bit_field(word: bytes, bits: tuple[int, int], order: str, *, signed: bool, size: int) -> int:
    """Return a bit-field's value as the bits of a whole object of its type.

    :param word: the bytes that hold it
    :param bits: its size, and the offset of its first bit as the layout counts it
    :param size: bytes of its type
    """
    width, first = bits
    shift = first if order == "little" else 8 * len(word) - first - width
    value = int.from_bytes(word, order) >> shift & ((1 << width) - 1)  # type: ignore[arg-type]
    if signed:
        value = _extended(value, width)
    return value & ((1 << 8 * size) - 1)
