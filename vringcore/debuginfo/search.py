"""Finding a type, variable or function by name in one file's debug information.

In this order: the units that the caller expects it in; where a type that was read already leads;
a proof that the name is nowhere in the file; the units whose bytes can hold it; an index of all.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo import toplevel as top
from vringcore.debuginfo.damage import DAMAGE, ours
from vringcore.debuginfo.enumerators import units_naming
from vringcore.debuginfo.index import UnitIndex
from vringcore.debuginfo.typereader import TypeReader
from vringcore.debuginfo.units import Entry
from vringcore.debuginfo.variables import read_function, read_variable, static_variables
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.units import Unit
    from vringcore.debuginfo.variables import FoundFunction, FoundVariable
    from vringcore.layout.types import Definition, Type

MAX_IMPORTS = 1 << 14
MAX_TYPEDEFS = 8
_TRANSPARENT = frozenset({dw.TAG_TYPEDEF, dw.TAG_CONST_TYPE, dw.TAG_VOLATILE_TYPE})

MAX_COMPARED = 64
"""Units whose definitions of one name are compared to see whether the name is unique."""

_TYPES = top.STRUCT | top.UNION | top.ENUM
_CHEAP = _TYPES | top.VARIABLE
"""What the first walk over a unit notes: a few hundred entries, where typedefs and functions,
which are seldom looked up by name, are thousands."""

_CHUNK = 1 << 20

MAX_NARROWED = 10
"""Names that are looked for among the units' bytes before an index of all names pays."""

MAX_NARROW = 96
"""Units that are walked for one name."""

MAX_ALIKE = 8
"""Definitions of one type that are found without the index, to tell whether they differ."""


class _Place:
    """Where a type is defined.

    ``line`` and ``size`` (with the line of what a typedef stands for) are equal wherever units saw
    the same header. ``size`` is None where a typedef's target is only declared.
    """

    __slots__ = ("line", "offset", "size", "unit")

    def __init__(self, entry: Entry) -> None:
        self.unit = entry.unit
        self.offset = entry.offset
        self.line = entry.get(dw.AT_DECL_LINE)
        target: Entry | None = entry
        for _ in range(MAX_TYPEDEFS):
            if target is None or target.tag not in _TRANSPARENT:
                break
            target = target.reference(dw.AT_TYPE)
        size = None if target is None else target.get(dw.AT_BYTE_SIZE)
        self.size = None if size is None or target is None else (target.get(dw.AT_DECL_LINE), size)

    def agrees(self, other: _Place) -> bool:
        """Tell whether both can be the same type."""
        if self.line != other.line:
            return False
        return self.size is None or other.size is None or self.size == other.size


class Search:
    """Look-ups in one file. ``log`` tells what was ambiguous."""

    def __init__(self, dwarf: Dwarf, log: list[str]) -> None:
        self._dwarf = dwarf
        self._met: dict[str, _Place] = {}
        self._types = TypeReader(self._meet)
        self._index: UnitIndex | None = None
        self._common: Search | None = None
        self._nowhere: dict[bytes, bool] = {}
        self._narrowed = 0
        self.log = log

    def _meet(self, key: str, entry: Entry) -> str:
        """Note where a type is defined; return its file's name if the key means another's type."""
        place = _Place(entry)
        known = self._met.setdefault(key, place)
        if known.unit is place.unit:
            return ""
        if known.agrees(place):
            known.size = known.size or place.size
            return ""
        name = entry.unit.name or entry.unit.where(entry.offset)
        if f"{key}@{name}" not in self._met:
            self._met[f"{key}@{name}"] = place
            self.log.append(f"{key} of {known.unit.name} is not that of {name}")
        return name

    @property
    @ours
    def index(self) -> UnitIndex:
        """All names of all units; made once, in some tenths of a second for a QEMU."""
        if self._index is None:
            self._index = UnitIndex(self._dwarf)
        return self._index

    # Types

    def definition(self, key: str, units: tuple[str, ...]) -> tuple[Definition, str] | None:
        """Return a type's definition and the file it was found in, None if there is none.

        :raises DwarfError: if debug information on the way cannot be read
        """
        plain, _, file = key.partition("@")
        if file:
            place = self._met.get(key)
            if place is not None:
                return self._types.definition(place.unit, place.offset), file
            units = (file,)
        kind_name, _, text = plain.partition(" ")
        kind = top.KINDS.get(kind_name)
        if kind is None or not text:
            raise DwarfError(
                "no such kind of type", seen=key, expected="struct, union, enum, typedef"
            )
        name = text.encode("utf-8", "surrogateescape")
        for unit, found in self._hinted(units, kind):
            for offset in found[kind].get(name, ()):
                self._meet(plain, Entry(unit, offset))
                return self._types.definition(unit, offset), unit.name
        met = self._met.get(key)
        if met is not None:
            return self._types.definition(met.unit, met.offset), met.unit.name
        if self._is_nowhere(name):
            return None
        places = self._type_places(kind, name)
        if not places:
            return self._in_common_file(key)
        unit = self._dwarf.unit(places[0][0])
        self._meet(key, Entry(unit, places[0][1]))
        definition = self._types.definition(unit, places[0][1])
        other = self._another(definition, places)
        if other:
            taken = unit.name or unit.where(0)
            self.log.append(f"taken from {taken}; {other} has a different one of that name")
        return definition, unit.name

    def _in_common_file(self, key: str) -> tuple[Definition, str] | None:
        """Look in the file that dwz moved common types to, if there is one."""
        if self._dwarf.elf.alternate_link() is not None:
            if self._common is None:
                self._common = Search(self._dwarf.alternate(), self.log)
            return self._common.definition(key, ())
        self._all_units_read(key)
        return None

    def _another(self, definition: Definition, places: list[tuple[int, int]]) -> str:
        """Return a file that defines a type of the same name differently, "" if none is seen."""
        for number, offset in places[1:MAX_COMPARED]:
            unit = self._dwarf.unit(number, keep=False)
            try:
                # Incomplete types are named by typedefs in every unit that sees the header.
                if self._types.definition(unit, offset) != definition:
                    return unit.name or unit.where(offset)
            except (DwarfError, *DAMAGE):
                return unit.name or unit.where(offset)
        return ""

    def _hinted(
        self, suffixes: tuple[str, ...], mask: int
    ) -> Iterator[tuple[Unit, dict[int, dict[bytes, list[int]]]]]:
        for suffix in suffixes:
            for number in self._dwarf.chain.ending_with(suffix):
                yield from self._with_imports(number, mask | _CHEAP)

    def _with_imports(
        self, number: int, mask: int
    ) -> Iterator[tuple[Unit, dict[int, dict[bytes, list[int]]]]]:
        """Yield what a unit and the units that it includes define."""
        pending = [(self._dwarf, number)]
        seen: set[tuple[int, int]] = set()
        while pending:
            dwarf, number = pending.pop(0)
            if (id(dwarf), number) in seen or len(seen) > MAX_IMPORTS:
                continue
            seen.add((id(dwarf), number))
            level = dwarf.top_level(number, mask)
            unit = dwarf.unit(number)
            yield unit, level.found
            for form, value in level.imports:
                imported = unit.target(form, value)[0]
                pending.append((imported.dwarf, imported.dwarf.chain.number_at(imported.offset)))

    # Variables

    def variable_in(self, units: tuple[str, ...], name: str, function: str) -> FoundVariable | None:
        """Return a variable that one of the given files defines, None if none does.

        :param function: of which it is a static variable, "" for one at file scope
        :raises DwarfError: if debug information on the way cannot be read
        """
        raw = name.encode("utf-8", "surrogateescape")
        scope = function.encode("utf-8", "surrogateescape")
        mask = top.FUNCTION if function else top.VARIABLE
        best = None
        for unit, found in self._hinted(units, mask):
            for variable in self._variables(unit, found[mask], raw, scope):
                if variable.address is not None:
                    return variable
                best = best or variable
        return best

    def variable_anywhere(self, name: str, function: str) -> FoundVariable | None:
        """Return the one variable of that name, None if there is none.

        A static variable counts only if it is the only one of its name.

        :raises DwarfError: if debug information on the way cannot be read
        """
        found = self._everywhere(name, function)
        placed = [f for f in found if f.address is not None] or found
        shared = [f for f in placed if f.external]
        if shared:
            return shared[0]
        if len({f.address for f in placed}) > 1:
            files = sorted({f.unit for f in placed})
            self.log.append(f"static in {', '.join(files[:8])}; which one is not said")
            return None
        return placed[0] if placed else None

    def complete(self, known: FoundVariable, function: str) -> FoundVariable | None:
        """Return a variable that its unit does not place, as completed by the other units.

        Link-time optimisation describes the place in a unit of its own. A static variable that no
        unit places is gone if another file has one of the same name: the symbol left is that one's.
        """
        if known.external:
            return known
        found = self._everywhere(known.name, function)
        placed = [f for f in found if f.unit == known.unit and f.address is not None]
        if placed:
            return placed[0]
        return None if any(f.unit != known.unit for f in found) else known

    def _everywhere(self, name: str, function: str) -> list[FoundVariable]:
        raw = name.encode("utf-8", "surrogateescape")
        scope = function.encode("utf-8", "surrogateescape")
        mask = top.FUNCTION if function else top.VARIABLE
        if self._is_nowhere(raw) or (scope and self._is_nowhere(scope)):
            return []
        everywhere: list[FoundVariable] = []
        for number in self._places(mask, scope or raw):
            found = self._dwarf.top_level(number, mask).found
            everywhere += self._variables(self._dwarf.unit(number), found[mask], raw, scope)
        if not everywhere:
            self._all_units_read(f"variable {name}")
        return everywhere

    def _variables(
        self, unit: Unit, found: dict[bytes, list[int]], name: bytes, function: bytes
    ) -> Iterator[FoundVariable]:
        if not function:
            entries: Iterator[Entry] = (Entry(unit, o) for o in found.get(name, ()))
        else:
            entries = (
                variable
                for offset in found.get(function, ())
                for variable in static_variables(Entry(unit, offset))
                if top.name_of(variable) == name
            )
        for entry in entries:
            variable = read_variable(self._types, entry)
            if variable is not None:
                yield variable

    def files_with(self, name: str, function: str) -> list[str]:
        """Return the files that have a variable, or without ``function`` a function, of a name."""
        files = {f.unit for f in self._everywhere(name, function)}
        if not function:
            files |= {unit for _function, unit in self._functions(name)}
        return sorted(files)

    def names(self, kind: int) -> list[str]:
        """Return every name of a kind, of :mod:`.toplevel`'s, that any unit defines."""
        index = self.index
        found = index.type_names(kind) if kind in top.KINDS.values() else index.names(kind)
        return [name.decode("utf-8", "backslashreplace") for name in found]

    def enumerator(self, name: str) -> Type | None:
        """Return the enumeration that has an enumerator, None if none at file scope has.

        :raises DwarfError: if debug information on the way cannot be read
        """
        from vringcore.debuginfo.enumerators import find_enumerator

        raw = name.encode("utf-8", "surrogateescape")
        return find_enumerator(self._dwarf, self._types, raw)

    # Functions

    def function(self, name: str, units: tuple[str, ...]) -> tuple[FoundFunction, str] | None:
        """Return a function with code of its own and its file, None if there is none.

        :raises DwarfError: if debug information on the way cannot be read
        """
        raw = name.encode("utf-8", "surrogateescape")
        for unit, found in self._hinted(units, top.FUNCTION):
            for offset in found[top.FUNCTION].get(raw, ()):
                function = read_function(self._types, Entry(unit, offset))
                if function is not None:
                    return function, unit.name
        if self._is_nowhere(raw):
            return None
        everywhere = list(self._functions(name))
        if not everywhere:
            self._all_units_read(f"function {name}")
        shared = [f for f in everywhere if f[0].external]
        if len(everywhere) > 1 and not shared:
            self.log.append(f"static in {len(everywhere)} files; which one is not said")
            return None
        return next(iter(shared or everywhere), None)

    def _functions(self, name: str) -> Iterator[tuple[FoundFunction, str]]:
        raw = name.encode("utf-8", "surrogateescape")
        for number in self._places(top.FUNCTION, raw):
            unit = self._dwarf.unit(number)
            for offset in self._found(number, top.FUNCTION).get(raw, ()):
                function = read_function(self._types, Entry(unit, offset))
                if function is not None:
                    yield function, unit.name

    # Where a name is defined

    def _places(self, mask: int, name: bytes) -> list[int]:
        """Return the numbers of the units that define a variable or function."""
        numbers = list(islice(self._naming(name), MAX_NARROW + 1))
        if len(numbers) <= MAX_NARROW:
            try:
                found = [n for n in numbers if name in self._found(n, mask)]
            except DwarfError:
                found = []
            if found:
                return found
        return self.index.places(mask, name)

    def _type_places(self, kind: int, name: bytes) -> list[tuple[int, int]]:
        """Return the definitions of a type in their units' order; not all if there are many."""
        places: list[tuple[int, int]] = []
        try:
            for number in islice(self._naming(name), MAX_NARROW):
                offsets = self._found(number, kind).get(name)
                if offsets:
                    places.append((number, offsets[0]))
                if len(places) == MAX_ALIKE:
                    break
        except DwarfError:
            places = []
        return places or self.index.type_places(kind, name)

    def _found(self, number: int, mask: int) -> dict[bytes, list[int]]:
        return self._dwarf.top_level(number, mask | _CHEAP).found[mask]

    def _naming(self, name: bytes) -> Iterator[int]:
        """Yield the units that can hold a name, as long as that is cheaper than the index."""
        if self._index is not None or self._narrowed == MAX_NARROWED or self._dwarf.info.packed:
            return
        self._narrowed += 1
        yield from units_naming(self._dwarf, name)

    def _all_units_read(self, what: str) -> None:
        """Refuse to call something absent while there are units that could not be read."""
        refused = self.index.refused
        if refused:
            raise DwarfError(
                f"{what} is in no unit that could be read",
                seen=f"{len(refused)} units refused, the first because: {refused[0]}",
            )

    def _is_nowhere(self, name: bytes) -> bool:
        """Prove that no entry has this name: its bytes are in no section that holds names.

        Far cheaper than walking all units, and most of what is asked in vain is of another QEMU.
        """
        if self._index is not None:
            return False  # The index answers faster.
        known = self._nowhere.get(name)
        if known is None:
            known = self._nowhere[name] = self._search_bytes(name)
        return known

    def _search_bytes(self, name: bytes) -> bool:
        dwarf = self._dwarf
        if dwarf.info.packed or dwarf.elf.section(".gnu_debugaltlink") is not None:
            return False
        if next(dwarf.strings.places(name), None) is not None:
            return False
        if b".dwo\0" in dwarf.strings.data or b".dwo\0" in dwarf.line_strings.data:
            return False  # -gsplit-dwarf keeps the names in other files.
        pattern = name + b"\0"
        keep = len(pattern) - 1
        offset, tail = 0, b""
        while read := dwarf.info.read(offset, _CHUNK):  # Less, where .debug_types starts.
            chunk = tail + read
            if pattern in chunk:
                return False
            offset += len(read)
            tail = chunk[-keep:] if keep else b""
        return True
