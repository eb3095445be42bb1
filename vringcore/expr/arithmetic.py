"""Operators on numbers and pointers, with the types that gdb gives the results.

These are C's integer promotions and usual arithmetic conversions (C11 6.3.1), with four
differences, all gdb's: a bit-field and an enumerator have the type they were declared with,
``sizeof`` is an ``int``, a shift by too much gives what shifting bit by bit would, and signed
integers wrap.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError
from vringcore.expr.places import decay, moved
from vringcore.expr.scalars import (
    address_in,
    base,
    below_typedefs,
    float_of,
    integer_of,
    is_float,
    is_integral,
    is_signed,
    make_float,
    make_integer,
    nearest_float,
    number_of,
)
from vringcore.layout.types import Base, Pointer

if TYPE_CHECKING:
    from collections.abc import Callable

    from vringcore.expr.cvalue import CValue
    from vringcore.layout.types import Type
    from vringcore.view.views import Views

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip

_INTEGER: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
    "&": operator.and_, "|": operator.or_, "^": operator.xor,
}  # fmt: skip

_FLOAT: dict[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
}  # fmt: skip

_SHIFTS = ("<<", ">>")


def binary(symbol: str, left: CValue, right: CValue) -> CValue:
    """Return ``left symbol right`` for the arithmetic, bitwise and comparing operators.

    :raises ExpressionError: for operands that the operator does not take, and division by zero
    :raises MemoryFault: if an operand is not in the core
    """
    left, right = decay(left), decay(right)
    first, second = _resolved(left), _resolved(right)
    if isinstance(first, Pointer) or isinstance(second, Pointer):
        return _on_pointers(symbol, left, right)
    if is_integral(first) and is_integral(second):
        return _on_integers(symbol, left, right)
    if _is_number(first) and _is_number(second):
        return _on_floats(symbol, left, right)
    raise _unfit(symbol)


def unary(symbol: str, value: CValue) -> CValue:
    """Return ``symbol value`` for ``+ - ~ !``; errors as for :func:`binary`."""
    views = value.views
    if symbol == "!":
        return boolean(views, not truth(value))
    value = decay(value)
    type_ = _resolved(value)
    if is_float(type_) and symbol in "+-":
        number = float_of(value)
        return make_float(views, value.type, number if symbol == "+" else -number)
    if not is_integral(type_):
        raise _unfit(symbol)
    number = integer_of(value)
    result = {"+": number, "-": -number, "~": ~number}[symbol]
    return make_integer(views, _promoted(value), result)


def truth(value: CValue) -> bool:
    """Tell whether a value counts as true.

    :raises ExpressionError: if it is no number and no pointer
    :raises MemoryFault: if it is not in the core
    """
    value = decay(value)
    type_ = _resolved(value)
    if isinstance(type_, Pointer):
        return integer_of(value) != 0
    if not _is_number(type_):
        raise ExpressionError("neither true nor false: a number or a pointer is needed")
    return number_of(value) != 0


def boolean(views: Views, answer: bool) -> CValue:
    """Return the int that a comparison gives."""
    return make_integer(views, base(views.layouts, "int"), int(answer))


def _resolved(value: CValue) -> Type:
    return value.views.layouts.resolve(value.type)


def _is_number(type_: Type) -> bool:
    return is_integral(type_) or is_float(type_)


def _unfit(symbol: str) -> ExpressionError:
    return ExpressionError(f"{symbol} does not take what stands here")


# Integers


def _promoted(value: CValue) -> Type:
    """Return the type after integer promotion: int for what is smaller."""
    if value.views.layouts.size_of(value.type) < 4:
        return base(value.views.layouts, "int")
    return below_typedefs(value.views.layouts, value.type)


def _common(left: CValue, right: CValue) -> Base:
    """Return the type of the result of an operator on two integers."""
    layouts = left.views.layouts
    first, second = layouts.resolve(_promoted(left)), layouts.resolve(_promoted(right))
    sizes = layouts.size_of(first), layouts.size_of(second)
    signed = (
        is_signed(first) and is_signed(second)
        if sizes[0] == sizes[1]
        else is_signed(first if sizes[0] > sizes[1] else second)
    )
    return _integer_type(left.views, max(sizes), signed=signed)


def _integer_type(views: Views, size: int, *, signed: bool) -> Base:
    names = ("int", "long", "long long", "__int128")
    for name in names:
        type_ = base(views.layouts, name if signed else "unsigned " + name)
        if type_.size >= size:
            return type_
    raise ExpressionError("an integer too wide to compute with", seen=f"{size} bytes")


def _on_integers(symbol: str, left: CValue, right: CValue) -> CValue:
    views = left.views
    if symbol in _SHIFTS:
        return _shift(symbol, left, right)
    type_ = _common(left, right)
    mask = (1 << (8 * type_.size)) - 1
    numbers = [integer_of(left), integer_of(right)]
    if not is_signed(type_):
        numbers = [number & mask for number in numbers]
    first, second = numbers
    if symbol in COMPARISONS:
        return boolean(views, COMPARISONS[symbol](first, second))
    if symbol in ("/", "%"):
        return make_integer(views, type_, _divide(symbol, first, second))
    return make_integer(views, type_, _INTEGER[symbol](first, second))


def _divide(symbol: str, first: int, second: int) -> int:
    if second == 0:
        raise ExpressionError("division by zero")
    quotient = abs(first) // abs(second)
    if (first < 0) != (second < 0):
        quotient = -quotient  # C rounds towards zero (C11 6.5.5).
    return quotient if symbol == "/" else first - quotient * second


def _shift(symbol: str, left: CValue, right: CValue) -> CValue:
    type_ = _promoted(left)
    size = left.views.layouts.size_of(type_)
    number, count = integer_of(left), integer_of(right)
    if not 0 <= count < 8 * size:
        number = -1 if symbol == ">>" and number < 0 else 0
    elif symbol == "<<":
        number <<= count
    else:
        number >>= count
    return make_integer(left.views, type_, number)


# Floating numbers


def _on_floats(symbol: str, left: CValue, right: CValue) -> CValue:
    views = left.views
    floats = [v.type for v in (left, right) if is_float(_resolved(v))]
    type_ = max(floats, key=views.layouts.size_of)
    size = views.layouts.size_of(type_)
    first, second = nearest_float(number_of(left), size), nearest_float(number_of(right), size)
    if symbol in COMPARISONS:
        return boolean(views, COMPARISONS[symbol](first, second))
    if symbol == "/":
        return make_float(views, type_, _quotient(first, second))
    if symbol not in _FLOAT:
        raise ExpressionError(f"{symbol} takes integers only")
    return make_float(views, type_, _FLOAT[symbol](first, second))


def _quotient(first: float, second: float) -> float:
    from math import copysign, inf, isnan, nan

    if second != 0:
        return first / second
    # IEEE 754, which C follows and Python does not.
    return nan if first == 0 or isnan(first) else copysign(inf, first) * copysign(1, second)


# Pointers


def _on_pointers(symbol: str, left: CValue, right: CValue) -> CValue:
    views = left.views
    first, second = _resolved(left), _resolved(right)
    if symbol in COMPARISONS and _is_address(first) and _is_address(second):
        return boolean(views, COMPARISONS[symbol](address_in(left), address_in(right)))
    if isinstance(first, Pointer) and is_integral(second) and symbol in ("+", "-"):
        count = integer_of(right)
        return moved(left, count if symbol == "+" else -count)
    if is_integral(first) and isinstance(second, Pointer) and symbol == "+":
        return moved(right, integer_of(left))
    if isinstance(first, Pointer) and isinstance(second, Pointer) and symbol == "-":
        return _distance(left, right)
    raise _unfit(symbol)


def _is_address(type_: Type) -> bool:
    return isinstance(type_, Pointer) or is_integral(type_)


def _distance(left: CValue, right: CValue) -> CValue:
    views = left.views
    first, second = _resolved(left), _resolved(right)
    assert isinstance(first, Pointer)
    assert isinstance(second, Pointer)
    size = views.layouts.size_of(first.to)
    if size != views.layouts.size_of(second.to):
        raise ExpressionError("the distance of pointers to things of different size")
    distance = address_in(left) - address_in(right)
    elements = _divide("/", distance, size or 1)
    return make_integer(views, base(views.layouts, "long"), elements)
