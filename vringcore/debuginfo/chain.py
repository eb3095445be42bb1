"""All units of ``.debug_info`` by offset and by the name of their source file.

A unit's root entry is decoded by its own abbreviation only where that is cheap or in doubt: GCC
gives every unit its own table with the root's code deep inside it. Units of one compiler lay their
roots out alike, so the name's place is taken from one unit and tried on the others; what is read
there counts only if it is the start of a string, and is checked again when the unit is used.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from itertools import islice
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.damage import DAMAGE
from vringcore.debuginfo.leb import uleb
from vringcore.debuginfo.units import DWARF64, UnitHeader
from vringcore.errors import DwarfError, VringcoreError

if TYPE_CHECKING:
    from vringcore.debuginfo.dwarf import Dwarf
    from vringcore.debuginfo.strings import Strings
    from vringcore.debuginfo.units import Unit

_LONG = b"\xff\xff\xff\xff"

_HEAD = 64
"""Bytes read of each unit: its header and the start of its root entry."""

MAX_UNITS = 1 << 20


class UnitChain:
    """Where the units lie, in the section's order, and what their files are called."""

    def __init__(self, dwarf: Dwarf) -> None:
        self._dwarf = dwarf
        self._heads: list[bytes] = []
        self._names: dict[int, str] = {}
        self._places: tuple[list[tuple[Strings, list[tuple[int, int]]]], list[int]] | None = None
        self._ending: dict[str, list[int]] = {}
        self._signatures: dict[int, tuple[int, int]] | None = None
        self.offsets: list[int] = []
        info = dwarf.info
        self._read_headers(0, info.types_at)
        self._read_headers(info.types_at, info.size)

    def __len__(self) -> int:
        return len(self.offsets)

    def _read_headers(self, pos: int, size: int) -> None:
        read = self._dwarf.info.reader()
        length_of = struct.Struct(self._dwarf.order + "I").unpack_from
        offsets, heads = self.offsets, self._heads
        while pos < size:
            head = read(pos, _HEAD)
            if len(head) < 12:
                raise DwarfError(
                    "the debug information ends inside a unit's header",
                    where=f"unit at .debug_info+{pos:#x}",
                )
            length = length_of(head)[0]
            if not length:
                break  # Padding.
            offsets.append(pos)
            heads.append(head)
            pos += length + 4
            if length == DWARF64:
                pos = offsets[-1] + self.header(len(offsets) - 1).size
            if pos > size or len(offsets) > MAX_UNITS:
                raise DwarfError(
                    "a unit leaves its section",
                    where=f"unit at .debug_info+{offsets[-1]:#x}",
                    seen=f"{length} bytes",
                    expected=f"at most {size - offsets[-1]}",
                )

    def header(self, number: int) -> UnitHeader:
        """Return a unit's decoded header.

        :raises DwarfError: if it is of an unknown version
        """
        offset = self.offsets[number]
        types = offset >= self._dwarf.info.types_at
        return UnitHeader(self._heads[number], offset, self._dwarf.order, types=types)

    def type_unit(self, signature: int) -> tuple[int, int] | None:
        """Return the number of a type unit and where its type lies in it, None if there is none."""
        if self._signatures is None:
            self._signatures = {}
            for number, head in enumerate(self._heads):
                # In DWARF 5 the kind is the byte behind the length and the version.
                if self.offsets[number] >= self._dwarf.info.types_at or head[6] in (
                    dw.UT_TYPE, dw.UT_SPLIT_TYPE,
                ):  # fmt: skip
                    header = self.header(number)
                    self._signatures[header.signature] = (number, header.type_offset)
        return self._signatures.get(signature)

    def number_at(self, offset: int) -> int:
        """Return the number of the unit that starts at or before an offset, -1 if none does."""
        return bisect_right(self.offsets, offset) - 1

    def ending_with(self, suffix: str) -> list[int]:
        """Return the numbers of the units whose file's path ends with ``suffix`` (whole parts)."""
        known = self._ending.get(suffix)
        if known is None:
            known = self._ending[suffix] = self._find_ending(suffix)
        return known

    def _find_ending(self, suffix: str) -> list[int]:
        places, unplaced = self._name_places()
        numbers = [n for n in unplaced if _ends(self.name(n), suffix)]
        for strings, offsets in places:
            for at in strings.places(suffix.encode("utf-8", "surrogateescape")):
                # The name that ends here starts behind the NUL before it.
                first = bisect_left(offsets, (strings.start_before(at), 0))
                for _, number in islice(offsets, first, bisect_right(offsets, (at, MAX_UNITS))):
                    if _ends(self.name(number), suffix):
                        numbers.append(number)
        return sorted(set(numbers))

    def name(self, number: int) -> str:
        """Return a unit's source file, "" if it has none that could be read."""
        known = self._names.get(number)
        if known is None:
            try:
                known = self._dwarf.unit(number).name
            except (VringcoreError, *DAMAGE):
                known = ""
            self._names[number] = known
        return known

    def _name_places(self) -> tuple[list[tuple[Strings, list[tuple[int, int]]]], list[int]]:
        """Return (string section, sorted (offset of a name in it, unit)), and the units left over.

        To cut out a thousand names in order to compare their ends would take longer than all that
        is then done with the few that fit.
        """
        if self._places is None:
            guess: _Guess | None = None
            number = 0
            while guess is None and number < len(self):
                if self.name(number):
                    guess = _Guess.of(self._dwarf.unit(number))
                number += 1
            rows: list[tuple[int, int]] = []
            unplaced = list(range(number))
            if guess is not None:
                rows, others = guess.places(self._heads, number)
                unplaced += others
                rows.sort()
            self._places = ([(guess.strings, rows)] if guess is not None else []), unplaced
        return self._places


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("/" + suffix)


class _Guess:
    """Where the name lies in the root entries of one compiler's units."""

    def __init__(self, unit: Unit, at: int, form: int) -> None:
        dwarf, header = unit.dwarf, unit.header
        self._first = header.first
        self._at = at
        self._number = struct.Struct(dwarf.order + "I").unpack_from
        # Behind the length come the version and, in DWARF 5, the kind of unit.
        alike = struct.pack(dwarf.order + "H", header.version)
        self._alike = alike + bytes((header.kind,)) if header.version == 5 else alike
        self.strings = dwarf.strings if form == dw.FORM_STRP else dwarf.line_strings

    @classmethod
    def of(cls, unit: Unit) -> _Guess | None:
        if unit.header.offset_size != 4:
            return None
        abbrev = unit.root().abbrev
        form = abbrev.forms.get(dw.AT_NAME)
        at = abbrev.offsets.get(dw.AT_NAME)
        if at is None or form not in (dw.FORM_STRP, dw.FORM_LINE_STRP):
            return None
        return cls(unit, at, form)

    def places(self, heads: list[bytes], start: int) -> tuple[list[tuple[int, int]], list[int]]:
        """Return (where its name lies in the section, unit), and the units that are not told of.

        :param start: the first unit that is asked about
        """
        first, at, number, alike = self._first, self._at, self._number, self._alike
        alike_end = 4 + len(alike)
        data = self.strings.data
        rows: list[tuple[int, int]] = []
        unplaced: list[int] = []
        for unit, head in enumerate(heads[start:], start):
            if head[4:alike_end] == alike and head[:4] != _LONG:
                pos = first + 1 if head[first] < 0x80 else uleb(head, first)[1]
                offset = number(head, pos + at)[0]
                if 0 < offset < len(data) and not data[offset - 1] and data[offset]:
                    rows.append((offset, unit))
                    continue
            unplaced.append(unit)
        return rows, unplaced
