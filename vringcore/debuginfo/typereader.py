"""From type entries of DWARF to :mod:`vringcore.layout.types`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.members import read_members
from vringcore.debuginfo.units import Entry
from vringcore.errors import DwarfError
from vringcore.layout.types import (
    Array,
    Base,
    Enum,
    Function,
    Named,
    Pointer,
    Qualified,
    Record,
    Type,
    Typedef,
    Void,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vringcore.debuginfo.units import Unit
    from vringcore.layout.types import Definition, DefinitionKind, Encoding, RecordKind

MAX_DEPTH = 100
MAX_CHILDREN = 1 << 16

VOID = Void()

_QUALIFIERS = {
    dw.TAG_CONST_TYPE: "const",
    dw.TAG_VOLATILE_TYPE: "volatile",
    dw.TAG_RESTRICT_TYPE: "restrict",
    dw.TAG_ATOMIC_TYPE: "_Atomic",
}

_NAMED: dict[int, DefinitionKind] = {
    dw.TAG_STRUCTURE_TYPE: "struct",
    dw.TAG_UNION_TYPE: "union",
    dw.TAG_ENUMERATION_TYPE: "enum",
    dw.TAG_TYPEDEF: "typedef",
}

_ENCODINGS: dict[int, Encoding] = {
    dw.ATE_BOOLEAN: "bool",
    dw.ATE_COMPLEX_FLOAT: "complex",
    dw.ATE_FLOAT: "float",
    dw.ATE_SIGNED: "signed",
    dw.ATE_SIGNED_CHAR: "signed-char",
    dw.ATE_UNSIGNED: "unsigned",
    dw.ATE_UNSIGNED_CHAR: "unsigned-char",
    dw.ATE_UTF: "utf",
}


class TypeReader:
    """Reads types of one file.

    ``met`` is told of every complete named type that a type refers to, so that it need not be
    searched for later. It answers with the file to add to the name, if another file has a
    different type of that name, else "".
    """

    def __init__(self, met: Callable[[str, Entry], str]) -> None:
        self._met = met
        self._depth = 0

    def definition(self, unit: Unit, offset: int) -> Definition:
        """Return the definition of a struct, union, enum or typedef entry.

        :raises DwarfError: if the entry is of another kind, or damaged
        """
        entry = Entry(unit, offset)
        if entry.tag == dw.TAG_TYPEDEF:
            return Typedef(text(entry.name()), self.of(entry))
        if entry.tag == dw.TAG_ENUMERATION_TYPE:
            return self._enum(entry)
        if entry.tag in (dw.TAG_STRUCTURE_TYPE, dw.TAG_UNION_TYPE):
            return self._record(entry)
        raise DwarfError(
            "no type definition where one was expected",
            where=unit.where(offset),
            seen=f"tag {entry.tag:#x}",
        )

    def of(self, entry: Entry, at: int = dw.AT_TYPE) -> Type:
        """Return the type that an entry refers to; void if it has no such attribute."""
        value = entry.get(at)
        if value is None:
            return VOID
        return self.type_at(*entry.unit.target(entry.abbrev.forms[at], value))

    def type_at(self, unit: Unit, offset: int) -> Type:
        """Return the type that the entry at an offset describes.

        :raises DwarfError: if the entry is no type, is damaged, or refers to itself
        """
        known = unit.types.get(offset)
        if known is not None:
            return known
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._depth = 0
            raise DwarfError("a type that leads back to itself", where=unit.where(offset))
        built = unit.types[offset] = self._build(Entry(unit, offset))
        self._depth -= 1
        return built

    def _build(self, entry: Entry) -> Type:
        tag = entry.tag
        if tag in _NAMED:
            return self._named(entry, _NAMED[tag])
        if tag == dw.TAG_POINTER_TYPE:
            size = entry.integer(dw.AT_BYTE_SIZE)
            return Pointer(self.of(entry), size or entry.unit.encoding.address_size)
        if tag == dw.TAG_BASE_TYPE:
            return _base(entry)
        if tag in _QUALIFIERS:
            return Qualified(_QUALIFIERS[tag], self.of(entry))
        if tag == dw.TAG_ARRAY_TYPE:
            return self._array(entry)
        if tag == dw.TAG_SUBROUTINE_TYPE:
            return self.function(entry)
        if tag == dw.TAG_UNSPECIFIED_TYPE:
            return VOID
        raise DwarfError(
            "an entry that is no type of C",
            where=entry.unit.where(entry.offset),
            seen=f"tag {tag:#x}",
        )

    def _named(self, entry: Entry, kind: DefinitionKind) -> Type:
        name = entry.name()
        if name is None:
            return self._enum(entry) if kind == "enum" else self._record(entry)
        named = Named(kind, text(name))
        signature = entry.get(dw.AT_SIGNATURE)
        if signature is not None:
            entry = Entry(*entry.unit.target(dw.FORM_REF_SIG8, signature))
        elif entry.get(dw.AT_DECLARATION):
            return named
        unit = self._met(named.key, entry)
        return Named(kind, named.name, unit) if unit else named

    def _record(self, entry: Entry) -> Record:
        name = entry.name()
        signature = entry.get(dw.AT_SIGNATURE)
        if signature is not None:
            entry = Entry(*entry.unit.target(dw.FORM_REF_SIG8, signature))
        kind: RecordKind = "union" if entry.tag == dw.TAG_UNION_TYPE else "struct"
        size = entry.integer(dw.AT_BYTE_SIZE)
        if size is None:
            raise DwarfError(
                f"{kind} {text(name)} has no size",
                where=entry.unit.where(entry.offset),
                hint="it is only declared here",
            )
        members = tuple(read_members(self, entry, size))
        return Record(kind, None if name is None else text(name), size, members)

    def _enum(self, entry: Entry) -> Enum:
        name = entry.name()
        size = entry.integer(dw.AT_BYTE_SIZE)
        underlying = entry.reference(dw.AT_TYPE)
        encoding = entry.integer(dw.AT_ENCODING)
        while underlying is not None and encoding is None:
            encoding = underlying.integer(dw.AT_ENCODING)
            size = underlying.integer(dw.AT_BYTE_SIZE) if size is None else size
            if encoding is None:
                underlying = self._deeper(underlying)
        values: dict[str, int] = {}
        negative = False
        for child in children(entry):
            value = child.get(dw.AT_CONST_VALUE)
            if child.tag != dw.TAG_ENUMERATOR or not isinstance(value, int):
                continue
            if child.abbrev.forms[dw.AT_CONST_VALUE] == dw.FORM_DATA8 and value >> 63:
                # Eight bytes carry no sign of their own; the type's encoding tells, if it is there.
                value -= 0 if encoding == dw.ATE_UNSIGNED else 1 << 64
            negative = negative or value < 0
            values[text(child.name())] = value
        signed = negative if encoding is None else encoding in (dw.ATE_SIGNED, dw.ATE_SIGNED_CHAR)
        return Enum(None if name is None else text(name), size or 0, signed, values)

    def _deeper(self, entry: Entry) -> Entry | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._depth = 0
            raise DwarfError(
                "a type that leads back to itself", where=entry.unit.where(entry.offset)
            )
        inner = entry.reference(dw.AT_TYPE)
        self._depth -= 1
        return inner

    def _array(self, entry: Entry) -> Type:
        type_ = self.of(entry)
        counts = [_count(c) for c in children(entry) if c.tag == dw.TAG_SUBRANGE_TYPE]
        for count in reversed(counts or [None]):
            type_ = Array(type_, count)
        return type_

    def function(self, entry: Entry) -> Function:
        """Return the type of a subroutine type or of a subprogram."""
        parameters = []
        variadic = False
        for child in children(entry):
            if child.tag == dw.TAG_FORMAL_PARAMETER:
                parameters.append(self.of(child))
            elif child.tag == dw.TAG_UNSPECIFIED_PARAMETERS:
                variadic = True
        prototyped = bool(entry.get(dw.AT_PROTOTYPED)) or bool(parameters)
        return Function(self.of(entry), tuple(parameters), variadic, prototyped)

    def byte_size(self, entry: Entry) -> int:
        """Return the size of the type that a member refers to, without building it.

        :raises DwarfError: if it has none
        """
        for _ in range(MAX_DEPTH):
            inner = entry.reference(dw.AT_TYPE)
            if inner is None:
                break
            size = inner.integer(dw.AT_BYTE_SIZE)
            if size is not None:
                return size
            entry = inner
        raise DwarfError(
            "a bit-field of a type without a size", where=entry.unit.where(entry.offset)
        )


def children(entry: Entry) -> Iterator[Entry]:
    """Yield the entries right below an entry.

    :raises DwarfError: if there are more than any C source has
    """
    if not entry.abbrev.children:
        return
    from vringcore.debuginfo.toplevel import skip_children

    unit, pos = entry.unit, entry.end
    data, end = unit.data, len(unit.data)
    for _ in range(MAX_CHILDREN):
        if pos >= end or data[pos] == 0:
            return
        child = Entry(unit, pos)
        yield child
        pos = child.end
        if child.abbrev.children:
            sibling = child.get(dw.AT_SIBLING)
            ahead = isinstance(sibling, int) and sibling > pos
            pos = sibling if ahead else skip_children(unit, None, pos)
    raise DwarfError("an entry with too many children", where=unit.where(entry.offset))


def _count(entry: Entry) -> int | None:
    count = entry.integer(dw.AT_COUNT)
    if count is not None:
        return count
    last = entry.integer(dw.AT_UPPER_BOUND)
    if last is None:
        return None
    # An array of no elements ends at -1, which eight unsigned bytes may say.
    return 0 if last >> 63 else last + 1


def _base(entry: Entry) -> Base:
    name = text(entry.name())
    code = entry.integer(dw.AT_ENCODING)
    encoding = _ENCODINGS.get(code if code is not None else 0, "unsigned")
    if name == "char" and encoding == "signed-char":
        encoding = "char"
    return Base(name, entry.integer(dw.AT_BYTE_SIZE) or 0, encoding)


def text(name: bytes | None) -> str:
    """Return a name as text; bytes that are no UTF-8 as ``\\xNN``."""
    return "" if name is None else name.decode("utf-8", "backslashreplace")
