"""The shape of a type as plain data, so that three readers can be compared.

A shape is ``[size, [[member name or "", bit position, bit size or 0, size of its type], ...]]`` for
a struct or union, ``[size, {enumerator: value}]`` for an enum. Flexible arrays count 0 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vringcore.layout.types import Array, Enum, Record

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Definition

Shape = list[Any]


def shape_of(layouts: Layouts, definition: Definition, *, big_endian: bool = False) -> Shape:
    """Return the shape of a definition as our reader sees it."""
    resolved = layouts.resolve(definition)
    if isinstance(resolved, Enum):
        return [resolved.size, resolved.enumerators]
    if isinstance(resolved, Record):
        return _record(layouts, resolved)
    return [layouts.size_of(resolved), []]


def _record(layouts: Layouts, record: Record) -> Shape:
    members = []
    for member in record.members:
        resolved = layouts.resolve(member.type)
        nested: Any = layouts.size_of(resolved)
        element = resolved
        while isinstance(element, Array):
            element = layouts.resolve(element.of)
        if isinstance(element, Record) and element.name is None:
            nested = [nested, _record(layouts, element)]
        position = 8 * member.offset + member.bit_offset
        members.append([member.name or "", position, member.bit_size or 0, nested])
    return [record.size, members]
