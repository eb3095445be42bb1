"""Finding an enumerator by name, which no index of a unit's own names has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.typereader import children
from vringcore.debuginfo.units import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.mentions import Mentions
    from vringcore.debuginfo.typereader import TypeReader
    from vringcore.debuginfo.units import Unit
    from vringcore.layout.types import Type

_ENUMERATOR = frozenset({dw.TAG_ENUMERATOR})
_TYPEDEF = frozenset({dw.TAG_TYPEDEF})


def find_enumerator(
    dwarf: Dwarf, mentions: Mentions, types: TypeReader, name: bytes
) -> Type | None:
    """Return the enumeration at file scope that has an enumerator, None if none has.

    What the first unit with a name makes a typedef's is no enumerator's: C has both in one space.

    :raises DwarfError: if a unit on the way cannot be read
    """
    if mentions.usable:
        found = _mentioned(mentions, name)
    else:
        found = _searched(dwarf, name) if not mentions.lack(name) else iter(())
    return next((types.type_at(unit, offset) for unit, offset in found), None)


def _mentioned(mentions: Mentions, name: bytes) -> Iterator[tuple[Unit, int]]:
    for kind in (mentions.referred, mentions.spelled):
        for mention in kind(name):
            if mention.tagged(_ENUMERATOR) >= 0:
                unit, holder = mention.unit, mention.holder()
                if holder >= 0 and _is_enumeration(Entry(unit, holder), name):
                    yield unit, holder
            elif mention.defined(_TYPEDEF) == mention.holder() >= 0:
                return


def _searched(dwarf: Dwarf, name: bytes) -> Iterator[tuple[Unit, int]]:
    for number in range(len(dwarf.chain)):
        unit = dwarf.unit(number, keep=False)
        for entry in children(unit.root()):
            if _is_enumeration(entry, name):
                yield unit, entry.offset


def _is_enumeration(entry: Entry, name: bytes) -> bool:
    """Tell whether an entry is an enumeration with such an enumerator."""
    return entry.tag == dw.TAG_ENUMERATION_TYPE and any(
        child.tag == dw.TAG_ENUMERATOR and child.name() == name for child in children(entry)
    )
