"""An index of every name that any unit defines at file scope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import toplevel as top
from vringcore.debuginfo.damage import DAMAGE, damaged
from vringcore.debuginfo.toplevel import TopLevel
from vringcore.errors import VringcoreError

if TYPE_CHECKING:
    from vringcore.debuginfo.dwarf import Dwarf

_TYPES = (top.STRUCT, top.UNION, top.ENUM, top.TYPEDEF)


class UnitIndex:
    """Which units define what. ``refused`` lists the units that could not be read.

    Units are numbered as in :class:`~vringcore.debuginfo.chain.UnitChain`.
    """

    def __init__(self, dwarf: Dwarf) -> None:
        self._dwarf = dwarf
        self._types: dict[int, dict[bytes, tuple[int, int]]] = {kind: {} for kind in _TYPES}
        self._again: dict[int, dict[bytes, list[tuple[int, int]]]] = {kind: {} for kind in _TYPES}
        self._places: dict[int, dict[bytes, list[int]]] = {top.VARIABLE: {}, top.FUNCTION: {}}
        self.refused: list[str] = []
        for number in range(len(dwarf.chain)):
            try:
                unit = dwarf.unit(number, keep=False)
                found = TopLevel(unit, top.EVERYTHING).found
            except VringcoreError as error:
                self.refused.append(str(error))
                continue
            except DAMAGE as error:
                self.refused.append(str(damaged(error)))
                continue
            self._add(number, found)

    def _add(self, number: int, found: dict[int, dict[bytes, list[int]]]) -> None:
        for kind in _TYPES:
            types, again = self._types[kind], self._again[kind]
            for name, offsets in found[kind].items():
                if name in types:
                    again.setdefault(name, []).append((number, offsets[0]))
                else:
                    types[name] = (number, offsets[0])
        for kind, places in self._places.items():
            for name in found[kind]:
                places.setdefault(name, []).append(number)

    def type_places(self, kind: int, name: bytes) -> list[tuple[int, int]]:
        """Return every definition of a type: its unit's number and its offset there."""
        first = self._types[kind].get(name)
        return [] if first is None else [first, *self._again[kind].get(name, ())]

    def type_names(self, kind: int) -> list[bytes]:
        """Return the names of all types of a kind."""
        return list(self._types[kind])

    def places(self, kind: int, name: bytes) -> list[int]:
        """Return the numbers of the units that define a variable or function."""
        return self._places[kind].get(name, [])

    def names(self, kind: int) -> list[bytes]:
        """Return the names of all variables or functions."""
        return list(self._places[kind])
