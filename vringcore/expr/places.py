"""Where objects lie: members, elements, what a pointer points to, addresses of things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.addresses import HostAddress
from vringcore.errors import CorruptDataError, ExpressionError
from vringcore.expr.cvalue import CValue
from vringcore.expr.scalars import address_in, base, below_typedefs, is_integral, make_integer
from vringcore.layout.types import Array, Base, Function, Pointer, Record, Void

if TYPE_CHECKING:
    from vringcore.layout.access import Place
    from vringcore.layout.types import Type
    from vringcore.view.views import Views

MAX_REPETITIONS = 1 << 20
MAX_ARRAY_SIZE = 1 << 24
"""Bytes of an array made with ``@``."""

MAX_INDIRECTIONS = 16
"""Pointers to pointers that ``.`` follows."""


def pointer_to(views: Views, type_: Type, address: int) -> CValue:
    """Return a pointer to an object of a type."""
    size = views.layouts.pointer_size
    return make_integer(views, Pointer(type_, size), address)


def at(views: Views, type_: Type, address: int) -> CValue:
    """Return the object of a type at an address; nothing is read yet."""
    size = 8 * views.layouts.pointer_size
    return CValue(views, type_, address=HostAddress(address & ((1 << size) - 1)))


def decay(value: CValue) -> CValue:
    """Return an array as a pointer to its first element, a function as a pointer to it.

    :raises ExpressionError: for an array that is not in memory
    """
    type_ = value.views.layouts.resolve(value.type)
    if not isinstance(type_, Array | Function):
        return value
    if value.address is None:
        raise ExpressionError("an array that lies nowhere has no address")
    to = type_.of if isinstance(type_, Array) else value.type
    return pointer_to(value.views, to, value.address)


def dereference(value: CValue) -> CValue:
    """Return what a pointer points to: ``*value``. An integer counts as the address of a long.

    :raises ExpressionError: if it is no pointer, or a ``void *``
    :raises MemoryFault: if the pointer itself is not in the core
    """
    layouts = value.views.layouts
    type_ = layouts.resolve(value.type)
    if isinstance(type_, Function):
        return value
    if isinstance(type_, Array):
        return element(value, 0)
    if isinstance(type_, Pointer):
        if isinstance(layouts.resolve(type_.to), Void):
            raise ExpressionError(
                "what a void * points to has no type", hint="cast it: *(type *) pointer"
            )
        return at(value.views, type_.to, address_in(value))
    if isinstance(type_, Base) and is_integral(type_) and type_.encoding != "bool":
        return at(value.views, base(layouts, "long"), address_in(value))
    raise ExpressionError("only a pointer can be followed")


def address_of(value: CValue) -> CValue:
    """Return ``&value``.

    :raises ExpressionError: if it lies nowhere
    """
    if value.address is None:
        raise ExpressionError("a computed value has no address")
    if value.bits is not None:
        raise ExpressionError("a bit-field has no address")
    return pointer_to(value.views, value.type, value.address)


def record_of(value: CValue) -> CValue:
    """Return the struct or union that a value is or points to, however many pointers lead there.

    :raises ExpressionError: if there is none
    """
    layouts = value.views.layouts
    for _ in range(MAX_INDIRECTIONS):
        type_ = layouts.resolve(value.type)
        if isinstance(type_, Record):
            return value
        if not isinstance(type_, Pointer | Array):
            break
        if isinstance(type_, Pointer) and isinstance(layouts.resolve(type_.to), Void):
            break
        value = dereference(value)
    raise ExpressionError("only a struct, a union or a pointer to one has members")


def member(value: CValue, name: str) -> CValue:
    """Return ``value.name``, the same as ``value->name``.

    :raises ExpressionError: if there is no such member; it suggests some
    :raises MemoryFault: if a pointer on the way is not in the core
    """
    owner = record_of(value)
    layouts = owner.views.layouts
    record = layouts.resolve(owner.type)
    assert isinstance(record, Record)
    found = layouts.member(record, name)
    if found is None:
        raise no_member(owner.views, record, name)
    return part(owner, found)


def part(owner: CValue, place: Place) -> CValue:
    """Return the part of a struct that lies at a place."""
    offset, type_, bits = place
    if owner.address is not None:
        inside = at(owner.views, type_, owner.address + offset)
        inside.bits = bits
        return inside
    size = owner.views.layouts.size_of(type_) if bits is None else (sum(bits) + 7) // 8
    data = owner.data()[offset : offset + size]
    return CValue(owner.views, type_, data=data, bits=bits)


def no_member(views: Views, record: Record, name: str) -> ExpressionError:
    """Return the error for a member that a struct does not have."""
    from vringcore.expr.near import hint_of

    names = member_names(views, record)
    owner = f"{record.kind} {record.name}" if record.name else f"this {record.kind}"
    return ExpressionError(f"{owner} has no member {name}", hint=hint_of(name, names))


def member_names(views: Views, record: Record, depth: int = 0) -> list[str]:
    """Return the names of a struct's members, those of unnamed members inside it included."""
    names: list[str] = []
    for item in record.members:
        if item.name is not None:
            names.append(item.name)
        elif depth < MAX_INDIRECTIONS:
            inner = views.layouts.resolve(item.type)
            if isinstance(inner, Record):
                names += member_names(views, inner, depth + 1)
    return names


def element(value: CValue, index: int) -> CValue:
    """Return ``value[index]``. As in C, an index outside an array in memory is not refused.

    :raises ExpressionError: if it is neither array nor pointer
    :raises MemoryFault: if a pointer is not in the core
    """
    views = value.views
    type_ = views.layouts.resolve(value.type)
    if isinstance(type_, Array):
        size = views.layouts.size_of(type_.of)
        if value.address is not None:
            return at(views, type_.of, value.address + index * size)
        if not 0 <= index < (type_.count or 0):
            raise ExpressionError("an index outside an array that lies nowhere", seen=str(index))
        return CValue(views, type_.of, data=value.data()[index * size : (index + 1) * size])
    if isinstance(type_, Pointer):
        return dereference(moved(value, index))
    raise ExpressionError("only an array or a pointer has elements")


def moved(pointer: CValue, count: int) -> CValue:
    """Return ``pointer + count``; void and functions have size 1, as GNU C has it."""
    views = pointer.views
    type_ = views.layouts.resolve(pointer.type)
    assert isinstance(type_, Pointer)
    size = views.layouts.size_of(type_.to) or 1
    plain = below_typedefs(views.layouts, pointer.type)
    return make_integer(views, plain, address_in(pointer) + count * size)


def repeated(value: CValue, count: int) -> CValue:
    """Return ``value @ count``: the objects of its type that lie one behind the other from it.

    :raises ExpressionError: if it lies nowhere, or for a count that cannot be meant
    """
    if value.address is None or value.bits is not None:
        raise ExpressionError("only what lies in memory can be repeated with @")
    if not 0 < count <= MAX_REPETITIONS:
        raise ExpressionError(
            "no number of repetitions", seen=str(count), expected=f"1 to {MAX_REPETITIONS}"
        )
    if count * value.size > MAX_ARRAY_SIZE:
        raise CorruptDataError(
            "an array too large to show", seen=f"{count} elements of {value.size} bytes"
        )
    return at(value.views, Array(value.type, count), value.address)
