"""Casts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError
from vringcore.expr.cvalue import CValue
from vringcore.expr.places import at, decay
from vringcore.expr.scalars import (
    float_of,
    integer_of,
    is_float,
    is_integral,
    make_float,
    make_integer,
    number_of,
)
from vringcore.layout.types import Array, Pointer, Record, Void

if TYPE_CHECKING:
    from vringcore.layout.types import Type


def cast(value: CValue, type_: Type) -> CValue:
    """Return ``(type) value``.

    As in gdb, what lies in memory can be looked at as anything else: ``(struct S) variable``.

    :raises ExpressionError: if it cannot be
    :raises MemoryFault: if the value is needed and not in the core
    """
    layouts = value.views.layouts
    target = layouts.resolve(type_)
    if isinstance(target, Record) and layouts.resolve(value.type) == target:
        return _as(value, type_)
    value = decay(value)
    source = layouts.resolve(value.type)
    countable = is_integral(source) or isinstance(source, Pointer)
    if is_float(target) and (is_float(source) or is_integral(source)):
        same = layouts.size_of(source) == layouts.size_of(target) and is_float(source)
        return _as(value, type_) if same else make_float(value.views, type_, number_of(value))
    if countable and (is_integral(target) or isinstance(target, Pointer)):
        return make_integer(value.views, type_, integer_of(value))
    if is_float(source) and is_integral(target):
        return make_integer(value.views, type_, _truncated(value))
    return _reinterpreted(value, type_)


def _reinterpreted(value: CValue, type_: Type) -> CValue:
    layouts = value.views.layouts
    source, target = layouts.resolve(value.type), layouts.resolve(type_)
    if isinstance(target, Void):
        return CValue(value.views, type_, data=b"")
    if isinstance(target, Array) and target.count is None:
        raise ExpressionError("a cast to an array without a length")
    if value.bits is None and layouts.size_of(source) == layouts.size_of(target):
        return _as(value, type_)
    if value.bits is None and value.address is not None:
        return at(value.views, type_, value.address)
    raise ExpressionError("this cannot be cast so")


def _as(value: CValue, type_: Type) -> CValue:
    """Return the same bytes under another type of the same size."""
    if value.address is not None:
        return at(value.views, type_, value.address)
    return CValue(value.views, type_, data=value.data())


def _truncated(value: CValue) -> int:
    number = float_of(value)
    if number != number or number in (float("inf"), float("-inf")):
        raise ExpressionError("no integer is near this number", seen=str(number))
    return int(number)
