"""Characters and strings as gdb writes them: quoted, escaped, runs as ``'x' <repeats N times>``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}

_UTF8_SIZE = {0xC: 2, 0xD: 2, 0xE: 3, 0xF: 4}
"""Bytes of a character, by the upper four bits of the first."""


class Kind(msgspec.Struct, frozen=True):
    """What a character type is: bytes each, and the letter before the quote."""

    width: int
    prefix: str = ""


class _Unit(msgspec.Struct, frozen=True):
    """One character; ``text`` is None for bytes that are none, ``cut`` for one that ends early."""

    raw: bytes
    text: str | None
    cut: bool = False


class Limits(msgspec.Struct, frozen=True):
    """gdb's ``print elements`` and ``print repeats``, and whether text beyond ASCII is shown."""

    elements: int = 200
    repeats: int = 10
    utf8: bool = True


def character(number: int, kind: Kind, order: str, limits: Limits) -> str:
    """Return a character in single quotes: ``'A'``, ``'\\000'``, ``L'x'``."""
    raw = (number & (1 << 8 * kind.width) - 1).to_bytes(kind.width, order)  # type: ignore[arg-type]
    units = _units(raw, kind.width, order, limits.utf8)
    text = "".join(_escaped(unit, "'", kind.width, order) for unit in units)
    return f"{kind.prefix}'{text}'"


def string(data: bytes, kind: Kind, order: str, limits: Limits, *, cut: bool = False) -> str:
    """Return an array of characters in double quotes.

    A single last NUL is left out, as C leaves it out of a string's length; others are shown.

    :param cut: the text goes on where ``data`` ends: say so, and leave nothing out
    """
    width = kind.width
    if not cut and data and not any(data[-width:]):
        data = data[:-width]
    if not data:
        return kind.prefix + '""'
    pieces: list[str] = []
    plain: list[str] = []
    shown = 0
    finished = True
    for unit, run in groupby(_units(data, width, order, limits.utf8)):
        if shown >= limits.elements:
            finished = False
            break
        count = sum(1 for _ in run)
        shown += count
        if unit.cut or count > limits.repeats:
            if plain:
                pieces.append(f'"{"".join(plain)}"')
                plain = []
            text = _escaped(unit, '"', width, order)
            pieces.append(
                f"<incomplete sequence {text}>" if unit.cut else f"'{text}' <repeats {count} times>"
            )
        else:
            plain.append(_escaped(unit, '"', width, order) * count)
    if plain:
        pieces.append(f'"{"".join(plain)}"')
    return kind.prefix + ", ".join(pieces) + ("" if finished and not cut else "...")


def _units(data: bytes, width: int, order: str, utf8: bool) -> Iterator[_Unit]:
    if width > 1:
        yield from _wide_units(data, width, order)
        return
    at, end = 0, len(data)
    while at < end:
        first = data[at]
        size = 1
        if first < 0x80:
            yield _ASCII[first]
        elif not utf8:
            yield _Unit(data[at : at + 1], None)
        else:
            size = _UTF8_SIZE.get(first >> 4, 1)
            unit = _utf8_unit(data[at : at + size], size)
            size = len(unit.raw)
            yield unit
        at += size


def _utf8_unit(raw: bytes, size: int) -> _Unit:
    """Return the character that the bytes are; the first alone if they are none."""
    try:
        return _Unit(raw, raw.decode())
    except UnicodeDecodeError as error:
        if len(raw) < size and error.end == len(raw) and error.reason == "unexpected end of data":
            return _Unit(raw, None, cut=True)
        return _Unit(raw[:1], None)


def _wide_units(data: bytes, width: int, order: str) -> Iterator[_Unit]:
    codec = f"utf-{8 * width}-{'le' if order == 'little' else 'be'}"
    at = 0
    while at < len(data):
        size = width
        if width == 2 and 0xD8 <= data[at + (order == "little")] < 0xDC:
            size = 4
        raw = data[at : at + size]
        try:
            unit = _Unit(raw, raw.decode(codec))
        except UnicodeDecodeError:
            unit = _Unit(raw[:width], None)
        yield unit
        at += len(unit.raw)


def _escaped(unit: _Unit, quote: str, width: int, order: str) -> str:
    text = unit.text
    if text is not None:
        # Format characters (category Cf) are escaped although C calls them printable: text out of
        # a core must not turn the direction of what a terminal shows.
        code = ord(text)
        if code in _ESCAPES:
            return _ESCAPES[code]
        if text.isprintable():
            return "\\" + text if text in (quote, "\\") else text
    numbers = (
        int.from_bytes(unit.raw[at : at + width], order)  # type: ignore[arg-type]
        for at in range(0, len(unit.raw), width)
    )
    return "".join(f"\\{n:03o}" if n <= 0o777 else f"\\x{n:x}" for n in numbers)


_ASCII = [_Unit(bytes((code,)), chr(code)) for code in range(128)]
