"""Finding a type, variable or function by name in one file's debug information.

In this order: the units that the caller expects it in; where a type that was read already leads;
the units that the symbols lead to; the entries that the bytes of the name are in, whose lack proves
that there is none; an index of all.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo import toplevel as top
from vringcore.debuginfo.damage import DAMAGE, ours
from vringcore.debuginfo.typereader import TypeReader
from vringcore.debuginfo.units import Entry
from vringcore.debuginfo.variables import read_function, read_variable, static_variables
from vringcore.errors import DwarfError, VringcoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.index import UnitIndex
    from vringcore.debuginfo.likely import Likely
    from vringcore.debuginfo.mentions import Mention, Mentions
    from vringcore.debuginfo.symbols import SymbolTable
    from vringcore.debuginfo.toplevel import TopLevel
    from vringcore.debuginfo.units import Unit
    from vringcore.debuginfo.variables import FoundFunction, FoundVariable
    from vringcore.layout.types import Definition, Type

MAX_IMPORTS = 1 << 14
MAX_TYPEDEFS = 8
_TRANSPARENT = frozenset({dw.TAG_TYPEDEF, dw.TAG_CONST_TYPE, dw.TAG_VOLATILE_TYPE})

MAX_COMPARED = 64
"""Units whose definitions of one name are compared to see whether the name is unique."""

_TAGS = {
    top.STRUCT: frozenset({dw.TAG_STRUCTURE_TYPE}),
    top.UNION: frozenset({dw.TAG_UNION_TYPE}),
    top.ENUM: frozenset({dw.TAG_ENUMERATION_TYPE}),
    top.TYPEDEF: frozenset({dw.TAG_TYPEDEF}),
    top.VARIABLE: frozenset({dw.TAG_VARIABLE}),
    top.FUNCTION: frozenset({dw.TAG_SUBPROGRAM}),
}

_TYPES = top.STRUCT | top.UNION | top.ENUM
_CHEAP = _TYPES | top.VARIABLE
"""What the first walk over a unit notes: a few hundred entries, where typedefs and functions,
which are seldom looked up by name, are thousands."""

MAX_ASKED = 32
"""Names that are looked for among the units' bytes before an index of all names pays."""

MAX_NARROW = 96
"""Units that are walked for one name."""

MAX_UNTOLD = 8
"""The same where their bytes do not tell whether they have the name."""

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
    """Look-ups in one file. ``log`` tells what was ambiguous.

    :param tables: opens the symbol tables, which know in which files variables and functions are
    """

    def __init__(
        self, dwarf: Dwarf, log: list[str], tables: Callable[[], Sequence[SymbolTable]] = tuple
    ) -> None:
        self._dwarf = dwarf
        self._tables = tables
        self._met: dict[str, _Place] = {}
        self._types = TypeReader(self._meet)
        self._index: UnitIndex | None = None
        self._common: Search | None = None
        self._asked: set[bytes] = set()
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

    # Imported where they are used: the files that are expected to define a name nearly always do.

    @cached_property
    def _mentions(self) -> Mentions:
        from vringcore.debuginfo.mentions import Mentions

        return Mentions(self._dwarf)

    @property
    @ours
    def index(self) -> UnitIndex:
        """All names of all units; made once, in some tenths of a second for a QEMU."""
        if self._index is None:
            from vringcore.debuginfo.index import UnitIndex

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
        name = raw_name(text)
        for unit, level in self._hinted(units, kind):
            for offset in level.find(kind, name):
                self._meet(plain, Entry(unit, offset))
                return self._types.definition(unit, offset), unit.name
        met = self._met.get(key)
        if met is not None:
            return self._types.definition(met.unit, met.offset), met.unit.name
        places = self._told(kind, name)
        if places is None:
            places = self.index.type_places(kind, name)
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
        first = _Place(Entry(self._dwarf.unit(places[0][0]), places[0][1]))
        for number, offset in places[1:MAX_COMPARED]:
            unit = self._dwarf.unit(number, keep=False)
            try:
                # Incomplete types are named by typedefs in every unit that sees the header.
                if first.agrees(_Place(Entry(unit, offset))):
                    continue
                if self._types.definition(unit, offset) != definition:
                    return unit.name or unit.where(offset)
            except (DwarfError, *DAMAGE):
                return unit.name or unit.where(offset)
        return ""

    def _hinted(self, suffixes: tuple[str, ...], mask: int) -> Iterator[tuple[Unit, TopLevel]]:
        for suffix in suffixes:
            for number in self._dwarf.chain.ending_with(suffix):
                yield from self._with_imports(number, mask | _CHEAP)

    def _with_imports(self, number: int, mask: int) -> Iterator[tuple[Unit, TopLevel]]:
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
            yield unit, level
            for form, value in level.imports:
                imported = unit.target(form, value)[0]
                pending.append((imported.dwarf, imported.dwarf.chain.number_at(imported.offset)))

    # Variables

    def variable_in(self, units: tuple[str, ...], name: str, function: str) -> FoundVariable | None:
        """Return a variable that one of the given files defines, None if none does.

        :param function: of which it is a static variable, "" for one at file scope
        :raises DwarfError: if debug information on the way cannot be read
        """
        raw = raw_name(name)
        scope = raw_name(function)
        mask = top.FUNCTION if function else top.VARIABLE
        best = None
        for unit, level in self._hinted(units, mask):
            for variable in self._variables(unit, level.find(mask, scope or raw), raw, scope):
                if variable.address is not None:
                    return variable
                best = best or variable
        return best

    def variable_anywhere(self, name: str, function: str) -> FoundVariable | None:
        """Return the one variable of that name, None if there is none.

        A static variable counts only if it is the only one of its name.

        :raises DwarfError: if debug information on the way cannot be read
        """
        found = self._placed_variables(name, function) or self._everywhere(name, function)
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
        kind = top.FUNCTION if function else top.VARIABLE
        numbers = self._places(kind, raw_name(function or name))
        everywhere = list(self._variables_in(numbers, name, function))
        if not everywhere:
            self._all_units_read(f"variable {name}")
        return everywhere

    def _variables_in(
        self, numbers: Iterable[int], name: str, function: str
    ) -> Iterator[FoundVariable]:
        kind = top.FUNCTION if function else top.VARIABLE
        raw, scope = raw_name(name), raw_name(function)
        for number in numbers:
            offsets = self._dwarf.top_level(number, kind).find(kind, scope or raw)
            yield from self._variables(self._dwarf.unit(number), offsets, raw, scope)

    def _placed_variables(self, name: str, function: str) -> list[FoundVariable]:
        """Return the variables of a name that the symbols lead to, none where they do not."""
        told = self._likely(name, function=function)
        units = self._can_hold(told.units, raw_name(function or name))
        found = list(self._variables_in(units, name, function))
        placed = {f.address for f in found}
        return found if told.addresses <= placed and None not in placed else []

    def _variables(
        self, unit: Unit, offsets: Iterable[int], name: bytes, function: bytes
    ) -> Iterator[FoundVariable]:
        entries = (Entry(unit, offset) for offset in offsets)
        if function:
            entries = (
                variable
                for scope in entries
                for variable in static_variables(scope)
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

    def defines(self, name: str) -> bool:
        """Tell whether a unit has a variable or function of a name, be it optimised away."""
        return any(self._places(kind, raw_name(name)) for kind in (top.VARIABLE, top.FUNCTION))

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

        return find_enumerator(self._dwarf, self._mentions, self._types, raw_name(name))

    # Functions

    def function(self, name: str, units: tuple[str, ...]) -> tuple[FoundFunction, str] | None:
        """Return a function with code of its own and its file, None if there is none.

        :raises DwarfError: if debug information on the way cannot be read
        """
        raw = raw_name(name)
        for unit, level in self._hinted(units, top.FUNCTION):
            for offset in level.find(top.FUNCTION, raw):
                function = read_function(self._types, Entry(unit, offset))
                if function is not None:
                    return function, unit.name
        everywhere = self._placed_functions(name) or self._functions(name)
        shared = [f for f in everywhere if f[0].external]
        if len(everywhere) > 1 and not shared:
            self.log.append(f"static in {len(everywhere)} files; which one is not said")
            return None
        return next(iter(shared or everywhere), None)

    def _functions(self, name: str) -> list[tuple[FoundFunction, str]]:
        everywhere = list(self._functions_in(self._places(top.FUNCTION, raw_name(name)), name))
        if not everywhere:
            self._all_units_read(f"function {name}")
        return everywhere

    def _functions_in(
        self, numbers: Iterable[int], name: str
    ) -> Iterator[tuple[FoundFunction, str]]:
        for number in numbers:
            unit = self._dwarf.unit(number)
            for offset in self._found(number, top.FUNCTION).get(raw_name(name), ()):
                function = read_function(self._types, Entry(unit, offset))
                if function is not None:
                    yield function, unit.name

    def _placed_functions(self, name: str) -> list[tuple[FoundFunction, str]]:
        """Return the functions of a name that the symbols lead to, none where they do not."""
        told = self._likely(name, code=True)
        found = list(self._functions_in(self._can_hold(told.units, raw_name(name)), name))
        return found if told.addresses <= {f.address for f, _ in found} else []

    # Where a name is defined

    def _likely(self, name: str, *, function: str = "", code: bool = False) -> Likely:
        """Return where the symbols say that a variable or function is, if there are all of them."""
        from vringcore.debuginfo.likely import NOTHING, likely_units

        try:
            table = next((t for t in self._tables() if t.complete), None)
        except VringcoreError:
            table = None
        if table is None or self._index is not None:
            return NOTHING
        return likely_units(self._dwarf.chain, table, name, function=function, code=code)

    def _can_hold(self, numbers: Sequence[int], name: bytes) -> list[int]:
        """Return those of some units that can have an entry of a name; none if it is not told."""
        if self._mentions.usable:
            try:
                numbers = self._mentions.within(numbers, name)
            except DwarfError:
                return []
        return list(numbers) if len(numbers) <= MAX_UNTOLD else []

    def _places(self, kind: int, name: bytes) -> list[int]:
        """Return the numbers of the units that define a variable or function."""
        told = self._told(kind, name)
        if told is not None:
            numbers = list(dict.fromkeys(number for number, _offset in told))
            found = [n for n in numbers if name in self._found(n, kind)]
            if found or not numbers:
                return found
        return self.index.places(kind, name)

    def _told(self, kind: int, name: bytes) -> list[tuple[int, int]] | None:
        """Return the entries at file scope of a kind and name, in the units' order.

        Of types that are not mere declarations, and not all if there are many. None where the
        mentions of the name do not tell, or an index is at hand, or has come to be cheaper.
        """
        mentions = self._mentions
        if self._index is not None:
            return None
        if not mentions.usable:
            return [] if mentions.lack(name) else None
        self._asked.add(name)
        try:
            if len(self._asked) > MAX_ASKED and mentions.anywhere(name):
                return None
            for way in (mentions.referred, mentions.spelled):
                told = _at_file_scope(way(name), kind)
                if told is None or told:
                    return told
        except (DwarfError, *DAMAGE):
            return None
        return []

    def _found(self, number: int, mask: int) -> dict[bytes, list[int]]:
        return self._dwarf.top_level(number, mask | _CHEAP).found[mask]

    def _all_units_read(self, what: str) -> None:
        """Refuse to call something absent while there are units that could not be read.

        What has no mention is in no unit, whether that can be read or not.
        """
        refused = self._index.refused if self._index is not None else []
        if refused:
            raise DwarfError(
                f"{what} is in no unit that could be read",
                seen=f"{len(refused)} units refused, the first because: {refused[0]}",
            )


def _at_file_scope(mentions: Iterator[Mention], kind: int) -> list[tuple[int, int]] | None:
    """Return units and offsets of the entries of a kind, None if the mentions do not tell."""
    tags = _TAGS[kind]
    limit = MAX_NARROW if kind & (top.VARIABLE | top.FUNCTION) else MAX_ALIKE
    found: list[tuple[int, int]] = []
    entries = unknown = declared = 0
    for mention in mentions:
        entries += bool(mention.entries)
        unknown += not mention.entries
        offset = mention.tagged(tags)
        if offset < 0 or mention.holder() != offset:
            continue
        # The definition of a variable refers to its declaration and has no name of its own.
        if kind != top.VARIABLE and mention.defined(tags) != offset:
            declared += 1
            continue
        found.append((mention.number, offset))
        if len(found) == limit:
            break
    if not found and kind == top.FUNCTION and declared:
        return None  # It may be as with a variable, though that is rare.
    # Where no mention is that of an entry, entries must be written in an unusual way.
    return found if entries or not unknown else None


def raw_name(name: str) -> bytes:
    """Return a name as it is in the file."""
    return name.encode("utf-8", "surrogateescape")
