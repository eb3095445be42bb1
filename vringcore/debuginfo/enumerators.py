"""Finding an enumerator by name, which no index of a unit's own names has.

Its name lies once in the string section, so the units whose bytes hold that place are the only ones
that can define it: a search for four bytes instead of a walk over all units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import uleb
from vringcore.debuginfo.typereader import children
from vringcore.errors import DwarfError

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
    for number, place in _naming(dwarf, name):
        unit = dwarf.unit(number, keep=False)
        if place < 0 or _names_enumerator(unit, place - unit.offset):
            for offset in _defining(unit, name):
                return types.type_at(unit, offset)
    return None


def _names_enumerator(unit: Unit, place: int) -> bool:
    """Tell whether bytes in a unit are the name of an enumerator.

    Compilers write an entry's name first, so the code of its abbreviation is right before it.
    """
    data = unit.data
    for size in (1, 2):
        try:
            code, end = uleb(data, place - size) if place >= size else (0, 0)
            if end == place and code and unit.abbrevs[code].tag == dw.TAG_ENUMERATOR:
                return True
        except DwarfError:
            continue
    return False


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
    last = -1
    for number, _place in _naming(dwarf, name):
        if number > last:
            last = number
            yield number


def _naming(dwarf: Dwarf, name: bytes) -> Iterator[tuple[int, int]]:
    """Yield units that can hold a name, and where in all units' bytes it is; -1 if anywhere."""
    if dwarf.elf.section(".debug_str_offsets") is not None:
        for number in range(len(dwarf.chain)):  # Names by index: any unit may hold any.
            yield number, -1
        return
    # The name itself, where a unit holds short names in place, or where a table has it.
    patterns = [name + b"\0"]
    # The low half is enough of a place in 64-bit DWARF.
    patterns += [place.to_bytes(4, dwarf.byteorder) for place in dwarf.strings.places(name)]
    for place in _places(dwarf, patterns):
        yield dwarf.chain.number_at(place), place


def _places(dwarf: Dwarf, patterns: list[bytes]) -> Iterator[int]:
    keep = max(map(len, patterns)) - 1
    start, tail = 0, b""
    while start < dwarf.info.size:
        read = dwarf.info.read(start, _CHUNK)  # Less, where .debug_types starts.
        if not read:
            return
        chunk = tail + read
        found = set()
        for pattern in patterns:
            at = chunk.find(pattern)
            while at >= 0:
                found.add(start - len(tail) + at)
                at = chunk.find(pattern, at + 1)
        yield from sorted(found)
        start += len(read)
        tail = chunk[-keep:] if keep else b""
