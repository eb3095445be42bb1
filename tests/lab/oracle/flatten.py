"""Turns one gdb value into a flat table of its scalars, as gdb's DWARF reader sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gdb

_SCALARS = (
    gdb.TYPE_CODE_INT,
    gdb.TYPE_CODE_BOOL,
    gdb.TYPE_CODE_ENUM,
    gdb.TYPE_CODE_CHAR,
    gdb.TYPE_CODE_PTR,
)
_SYMBOL = re.compile(r"<([^>]+)>")


def flatten(value: gdb.Value) -> dict[str, Any]:
    """``{"fields": {path: number or hex}, "symbols": {path: "name+offset"}}`` of a structure.

    Paths are C's: ``vring.num``, ``array[2]``; members of unnamed members belong to the structure
    around them. Arrays of char become the hex of their bytes; everything else its integer value.
    """
    fields: dict[str, Any] = {}
    symbols: dict[str, str] = {}
    for path, leaf in _leaves("", value):
        kind = leaf.type.strip_typedefs()
        if kind.code == gdb.TYPE_CODE_ARRAY:
            fields[path] = raw_bytes(leaf).hex()
            continue
        fields[path] = integer(leaf)
        if kind.code == gdb.TYPE_CODE_PTR and fields[path]:
            name = symbol(leaf)
            if name is not None:
                symbols[path] = name
    return {"fields": fields, "symbols": symbols}


def integer(value: gdb.Value) -> int:
    """The value of an integer of any size, bool, enumerator or pointer."""
    kind = value.type.strip_typedefs()
    if kind.code == gdb.TYPE_CODE_INT and kind.sizeof > 8:
        return int.from_bytes(raw_bytes(value), "little", signed=kind.is_signed)
    return int(value)


def symbol(pointer: gdb.Value) -> str | None:
    """What gdb prints between the angle brackets behind a pointer's value."""
    plain = pointer.cast(gdb.lookup_type("void").pointer())
    found = _SYMBOL.search(plain.format_string(symbols=True))
    return None if found is None else found[1]


def raw_bytes(value: gdb.Value) -> bytes:
    """The bytes of a value that lies in memory."""
    return read(int(value.address), value.type.sizeof)


def read(address: int, size: int) -> bytes:
    """Memory of the core, or of the executable where the core lacks it."""
    if size == 0:
        return b""
    return bytes(gdb.selected_inferior().read_memory(address, size))


def string(pointer: gdb.Value) -> str | None:
    """A C string; None for a null pointer or memory that is nowhere."""
    if int(pointer) == 0:
        return None
    try:
        return str(pointer.string())
    except gdb.error:
        return None


def _leaves(path: str, value: gdb.Value) -> Iterator[tuple[str, gdb.Value]]:
    kind = value.type.strip_typedefs()
    if kind.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        for field in kind.fields():
            yield from _leaves(_member_path(path, field.name), value[field])
    elif kind.code == gdb.TYPE_CODE_ARRAY and not _is_text(kind):
        low, high = kind.range()
        for index in range(low, high + 1):
            yield from _leaves(f"{path}[{index}]", value[index])
    elif kind.code in _SCALARS or kind.code == gdb.TYPE_CODE_ARRAY:
        yield path, value


def _member_path(path: str, name: str | None) -> str:
    if not name:
        return path
    return f"{path}.{name}" if path else name


def _is_text(array: gdb.Type) -> bool:
    return bool(array.target().strip_typedefs().name == "char")
