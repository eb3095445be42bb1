"""Finding an enumerator by name, which no index of a unit's own names has.

Its name lies once in the string section, so the units whose bytes hold that place are the only ones
that can define it: a search for four bytes instead of a walk over all units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.typereader import children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.typereader import TypeReader
    from vringcore.debuginfo.units import Entry, Unit
    from vringcore.layout.types import Type

_CHUNK = 1 << 22


def find_enumerator(dwarf: Dwarf, types: TypeReader, name: bytes) -> Type | None:
    """Return the enumeration at file scope that has an enumerator, None if none has.

    :raises DwarfError: if a unit on the way cannot be read
    """
    for number in units_naming(dwarf, name):
        unit = dwarf.unit(number, keep=False)
        for offset in _defining(unit, name):
            return types.type_at(unit, offset)
    return None


def _defining(unit: Unit, name: bytes) -> Iterator[int]:
    for entry in children(unit.root()):
        if entry.tag == dw.TAG_ENUMERATION_TYPE and _has(entry, name):
            yield entry.offset


def _has(enumeration: Entry, name: bytes) -> bool:
    return any(
        child.tag == dw.TAG_ENUMERATOR and child.name() == name for child in children(enumeration)
    )


def units_naming(dwarf: Dwarf, name: bytes) -> Iterator[int]:
    """Yield the numbers of the units whose bytes can hold a name, in the section's order."""
    if dwarf.elf.section(".debug_str_offsets") is not None:
        yield from range(len(dwarf.chain))  # Names by index: any unit may hold any.
        return
    # The name itself, where a unit holds short names in place, or where a table has it.
    patterns = [name + b"\0"]
    # The low half is enough of a place in 64-bit DWARF.
    patterns += [place.to_bytes(4, dwarf.byteorder) for place in dwarf.strings.places(name)]
    last = -1
    for place in _places(dwarf, patterns):
        number = dwarf.chain.number_at(place)
        if number > last:
            last = number
            yield number


def _places(dwarf: Dwarf, patterns: list[bytes]) -> Iterator[int]:
    keep = max(map(len, patterns)) - 1
    tail = b""
    for start in range(0, dwarf.info.size, _CHUNK):
        chunk = tail + dwarf.info.read(start, _CHUNK)
        found = set()
        for pattern in patterns:
            at = chunk.find(pattern)
            while at >= 0:
                found.add(start - len(tail) + at)
                at = chunk.find(pattern, at + 1)
        yield from sorted(found)
        tail = chunk[-keep:] if keep else b""
