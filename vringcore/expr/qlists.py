"""QEMU's linked lists as expressions meet them: heads told by their members.

``include/qemu/queue.h``: the first word of a head leads to the first element, the first word of the
link inside an element to the next one, and the names of both tell the kind of the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError
from vringcore.expr import places
from vringcore.expr.scalars import address_in
from vringcore.layout.types import Pointer, Record
from vringcore.view.lists import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vringcore.expr.cvalue import CValue
    from vringcore.layout.types import Type
    from vringcore.view.views import Views

NEXT_OF_FIRST = {
    "tqh_first": "tqe_next",
    "lh_first": "le_next",
    "sqh_first": "sqe_next",
    "slh_first": "sle_next",
}


def is_head(value: CValue) -> bool:
    """Tell whether a value is the head of a list, or points to one; nothing is read."""
    layouts = value.views.layouts
    type_ = layouts.resolve(value.type)
    if isinstance(type_, Pointer):
        type_ = layouts.resolve(type_.to)
    return isinstance(type_, Record) and _first_of(type_) is not None


def elements_of(value: CValue, link: str = "") -> Iterator[CValue]:
    """Yield the elements of a list.

    :param value: its head, or a pointer to that
    :param link: the member of an element that leads to the next; "" finds the only one there is
    :raises ExpressionError: if it is no list, or the link is not clear
    :raises CorruptDataError, LimitError, MemoryFault: where the walk ends early
    """
    head = places.record_of(value)
    views = head.views
    record = views.layouts.resolve(head.type)
    assert isinstance(record, Record)
    first = _first_of(record)
    if first is None:
        raise ExpressionError(
            "this is no head of a list", expected="a member " + " or ".join(NEXT_OF_FIRST)
        )
    pointer = places.member(head, first)
    to = views.layouts.resolve(pointer.type)
    assert isinstance(to, Pointer)
    path = _link(views, to.to, NEXT_OF_FIRST[first], link)

    def next_of(address: int) -> int:
        element = places.at(views, to.to, address)
        for name in path:
            element = places.member(element, name)
        return address_in(element)

    for address in walk(address_in(pointer), next_of, what=f"through {'.'.join(path)}"):
        yield places.at(views, to.to, address)


def _first_of(record: Record) -> str | None:
    for member in record.members:
        if member.name in NEXT_OF_FIRST and isinstance(member.type, Pointer):
            return member.name
    return None


def _link(views: Views, element: Type, next_name: str, wanted: str) -> list[str]:
    """Return the way from an element to the pointer to the next one."""
    record = views.layouts.resolve(element)
    if not isinstance(record, Record):
        raise ExpressionError("the elements of this list are no structs")
    found = []
    for name in places.member_names(views, record):
        place = views.layouts.member(record, name)
        inner = None if place is None else views.layouts.resolve(place[1])
        if isinstance(inner, Record) and any(m.name == next_name for m in inner.members):
            found.append(name)
    if wanted:
        parts = wanted.split(".")
        if len(parts) > 1 or wanted in found:
            return [*parts, next_name]
        raise ExpressionError(f"{wanted} links no elements of such a list", hint=_choice(found))
    if len(found) != 1:
        raise ExpressionError("which member links the elements is not clear", hint=_choice(found))
    return [found[0], next_name]


def _choice(found: list[str]) -> str:
    if not found:
        return 'say which: elements("a.b")'
    return "say which: " + ", ".join(f'elements("{name}")' for name in found)
