"""The walk over the entries right below a unit's root: which names it defines, and where."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.damage import DAMAGE
from vringcore.debuginfo.leb import uleb
from vringcore.debuginfo.units import UNIT_REFERENCES, Entry
from vringcore.errors import DwarfError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.debuginfo.abbrev import Abbrev
    from vringcore.debuginfo.units import Unit

STRUCT = 1
UNION = 2
ENUM = 4
TYPEDEF = 8
VARIABLE = 16
FUNCTION = 32
EVERYTHING = 63

KINDS = {"struct": STRUCT, "union": UNION, "enum": ENUM, "typedef": TYPEDEF}

_KIND_OF_TAG = {
    dw.TAG_STRUCTURE_TYPE: STRUCT,
    dw.TAG_UNION_TYPE: UNION,
    dw.TAG_ENUMERATION_TYPE: ENUM,
    dw.TAG_TYPEDEF: TYPEDEF,
    dw.TAG_VARIABLE: VARIABLE,
    dw.TAG_SUBPROGRAM: FUNCTION,
}

_MAX_DEPTH = 4096


class Step:
    """How the walk handles entries of one abbreviation.

    ``skip`` is the size of an entry that has no children and no name to note, else -1.
    """

    __slots__ = (
        "abbrev", "after_block", "block_at", "imports", "kind", "name_at", "sibling", "sibling_at",
        "size", "skip",
    )  # fmt: skip

    def __init__(self, abbrev: Abbrev, mask: int, offset_size: int) -> None:
        declaration = dw.AT_DECLARATION in abbrev.forms
        kind = 0 if declaration else _KIND_OF_TAG.get(abbrev.tag, 0) & mask
        if kind & (STRUCT | UNION | ENUM | TYPEDEF) and dw.AT_NAME not in abbrev.forms:
            kind = 0
        self.abbrev = abbrev
        self.kind = kind
        self.imports = abbrev.tag == dw.TAG_IMPORTED_UNIT
        self.size = abbrev.size
        plain = kind == 0 and not abbrev.children and not self.imports
        self.skip = abbrev.size if plain else -1
        fixed = abbrev.forms.get(dw.AT_NAME) == dw.FORM_STRP and offset_size == 4
        self.name_at = abbrev.offsets.get(dw.AT_NAME, -1) if fixed else -1
        form = abbrev.forms.get(dw.AT_SIBLING)
        self.sibling_at = abbrev.offsets.get(dw.AT_SIBLING, -1) if form == dw.FORM_REF4 else -1
        self.sibling = abbrev.place(dw.AT_SIBLING) if form in UNIT_REFERENCES else -1
        self.block_at = abbrev.block_at if form == dw.FORM_REF4 else -1
        self.after_block = abbrev.after_block.get(dw.AT_SIBLING, -1) if self.block_at >= 0 else -1

    def past(
        self, data: bytes, pos: int, number: Callable[[bytes, int], tuple[int]]
    ) -> tuple[int, bool]:
        """Return where to go on after the attributes at ``pos``, and whether at a child."""
        if self.after_block >= 0:
            length = data[pos + self.block_at]
            if length < 0x80:
                at = pos + self.block_at + 1 + length + self.after_block
                sibling = number(data, at)[0]
                if sibling > at:
                    return sibling, False
        if self.size >= 0 and self.sibling < 0:
            return pos + self.size, self.abbrev.children
        values, end = self.abbrev.read(data, pos)
        if self.sibling < 0:
            return end, self.abbrev.children
        after: int = values[self.sibling]
        if after < end:
            raise DwarfError("a sibling before its entry", seen=f"offset {after:#x}")
        return after, False


class Plan(dict[int, Step]):
    __slots__ = ("_mask", "_unit")

    def __init__(self, unit: Unit, mask: int) -> None:
        super().__init__()
        self._unit = unit
        self._mask = mask

    def __missing__(self, code: int) -> Step:
        abbrev = self._unit.abbrevs[code]
        step = abbrev.steps.get(self._mask)
        if step is None:
            step = abbrev.steps[self._mask] = Step(
                abbrev, self._mask, self._unit.header.offset_size
            )
        self[code] = step
        return step


class TopLevel:
    """The names that a unit defines at file scope, of the kinds in ``mask``.

    The walk goes no further than it must: a unit's types come before its functions, which are most
    of it. One that meets damage starts anew when something is asked again.
    """

    __slots__ = ("_found", "_imports", "_plan", "_pos", "_unit", "mask")

    def __init__(self, unit: Unit, mask: int) -> None:
        self.mask = mask
        self._unit = unit
        self._plan = Plan(unit, mask)
        self._begin()

    def _begin(self) -> None:
        root = self._unit.root()
        self._found: dict[int, dict[bytes, list[int]]] = {
            kind: {} for kind in _KIND_OF_TAG.values() if kind & self.mask
        }
        self._imports: list[tuple[int, int]] = []
        self._pos = root.end if root.abbrev.children else len(self._unit.data)

    @property
    def found(self) -> dict[int, dict[bytes, list[int]]]:
        """All names by kind, each with the offsets of its entries in the unit's order."""
        self._go_on()
        return self._found

    @property
    def imports(self) -> list[tuple[int, int]]:
        """The units that this one includes (dwz): form and raw value of each reference."""
        self._go_on()
        return self._imports

    def find(self, kind: int, name: bytes) -> Iterator[int]:
        """Yield the offsets of the entries of a name, in the unit's order."""
        offsets = self._found[kind].get(name, [])
        told = 0
        while told < len(offsets) or self._go_on(kind, name):
            offsets = self._found[kind].get(name, [])
            yield offsets[told]
            told += 1

    def _go_on(self, kind: int = 0, name: bytes = b"") -> bool:
        """Walk on behind the next entry of a name, to the unit's end if there is none."""
        try:
            return self._walk(kind, name)
        except (DwarfError, *DAMAGE):
            self._begin()
            raise

    def _walk(self, wanted: int, wanted_name: bytes) -> bool:  # noqa: C901 - one loop: it passes millions of entries
        unit, plan, found = self._unit, self._plan, self._found
        data, end = unit.data, len(unit.data)
        number = struct.Struct(unit.encoding.order + "I").unpack_from
        strings = unit.dwarf.strings
        pos, met = self._pos, False
        # An unterminated list of children ends with the unit; producers do leave out the last 0.
        while pos < end and not met:
            start = pos
            code = data[pos]
            pos += 1
            if code >= 0x80:
                code, pos = uleb(data, start)
            if code == 0:
                pos = end
                break
            step = plan[code]
            if step.skip >= 0:
                pos += step.skip
                continue
            if step.kind:
                if step.name_at >= 0:
                    name: bytes | None = strings[number(data, pos + step.name_at)[0]]
                else:
                    name = name_of(Entry(unit, start))
                if name is not None:
                    found[step.kind].setdefault(name, []).append(start)
                    met = step.kind == wanted and name == wanted_name
            elif step.imports:
                entry = Entry(unit, start)
                self._imports.append((entry.abbrev.forms[dw.AT_IMPORT], entry.get(dw.AT_IMPORT)))
            if step.sibling_at >= 0:
                sibling = number(data, pos + step.sibling_at)[0]
                if sibling > start:
                    pos = sibling
                    continue
            pos, inside = step.past(data, pos, number)
            if inside:
                pos = skip_children(unit, plan, pos)
        self._pos = pos
        return met


def name_of(entry: Entry) -> bytes | None:
    """Return an entry's name: its own, or that of the declaration it completes."""
    for _ in range(4):
        name = entry.name()
        if name is not None:
            return name
        origin = entry.reference(dw.AT_SPECIFICATION) or entry.reference(dw.AT_ABSTRACT_ORIGIN)
        if origin is None:
            return None
        entry = origin
    return None


def skip_children(unit: Unit, plan: Plan | None, pos: int) -> int:  # noqa: C901 - as above
    """Return where the entry after a list of children starts; ``pos`` is at the first child.

    :raises DwarfError: if entries are nested beyond reason
    """
    if plan is None:
        plan = Plan(unit, 0)
    data, end = unit.data, len(unit.data)
    number = struct.Struct(unit.encoding.order + "I").unpack_from
    depth = 1
    while pos < end:
        start = pos
        code = data[pos]
        pos += 1
        if code >= 0x80:
            code, pos = uleb(data, start)
        if code == 0:
            depth -= 1
            if depth == 0:
                break
            continue
        step = plan[code]
        if step.skip >= 0:
            pos += step.skip
            continue
        if step.sibling_at >= 0:
            sibling = number(data, pos + step.sibling_at)[0]
            if sibling > start:
                pos = sibling
                continue
        pos, inside = step.past(data, pos, number)
        if inside:
            depth += 1
            if depth > _MAX_DEPTH:
                raise DwarfError("entries nested too deeply", where=unit.where(start))
    return pos
