"""``ptype``, ``ptype /o`` and ``whatis`` as gdb 13 writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import LimitError
from vringcore.expr.typename import Speller, peeled, unqualified
from vringcore.layout.types import Enum, Named, Record

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Member, Type

MAX_LINES = 1 << 16
INDENT = 4
MARGIN = 27
"""Columns of ``/* offset | size */`` that lines without a member leave blank."""

HEADER = "/* offset      |    size */  "


def ptype(layouts: Layouts, type_: Type, *, offsets: bool = False) -> str:
    """Return what a type is: ``type = struct VirtQueue {`` and its members.

    :param offsets: write each member's offset and size, and the holes between them
    :raises LayoutMissingError: if a type in it is not known
    """
    core = unqualified(type_)[1]
    record = isinstance(core, Record) or (
        isinstance(core, Named) and core.kind in ("struct", "union")
    )
    header = HEADER if offsets and record else ""
    return f"{header}type = {_Writer(layouts, offsets=offsets).declaration(type_, show=1)}"


def whatis(layouts: Layouts, type_: Type, *, named: bool = False) -> str:
    """Return a type's name.

    :param named: the type was given by its name, not as an expression's: a typedef is then
        shown as what it stands for, one level down
    """
    if named:
        qualifiers, core = unqualified(type_)
        inner = peeled(layouts, core)
        if inner is not None and not qualifiers:
            type_ = inner
    return f"type = {Speller(layouts).declaration(type_)}"


class _Place:
    """How far the offsets written so far reach; all in bits.

    ``start`` is where the record being written lies in the outermost one, ``end`` is where its
    last member ended.
    """

    __slots__ = ("end", "start")

    def __init__(self) -> None:
        self.start = 0
        self.end = 0


class _Writer(Speller):
    def __init__(self, layouts: Layouts, *, offsets: bool) -> None:
        super().__init__(layouts)
        self._offsets = offsets
        self._place = _Place()
        self._left = MAX_LINES

    def body(self, core: Named | Record | Enum, show: int, level: int) -> str:
        definition = self._definition(core)
        if isinstance(definition, Enum):
            return _enumerators(definition)
        margin = " " * MARGIN if self._offsets else ""
        indent = margin + " " * (level + INDENT)
        lines = []
        if definition is None:
            lines.append(f"{indent}<incomplete type>\n")
        elif not definition.members:
            lines.append(f"{indent}<no data fields>\n")
        else:
            lines = self._members(definition, show, level)
        if self._offsets:
            if show > 0:
                size = definition.size if definition is not None else 0
                lines.append(_hole(self._place.end, 8 * size, "padding"))
                lines.append(f"\n{indent}/* total size (bytes): {size:4} */\n")
            lines.append(margin + "  " * (level == 0))
        return "{\n" + "".join(lines) + " " * level + "}"

    def _definition(self, core: Named | Record | Enum) -> Record | Enum | None:
        if not isinstance(core, Named):
            return core
        found = self.layouts.find_definition(core.key)
        return found if isinstance(found, Record | Enum) else None

    def _members(self, record: Record, show: int, level: int) -> list[str]:
        here, inner = self._place, _Place()
        union = record.kind == "union"
        lines = []
        for member in record.members:
            self._left -= 1
            if self._left < 0:
                raise LimitError("a type of too many members", expected=f"at most {MAX_LINES}")
            detail = show - 1
            line = ""
            if self._offsets:
                line = self._offset(member, here, union=union)
                core = unqualified(member.type)[1]
                if isinstance(core, Record) or (
                    isinstance(core, Named) and core.kind in ("struct", "union")
                ):
                    detail = show
                    inner.start = here.start + 8 * member.offset
                    inner.end = here.end - 8 * self.layouts.size_of(core)
            self._place = inner
            line += " " * (level + INDENT) + self.declaration(
                member.type, member.name or "", detail, level + INDENT
            )
            self._place = here
            bits = "" if member.bit_size is None else f" : {member.bit_size}"
            lines.append(f"{line}{bits};\n")
        return lines

    def _offset(self, member: Member, place: _Place, *, union: bool) -> str:
        """Return the comment before a member, and the hole before it if there is one."""
        size = self.layouts.size_of(member.type)
        if union:
            return f"/*                {size:6} */"
        bit = 8 * member.offset + member.bit_offset
        hole = _hole(place.end, bit, "hole")
        at, width = bit + place.start, 8 * size
        if member.bit_size is not None or place.start % 8:
            width = member.bit_size or 0
            where = f"/* {at // 8:6}:{at % 8:2}   |"
        else:
            where = f"/* {at // 8:6}      |"
        place.end = bit + width
        return f"{hole}{where}  {size:6} */"


def _hole(end: int, bit: int, what: str) -> str:
    """Return the lines for the bits between two members, "" if there are none."""
    if not 0 < end < bit:
        return ""
    size, bits = divmod(bit - end, 8)
    text = f"/* XXX {bits:2}-bit {what:7}    */\n" if bits else ""
    return text + (f"/* XXX {size:2}-byte {what:7}   */\n" if size else "")


def _enumerators(enum: Enum) -> str:
    words = []
    following = 0
    for name, value in enum.enumerators.items():
        words.append(name if value == following else f"{name} = {value}")
        following = value + 1
    return "{" + ", ".join(words) + "}"
