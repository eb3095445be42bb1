"""Entries found by the bytes of their names, without a walk over all units.

A name lies once in the string section, so an entry of that name holds four known bytes. Compilers
write an entry's name first: the code of its abbreviation is right before it and tells what it is.
"""

from __future__ import annotations

from itertools import chain, tee
from struct import Struct
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.leb import uleb
from vringcore.debuginfo.occurrences import occurrences
from vringcore.debuginfo.toplevel import Plan, skip_children
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vringcore.debuginfo.abbrev import Abbrev
    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.units import Unit

_CHUNK = 1 << 18
"""Bytes searched at a time: as many as stay in a processor's cache."""

MAX_MENTIONS = 4096
"""Places of one name that are looked at; of commoner ones an index tells more cheaply."""

MAX_TAILS = 8
"""Longer strings with a name at their end that can be the ones it is kept in."""

_BEFORE_NAME = 4
"""Bytes that an entry may have before its name: its code, and a flag in old versions of DWARF."""


class Mention:
    """A place that can be an entry's name.

    :ivar entries: what can have its name there: offset in the unit and abbreviation of each. More
        than one where the end of a code is a code itself, none where the bytes mean something else
        or an entry is written in an unusual way.
    """

    __slots__ = ("entries", "number", "place", "unit")

    def __init__(self, number: int, unit: Unit, place: int) -> None:
        self.number = number
        self.unit = unit
        self.place = place
        self.entries = tuple(_entries_named_at(unit, place))

    def tagged(self, tags: frozenset[int]) -> int:
        """Return the offset of the entry if it can have one of the tags, else -1."""
        return next((offset for offset, abbrev in self.entries if abbrev.tag in tags), -1)

    def defined(self, tags: frozenset[int]) -> int:
        """Return the offset of the entry if it has one of the tags and declares nothing only."""
        for offset, abbrev in self.entries:
            if abbrev.tag in tags and dw.AT_DECLARATION not in abbrev.forms:
                return offset
        return -1

    def holder(self) -> int:
        """Return where the entry at file scope starts that has the place in it, -1 if none has.

        :raises DwarfError: if the unit is damaged before it
        """
        return _holder(self.unit, self.place)


class Mentions:
    """Places of names in one file's units."""

    def __init__(self, dwarf: Dwarf) -> None:
        self._dwarf = dwarf
        self._referred: dict[bytes, Iterator[int]] = {}
        self._spelled: dict[bytes, Iterator[int]] = {}
        self._last: tuple[int, Unit] | None = None
        self._here: bool | None = None

    @property
    def _names_here(self) -> bool:
        """Whether all names are in this file, and its units are not packed."""
        if self._here is None:
            dwarf = self._dwarf
            self._here = not (
                dwarf.info.packed
                or dwarf.elf.section(".gnu_debugaltlink") is not None
                # -gsplit-dwarf keeps the names in other files.
                or b".dwo\0" in dwarf.strings.data
                or b".dwo\0" in dwarf.line_strings.data
            )
        return self._here

    @property
    def usable(self) -> bool:
        """Whether entries say where their names are, rather than their index in a table."""
        return self._names_here and self._dwarf.elf.section(".debug_str_offsets") is None

    def lack(self, name: bytes) -> bool:
        """Tell whether it is certain that nothing has the name: its bytes are not there."""
        return (
            self._names_here
            and next(self._dwarf.strings.places(name), None) is None
            and next(self._places_spelled(name), None) is None
        )

    def referred(self, name: bytes) -> Iterator[Mention]:
        """Yield the mentions of a name that is in the string section, in the units' order.

        :raises DwarfError: if there are too many, or a unit on the way cannot be read
        """
        return self._made(self._places_referred(name))

    def spelled(self, name: bytes) -> Iterator[Mention]:
        """Yield the mentions that have the name in place; errors are those of :meth:`referred`.

        Compilers put only names in place that are shorter than a reference, and some tools all.
        """
        return self._made(self._places_spelled(name))

    def anywhere(self, name: bytes) -> bool:
        """Tell whether there is any mention."""
        return (
            next(chain(self._places_referred(name), self._places_spelled(name)), None) is not None
        )

    def within(self, numbers: Iterable[int], name: bytes) -> list[int]:
        """Return those of some units that have a mention."""
        patterns = [name + b"\0", *self._references(name)]
        found = []
        for number in numbers:
            data = self._dwarf.unit(number, keep=False).data
            if any(next(occurrences(p, data), None) is not None for p in patterns):
                found.append(number)
        return found

    def _made(self, places: Iterator[int]) -> Iterator[Mention]:
        dwarf = self._dwarf
        for count, place in enumerate(places):
            if count == MAX_MENTIONS:
                raise DwarfError("a name with too many mentions", seen=f"{count} places")
            number = dwarf.chain.number_at(place)
            if self._last is None or self._last[0] != number:
                self._last = number, dwarf.unit(number, keep=False)
            unit = self._last[1]
            yield Mention(number, unit, place - unit.offset)

    def _places_referred(self, name: bytes) -> Iterator[int]:
        known = self._referred.get(name) or self._scan(self._references(name))
        known, self._referred[name] = tee(known)
        return known

    def _places_spelled(self, name: bytes) -> Iterator[int]:
        known = self._spelled.get(name) or self._scan([name + b"\0"])
        known, self._spelled[name] = tee(known)
        return known

    def _references(self, name: bytes) -> list[bytes]:
        strings, order = self._dwarf.strings, self._dwarf.byteorder
        places = list(strings.places(name))
        # Linkers let a name be the tail of a longer one only where it does not stand alone.
        whole = [at for at in places if at == 0 or strings.data[at - 1] == 0]
        if not whole and len(places) > MAX_TAILS:
            raise DwarfError("a name at the end of too many", seen=f"{len(places)} strings")
        # The low half is enough of a place in 64-bit DWARF.
        return [(at & 0xFFFF_FFFF).to_bytes(4, order) for at in whole or places]

    def _scan(self, patterns: list[bytes]) -> Iterator[int]:
        if not patterns:
            return
        info = self._dwarf.info
        keep = max(map(len, patterns)) - 1
        start, tail = 0, b""
        while read := info.read(start, _CHUNK):  # Less, where .debug_types starts.
            data = tail + read
            before = start - len(tail)
            found = {before + at for pattern in patterns for at in occurrences(pattern, data)}
            yield from sorted(found)
            start += len(read)
            tail = data[len(data) - keep :]


def _entries_named_at(unit: Unit, place: int) -> Iterator[tuple[int, Abbrev]]:
    """Yield offset and abbreviation of every entry whose name can be at a place."""
    data = unit.data
    for offset in range(place - 1, max(place - _BEFORE_NAME, unit.header.first) - 1, -1):
        try:
            code, end = uleb(data, offset)
            abbrev = unit.abbrevs[code] if code and end <= place else None
        except DwarfError:
            continue
        if abbrev is not None and abbrev.offsets.get(dw.AT_NAME) == place - end:
            yield offset, abbrev


def _holder(unit: Unit, place: int) -> int:
    root, data, plan = unit.root(), unit.data, Plan(unit, 0)
    number = Struct(unit.encoding.order + "I").unpack_from
    pos = root.end if root.abbrev.children else len(data)
    while pos <= place:
        start = pos
        code, pos = uleb(data, pos)
        if code == 0:
            break
        step = plan[code]
        sibling = number(data, pos + step.sibling_at)[0] if step.sibling_at >= 0 else 0
        if sibling > start:
            pos = sibling
        else:
            pos, inside = step.past(data, pos, number)
            if inside:
                pos = skip_children(unit, plan, pos)
        if pos > place:
            return start
    return -1
