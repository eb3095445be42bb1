"""Variables and functions: where they lie, and of what type they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.elf import SHF_TLS
from vringcore.debuginfo.leb import uleb
from vringcore.debuginfo.typereader import VOID, children, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.typereader import TypeReader
    from vringcore.debuginfo.units import Entry, Unit
    from vringcore.layout.types import Type

MAX_DEPTH = 64

_SCOPES = frozenset({dw.TAG_LEXICAL_BLOCK})


class FoundVariable(msgspec.Struct, frozen=True):
    """A variable as one unit describes it; ``address`` is None where the unit does not tell."""

    name: str
    type: Type
    address: int | None
    thread_local: bool
    external: bool
    unit: str


class FoundFunction(msgspec.Struct, frozen=True):
    """A function with code of its own: link-time address and bytes of its main range."""

    name: str
    address: int
    size: int
    type: Type
    external: bool


def read_variable(types: TypeReader, entry: Entry) -> FoundVariable | None:
    """Return what an entry says of a variable; None if it is a constant or a mere declaration."""
    if entry.get(dw.AT_DECLARATION) or entry.get(dw.AT_CONST_VALUE) is not None:
        return None
    place = _place(entry)
    chain = list(_origins(entry))
    names = [n for e in chain if (n := e.name()) is not None]
    typed = next((e for e in chain if e.get(dw.AT_TYPE) is not None), None)
    if place is None and entry.get(dw.AT_LOCATION) is not None:
        return None  # On the stack, in registers, or optimised to pieces.
    return FoundVariable(
        name=text(names[0]) if names else "",
        type=VOID if typed is None else types.of(typed),
        address=None if place is None else place[0],
        thread_local=place is not None and place[1],
        external=any(bool(e.get(dw.AT_EXTERNAL)) for e in chain),
        # With link-time optimisation only the declaration knows the file.
        unit=chain[-1].unit.name,
    )


def _origins(entry: Entry) -> Iterator[Entry]:
    current: Entry | None = entry
    for _ in range(4):
        if current is None:
            return
        yield current
        current = current.reference(dw.AT_SPECIFICATION) or current.reference(dw.AT_ABSTRACT_ORIGIN)


def _place(entry: Entry) -> tuple[int, bool] | None:
    """Return the fixed address that DW_AT_location gives, and whether it is in the TLS block."""
    code = entry.get(dw.AT_LOCATION)
    if not isinstance(code, bytes) or not code:
        return None
    unit = entry.unit
    found = _operand(unit, code)
    if found is None:
        return None
    value, end = found
    rest = code[end:]
    if not rest:
        return (
            (value, False) if code[0] in (dw.OP_ADDR, dw.OP_ADDRX, dw.OP_GNU_ADDR_INDEX) else None
        )
    if rest in (bytes((dw.OP_GNU_PUSH_TLS_ADDRESS,)), bytes((dw.OP_FORM_TLS_ADDRESS,))):
        return _in_block(unit, value), True
    if rest[0] == dw.OP_PLUS_UCONST and code[0] in (dw.OP_ADDR, dw.OP_ADDRX):
        offset, stop = uleb(rest, 1)
        return (value + offset, False) if stop == len(rest) else None
    return None


def _operand(unit: Unit, code: bytes) -> tuple[int, int] | None:
    order = unit.dwarf.byteorder
    op, size = code[0], unit.encoding.address_size
    if op == dw.OP_ADDR:
        return int.from_bytes(code[1 : 1 + size], order), 1 + size
    if op in (dw.OP_CONST4U, dw.OP_CONST8U):
        size = 4 if op == dw.OP_CONST4U else 8
        return int.from_bytes(code[1 : 1 + size], order), 1 + size
    if op in (dw.OP_ADDRX, dw.OP_CONSTX, dw.OP_GNU_ADDR_INDEX, dw.OP_GNU_CONST_INDEX):
        index, end = uleb(code, 1)
        return unit.address(index), end
    return None


def _in_block(unit: Unit, value: int) -> int:
    """Return the offset in the block of thread-local variables.

    GCC puts it into the table of a unit that ``-gsplit-dwarf`` parted as if it were an address, so
    that the linker adds where the block's contents lie in the file.
    """
    if unit.skeleton is None:
        return value
    headers = [h for h in unit.skeleton.dwarf.elf.headers if h.flags & SHF_TLS]
    low = min((h.addr for h in headers), default=0)
    high = max((h.addr + h.size for h in headers), default=0)
    return value - low if value >= high - low and low <= value < high else value


def static_variables(subprogram: Entry) -> Iterator[Entry]:
    """Yield the variables declared in a function and its blocks, those on the stack included."""
    pending = [(subprogram, 0)]
    while pending:
        scope, depth = pending.pop()
        for child in children(scope):
            if child.tag == dw.TAG_VARIABLE:
                yield child
            elif child.tag in _SCOPES and depth < MAX_DEPTH:
                pending.append((child, depth + 1))


def read_function(types: TypeReader, entry: Entry) -> FoundFunction | None:
    """Return a function that has code of its own; None for one that was only inlined."""
    place = _code(entry)
    if place is None:
        return None
    low, size = place
    chain = list(_origins(entry))
    names = [n for e in chain if (n := e.name()) is not None]
    return FoundFunction(
        name=text(names[0]) if names else "",
        address=low,
        size=max(0, size),
        # The parameters of an inlined function's own copy have no types; their origins have.
        type=types.function(chain[-1]),
        external=any(bool(e.get(dw.AT_EXTERNAL)) for e in chain),
    )


def _code(entry: Entry) -> tuple[int, int] | None:
    """Return start and size of a function's code, of its first piece if there are more."""
    low = entry.address(dw.AT_LOW_PC)
    if low is None:
        ranges = entry.get(dw.AT_RANGES)
        if not isinstance(ranges, int):
            return None
        from vringcore.debuginfo.ranges import first_range

        return first_range(entry.unit, entry.abbrev.forms[dw.AT_RANGES], ranges)
    high = entry.get(dw.AT_HIGH_PC)
    size = 0
    if isinstance(high, int):
        # From DWARF 4 on a constant is the size, an address the end.
        form = entry.abbrev.forms[dw.AT_HIGH_PC]
        size = high - low if form == dw.FORM_ADDR else high
    return low, size
