"""Parameters and variables of the functions around an instruction.

DWARF 5, sections 2.6, 3.3.8 (inlined functions), 4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.callsites import BLOCKS, CALL_SITES, call_at, start_of
from vringcore.debuginfo.locations import expression_at, operations
from vringcore.debuginfo.ranges import base_of, code_of
from vringcore.debuginfo.typereader import TypeReader, children, text
from vringcore.errors import DwarfError
from vringcore.layout.scopes import Scope, ScopeFunction, ScopeVariable
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
    Void,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.units import Entry, Unit
    from vringcore.layout.scopes import CallSite, Expression

MAX_DEPTH = 64
MAX_VARIABLES = 10_000

_AT_FRAME_BASE = 0x40

_WRAPPERS = frozenset({
    dw.TAG_TYPEDEF, dw.TAG_CONST_TYPE, dw.TAG_VOLATILE_TYPE, dw.TAG_RESTRICT_TYPE,
    dw.TAG_ATOMIC_TYPE,
})  # fmt: skip

_SIZED = frozenset({dw.TAG_STRUCTURE_TYPE, dw.TAG_UNION_TYPE, dw.TAG_ARRAY_TYPE})


def read_scope(chain: list[Entry], address: int, *, all_variables: bool) -> Scope:
    """Return the parameters, with ``all_variables`` the local variables too, at an address.

    :param chain: the function around a link-time address and what is inlined there, the innermost
        last
    :raises DwarfError, IndexError, struct.error: if what describes them is damaged
    """
    outer = chain[0]
    reader = _Reader(outer.unit, address, all_variables=all_variables)
    functions = tuple(reader.function(entry) for entry in reversed(chain))
    frame_base = expression_at(outer, _AT_FRAME_BASE, address)
    return Scope(functions, start_of(outer), operations(outer.unit, frame_base), reader.call)


class _Reader:
    def __init__(self, unit: Unit, address: int, *, all_variables: bool) -> None:
        self._address = address
        self._base = base_of(unit)
        self._all = all_variables
        self._types = TypeReader(lambda _key, _entry: "")
        self._count = 0
        self.call: CallSite | None = None

    def function(self, entry: Entry) -> ScopeFunction:
        """Return a function's variables: parameters in the order of the source, then others.

        An inlined function's own entries tell places, those of its origin all that there are.
        """
        found: dict[int, Entry] = {}
        own: list[Entry] = []
        for child in self._inside(entry, 0):
            origin = child.reference(dw.AT_ABSTRACT_ORIGIN)
            if origin is None:
                own.append(child)
            else:
                found[origin.unit.offset + origin.offset] = child
        abstract = entry.reference(dw.AT_ABSTRACT_ORIGIN)
        variables = [self._variable(child, child) for child in own]
        if abstract is not None:
            for each in self._inside(abstract, 0, everywhere=True):
                place = found.pop(each.unit.offset + each.offset, None)
                # In a block that is not around the instruction, or has no code left.
                if place is None and each.tag != dw.TAG_FORMAL_PARAMETER:
                    continue
                variables.append(self._variable(each, place))
        ordered = sorted(variables, key=lambda variable: not variable.parameter)
        name = (abstract or entry).name()
        return ScopeFunction(text(name), tuple(ordered))

    def _inside(self, entry: Entry, depth: int, *, everywhere: bool = False) -> Iterator[Entry]:
        """Yield the parameters and variables in force; note the call on the way."""
        if depth > MAX_DEPTH:
            raise DwarfError("entries nested too deeply", where=entry.unit.where(entry.offset))
        for child in children(entry):
            tag = child.tag
            if tag == dw.TAG_FORMAL_PARAMETER or (
                # A parameter that a clone of the function does not take is a variable in it.
                tag == dw.TAG_VARIABLE
                and (self._all or child.get(dw.AT_ABSTRACT_ORIGIN) is not None)
            ):
                self._count += 1
                if self._count > MAX_VARIABLES:
                    raise DwarfError("a function with too many variables")
                yield child
            elif tag in BLOCKS and (everywhere or self._covers(child)):
                if self._all or not everywhere:
                    yield from self._inside(child, depth + 1, everywhere=everywhere)
            elif tag in CALL_SITES and self.call is None and not everywhere:
                self.call = call_at(child, self._address)

    def _covers(self, entry: Entry) -> bool:
        pieces = code_of(entry, self._base)
        return any(start <= self._address < start + size for start, size in pieces)

    # Variables

    def _variable(self, entry: Entry, place: Entry | None) -> ScopeVariable:
        """Return a variable.

        :param entry: what tells its name and type
        :param place: what tells its place, None if nothing does
        """
        location: Expression = ()
        constant = None
        if place is not None:
            code = expression_at(place, dw.AT_LOCATION, self._address)
            location = operations(place.unit, code)
            constant = _constant(place)
        shape, size = self._shape(entry)
        return ScopeVariable(
            name=text(entry.name()),
            type=spelled(self._types.of(entry)),
            shape=shape,
            size=size,
            parameter=entry.tag == dw.TAG_FORMAL_PARAMETER,
            location=location,
            constant=constant,
        )

    def _shape(self, entry: Entry) -> tuple[Type, int]:
        """Return what an entry's type is below typedefs, and its size in bytes."""
        inner = entry.reference(dw.AT_TYPE)
        for _ in range(MAX_DEPTH):
            if inner is None:
                return Void(), 0
            if inner.tag not in _WRAPPERS:
                break
            inner = inner.reference(dw.AT_TYPE)
        if inner is None or inner.tag in _WRAPPERS:
            return Void(), 0
        size = inner.integer(dw.AT_BYTE_SIZE)
        if inner.tag == dw.TAG_POINTER_TYPE:
            size = size or inner.unit.encoding.address_size
            return Pointer(Void(), size), size
        if inner.tag == dw.TAG_ENUMERATION_TYPE:
            definition = self._types.definition(inner.unit, inner.offset)
            return (definition, definition.size) if isinstance(definition, Enum) else (Void(), 0)
        if inner.tag == dw.TAG_BASE_TYPE:
            return self._types.type_at(inner.unit, inner.offset), size or 0
        return Void(), size or 0 if inner.tag in _SIZED else 0


def _constant(entry: Entry) -> int | None:
    value = entry.get(dw.AT_CONST_VALUE)
    if isinstance(value, bytes):
        return int.from_bytes(value, entry.unit.dwarf.byteorder) if len(value) <= 8 else None
    return value if isinstance(value, int) else None


# Types in words


def spelled(type_: Type, inner: str = "", depth: int = 0) -> str:
    """Return a type as C declares it, without what structures hold.

    :param inner: what is declared, in words
    """
    if depth > MAX_DEPTH:
        return inner
    if isinstance(type_, Pointer):
        outer = type_.to
        bound = isinstance(outer, Array | Function)
        return spelled(outer, f"(*{inner})" if bound else f"*{inner}", depth + 1)
    if isinstance(type_, Array):
        count = "" if type_.count is None else type_.count
        return spelled(type_.of, f"{inner}[{count}]", depth + 1)
    if isinstance(type_, Function):
        words = [spelled(each, "", depth + 1) for each in type_.parameters]
        words += ["..."] if type_.variadic else []
        given = ", ".join(words) or ("void" if type_.prototyped else "")
        return spelled(type_.returns, f"{inner}({given})", depth + 1)
    if isinstance(type_, Qualified):
        if isinstance(type_.of, Pointer):
            return spelled(type_.of, f" {type_.qualifier}{' ' if inner else ''}{inner}", depth + 1)
        return f"{type_.qualifier} {spelled(type_.of, inner, depth + 1)}"
    name = _plain(type_)
    return f"{name} {inner.lstrip()}" if inner else name


def _plain(type_: Type) -> str:
    if isinstance(type_, Void):
        return "void"
    if isinstance(type_, Base):
        return type_.name
    if isinstance(type_, Named):
        return type_.name if type_.kind == "typedef" else f"{type_.kind} {type_.name}"
    if isinstance(type_, Enum):
        return f"enum {type_.name or '{...}'}"
    kind = type_.kind if isinstance(type_, Record) else "?"
    name = type_.name if isinstance(type_, Record) else None
    return f"{kind} {name or '{...}'}"
