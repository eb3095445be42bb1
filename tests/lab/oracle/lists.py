"""Walks of QEMU's intrusive lists and of its object types, in gdb's terms."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gdb

from tests.lab.oracle.flatten import string

_LIMIT = 100_000


def variable(name: str) -> gdb.Value:
    """A global or static variable of QEMU."""
    found = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
    if found is None:
        raise LookupError(f"gdb knows no variable {name}")
    return found.value()


def optional_variable(name: str) -> gdb.Value | None:
    """As `variable`; None where this QEMU has no such variable."""
    try:
        return variable(name)
    except LookupError:
        return None


def has(value: gdb.Value, member: str) -> bool:
    """Whether the structure has a member of this name."""
    return any(field.name == member for field in value.type.strip_typedefs().fields())


def tail_queue(head: gdb.Value, link: str) -> Iterator[gdb.Value]:
    """Elements of a QTAILQ."""
    yield from _chain(head["tqh_first"], lambda element: element[link]["tqe_next"])


def linked_list(head: gdb.Value, link: str) -> Iterator[gdb.Value]:
    """Elements of a QLIST."""
    yield from _chain(head["lh_first"], lambda element: element[link]["le_next"])


def simple_queue(head: gdb.Value, link: str) -> Iterator[gdb.Value]:
    """Elements of a QSIMPLEQ."""
    yield from _chain(head["sqh_first"], lambda element: element[link]["sqe_next"])


def chain(first: gdb.Value, link: str) -> Iterator[gdb.Value]:
    """Elements joined by a plain pointer member."""
    yield from _chain(first, lambda element: element[link])


def object_types(address: int) -> list[str]:
    """QOM type names of an object, its own first; empty if there is no object."""
    if address == 0:
        return []
    try:
        found = gdb.Value(address).cast(gdb.lookup_type("struct Object").pointer())
        kind = found["class"]["type"]
        if int(kind["class"]) != int(found["class"]):
            return []
        names = []
        while int(kind):
            names.append(string(kind["name"]) or "")
            kind = kind["parent_type"]
        return names
    except gdb.error:
        return []


def _chain(first: gdb.Value, following: Callable[[gdb.Value], gdb.Value]) -> Iterator[gdb.Value]:
    element = first
    for _ in range(_LIMIT):
        if int(element) == 0:
            return
        yield element
        element = following(element)
    raise RuntimeError("a list does not end")
