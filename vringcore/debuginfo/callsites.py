"""Calls: where they lead to, what they pass, and which of them leave no frame (tail calls).

DWARF 5, section 3.4, and GNU's numbers for the same in DWARF 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.debuginfo import constants as dw
from vringcore.debuginfo.locations import operations
from vringcore.debuginfo.ranges import code_of
from vringcore.debuginfo.typereader import children, text
from vringcore.errors import DwarfError
from vringcore.layout.scopes import CallSite, Passed, TailCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.debuginfo.units import Entry

MAX_DEPTH = 64
MAX_ENTRIES = 100_000
"""Entries of one function that are looked through for tail calls."""

_AT_CALL_RETURN_PC, _AT_CALL_VALUE, _AT_CALL_ORIGIN = 0x7D, 0x7E, 0x7F
_AT_CALL_TAIL_CALL, _AT_CALL_TARGET = 0x82, 0x83
_AT_GNU_CALL_VALUE, _AT_GNU_CALL_TARGET, _AT_GNU_TAIL_CALL = 0x2111, 0x2113, 0x2115

_COMPLETE = (0x7A, 0x7C, 0x2116, 0x2117)
"""Attributes of a function whose tail calls are all described: of all calls, of all tail calls."""

CALL_SITES = frozenset({0x48, 0x4109})
_CALL_PARAMETERS = frozenset({0x49, 0x410A})

BLOCKS = frozenset({dw.TAG_LEXICAL_BLOCK, dw.TAG_TRY_BLOCK, dw.TAG_CATCH_BLOCK})
_INSIDE = BLOCKS | {dw.TAG_INLINED_SUBROUTINE}


def start_of(function: Entry) -> int | None:
    """Return where a function's code begins, None if it has none of its own."""
    return next((low for low, size in code_of(function) if size > 0), None)


def call_at(entry: Entry, address: int) -> CallSite | None:
    """Return a call that returns behind a link-time address, None if this is another."""
    if _back(entry) != address + 1:
        return None
    callee = _callee(entry)
    target = entry.get(_AT_CALL_TARGET) or entry.get(_AT_GNU_CALL_TARGET)
    passed = []
    for child in children(entry):
        if child.tag in _CALL_PARAMETERS:
            place = child.get(dw.AT_LOCATION)
            value = child.get(_AT_CALL_VALUE) or child.get(_AT_GNU_CALL_VALUE)
            if isinstance(place, bytes) and isinstance(value, bytes):
                unit = child.unit
                passed.append(Passed(operations(unit, place), operations(unit, value)))
    return CallSite(
        passed=tuple(passed),
        name=_declared(callee),
        address=None if callee is None else start_of(callee),
        target=operations(entry.unit, target) if isinstance(target, bytes) else (),
    )


def tail_calls(function: Entry) -> Iterator[TailCall]:
    """Yield the tail calls of a function, none if it is not said that all are described.

    :raises DwarfError, IndexError, struct.error: if its entries are damaged
    """
    if any(_flag(function, at) for at in _COMPLETE):
        yield from _inside(function, [MAX_ENTRIES], 0)


def _inside(entry: Entry, left: list[int], depth: int) -> Iterator[TailCall]:
    if depth > MAX_DEPTH:
        raise DwarfError("entries nested too deeply", where=entry.unit.where(entry.offset))
    for child in children(entry):
        left[0] -= 1
        if left[0] < 0:
            raise DwarfError("a function with too many entries", expected=f"{MAX_ENTRIES}")
        if child.tag in _INSIDE:
            yield from _inside(child, left, depth + 1)
        elif child.tag in CALL_SITES and any(
            _flag(child, at) for at in (_AT_CALL_TAIL_CALL, _AT_GNU_TAIL_CALL)
        ):
            back, callee = _back(child), _callee(child)
            pointer = child.get(_AT_CALL_TARGET) or child.get(_AT_GNU_CALL_TARGET)
            if back is None:
                continue
            if pointer or callee is None:
                yield TailCall(back)
            else:
                yield TailCall(back, start_of(callee), _declared(callee))


def _flag(entry: Entry, at: int) -> bool:
    if entry.get(at):
        return True
    origin = entry.reference(dw.AT_ABSTRACT_ORIGIN) if entry.tag == dw.TAG_SUBPROGRAM else None
    return origin is not None and bool(origin.get(at))


def _back(entry: Entry) -> int | None:
    """Return the address behind a call."""
    back = entry.address(_AT_CALL_RETURN_PC)
    return entry.address(dw.AT_LOW_PC) if back is None else back


def _callee(entry: Entry) -> Entry | None:
    """Return what describes the function that a call leads to, None of one through a pointer."""
    callee = entry.reference(_AT_CALL_ORIGIN)
    return entry.reference(dw.AT_ABSTRACT_ORIGIN) if callee is None else callee


def _declared(entry: Entry | None) -> str:
    """Return the name that a function is linked by which the unit only declares, "" of others.

    One that it defines without code need not be the one that has its name in another unit.
    """
    if entry is None or not entry.get(dw.AT_DECLARATION):
        return ""
    for _ in range(MAX_DEPTH):
        if entry is None:
            break
        linked = entry.unit.string(entry.abbrev, entry.values, dw.AT_LINKAGE_NAME)
        name = linked or entry.name()
        if name is not None:
            return text(name)
        entry = entry.reference(dw.AT_ABSTRACT_ORIGIN) or entry.reference(dw.AT_SPECIFICATION)
    return ""
