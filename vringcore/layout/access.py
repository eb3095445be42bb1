"""From a type to what it is, how large it is, and where its members lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import LayoutError, UsageError
from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Function,
    Named,
    Pointer,
    Qualified,
    Record,
    Type,
    Typedef,
    Void,
)

if TYPE_CHECKING:
    from typing import Protocol

    from vringcore.layout.types import Definition

    class Definitions(Protocol):
        """Where definitions are looked up; ``resolved`` remembers what names came to."""

        resolved: dict[str, Type]

        def definition(self, key: str) -> Definition:
            """Return the definition of a key or raise LayoutMissingError."""
            ...


Place = tuple[int, Type, tuple[int, int] | None]
"""Byte offset, type, and for a bit-field its size and offset in bits."""

MAX_DEPTH = 100

_INDIRECT = (Named, Qualified, Typedef)
_SIZED = (Base, Pointer, Record, Enum)


def resolve(layouts: Definitions, type_: Type | Typedef) -> Type:
    """Return what a type is below its typedefs and qualifiers.

    :raises LayoutMissingError: if a name on the way is not known
    :raises LayoutError: if typedefs lead back to themselves
    """
    for _ in range(MAX_DEPTH):
        if isinstance(type_, Named):
            key = type_.key
            known = layouts.resolved.get(key)
            if known is None:
                definition = layouts.definition(key)
                if isinstance(definition, Typedef):
                    known = resolve_guarded(layouts, definition.type, key)
                else:
                    known = definition
                layouts.resolved[key] = known
            return known
        if isinstance(type_, Qualified):
            type_ = type_.of
        elif isinstance(type_, Typedef):
            type_ = type_.type
        else:
            return type_
    raise LayoutError("a type that leads back to itself", seen=repr(type_)[:80])


def resolve_guarded(layouts: Definitions, type_: Type, key: str) -> Type:
    """Resolve what a typedef stands for, one level deeper.

    :raises LayoutError: if typedefs are nested beyond reason
    """
    seen = {key}
    while isinstance(type_, Named | Qualified):
        if isinstance(type_, Qualified):
            type_ = type_.of
            continue
        key = type_.key
        if key in seen or len(seen) > MAX_DEPTH:
            raise LayoutError("a typedef that leads back to itself", where=key)
        seen.add(key)
        definition = layouts.definition(key)
        if not isinstance(definition, Typedef):
            return definition
        type_ = definition.type
    return type_


def size_of(layouts: Definitions, type_: Type) -> int:
    """Return the size of a type in bytes."""
    count = 1
    for _ in range(MAX_DEPTH):
        if isinstance(type_, _INDIRECT):
            type_ = resolve(layouts, type_)
        if isinstance(type_, _SIZED):
            return count * type_.size
        if isinstance(type_, Void | Function):
            return count
        assert isinstance(type_, Array)
        count *= type_.count or 0
        type_ = type_.of
    raise LayoutError("a type nested too deeply", seen=repr(type_)[:80])


def is_signed(type_: Type) -> bool:
    """Tell whether a base type or enumeration has negative values; its typedefs are resolved."""
    if isinstance(type_, Enum):
        return type_.signed
    return isinstance(type_, Base) and type_.encoding in ("signed", "signed-char", "char")


def is_float(type_: Type) -> bool:
    """Tell whether a base type is a real or complex floating type; its typedefs are resolved."""
    return isinstance(type_, Base) and type_.encoding in ("float", "complex")


def member(layouts: Definitions, record: Record, path: str) -> Place | None:
    """Return where a member lies, None if the record has no such member.

    :param path: names joined by dots, elements of arrays in brackets: ``vring.desc``,
        ``a.b[2].c``. Members of unnamed structs and unions count as the parent's own (C11 6.7.2.1).
    :raises UsageError: if the path cannot be read
    :raises LayoutMissingError: if the type of a member on the way is not known
    """
    if path.isidentifier():
        return _direct(layouts, record, path, 0)
    offset = 0
    type_: Type = record
    bits: tuple[int, int] | None = None
    for name, indices in parse_path(path):
        owner = resolve(layouts, type_)
        place = _direct(layouts, owner, name, 0) if isinstance(owner, Record) else None
        if place is None:
            return None
        at, type_, bits = place
        offset += at
        for index in indices:
            array = resolve(layouts, type_)
            if not isinstance(array, Array) or (array.count is not None and index >= array.count):
                return None
            type_ = array.of
            offset += index * size_of(layouts, type_)
    return offset, type_, bits


def _direct(layouts: Definitions, record: Record, name: str, depth: int) -> Place | None:
    for item in record.members:
        if item.name == name:
            bits = None if item.bit_size is None else (item.bit_size, item.bit_offset)
            return item.offset, item.type, bits
    if depth > MAX_DEPTH:
        raise LayoutError("unnamed members nested too deeply", where=record.name or "anonymous")
    for item in record.members:
        if item.name is None and item.bit_size is None:
            inner = resolve(layouts, item.type)
            if isinstance(inner, Record):
                place = _direct(layouts, inner, name, depth + 1)
                if place is not None:
                    return item.offset + place[0], place[1], place[2]
    return None


def parse_path(path: str) -> list[tuple[str, list[int]]]:
    """Split ``a.b[2].c`` into names, each with the indices behind it.

    :raises UsageError: if it is not of that form
    """
    parts = []
    for part in path.split("."):
        name, *rest = part.split("[")
        indices = []
        for index in rest:
            number = index.removesuffix("]")
            if number == index or not number.isdecimal() or len(number) > 18:
                raise UsageError("a member path that cannot be read", where=path)
            indices.append(int(number))
        if not name.isidentifier():
            raise UsageError("a member path that cannot be read", where=path)
        parts.append((name, indices))
    return parts
