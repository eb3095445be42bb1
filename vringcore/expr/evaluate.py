"""From the tree of an expression to its value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError, UsageError
from vringcore.expr import places
from vringcore.expr.arithmetic import binary, boolean, truth, unary
from vringcore.expr.convert import cast
from vringcore.expr.ctypes import type_named
from vringcore.expr.cvalue import CValue
from vringcore.expr.names import is_type, value_of
from vringcore.expr.parse import parse, parse_any, parse_type
from vringcore.expr.scalars import (
    address_in,
    base,
    integer_of,
    is_float,
    is_integral,
    make_float,
    make_integer,
    number_of,
)
from vringcore.expr.syntax import (
    Binary,
    Cast,
    Character,
    Conditional,
    ContainerOf,
    Expression,
    Floating,
    Index,
    Integer,
    Member,
    MemoryAt,
    Name,
    OffsetOf,
    SizeOf,
    String,
    TypeName,
    Unary,
)
from vringcore.layout.types import Array, Pointer, Record, Void

if TYPE_CHECKING:
    from vringcore.layout.types import Type
    from vringcore.view.views import Views


def evaluate(views: Views, expression: str | Expression) -> CValue:
    """Return the value of a C expression, as gdb would have it.

    What the expression names is not read: only the pointers and numbers that are needed to find or
    to compute it.

    :raises ExpressionError: if it cannot be understood; the error tells where
    :raises LayoutMissingError: if the debug information that it needs is not at hand
    :raises MemoryFault: if a pointer or number on the way is not in the core
    """
    text, tree = "", expression
    if isinstance(tree, str):
        text = tree
        tree = parse(text, lambda name: is_type(views, name))
    assert not isinstance(tree, str)
    return _Evaluator(views, text).value(tree)


def evaluate_any(views: Views, text: str) -> CValue | Type:
    """Return the value of an expression, or the type that a text like ``struct VirtQueue`` names.

    Errors are those of :func:`evaluate`.
    """
    tree = parse_any(text, lambda name: is_type(views, name))
    evaluator = _Evaluator(views, text)
    return evaluator.type(tree) if isinstance(tree, TypeName) else evaluator.value(tree)


def type_of(views: Views, text: str) -> Type:
    """Return the type that a text names; errors are those of :func:`evaluate`."""
    return _Evaluator(views, text).type(parse_type(text))


class _Evaluator:
    """One walk over one tree.

    ``_typing`` is set inside ``sizeof``, whose operand has a type and no value: what would be
    read there counts as zero.
    """

    def __init__(self, views: Views, text: str) -> None:
        self._views = views
        self._layouts = views.layouts
        self._text = text
        self._typing = False

    def value(self, node: Expression) -> CValue:
        """Return the value of a node."""
        try:
            return self._value(node)
        except ExpressionError as error:
            raise error.located(self._text, node.at) from None

    def type(self, node: TypeName) -> Type:
        """Return the type that is written."""
        try:
            return type_named(self._layouts, node)
        except ExpressionError as error:
            raise error.located(self._text, node.at) from None

    def _value(self, node: Expression) -> CValue:  # noqa: C901 - one branch per kind of node
        match node:
            case Name():
                return value_of(self._views, node)
            case Integer():
                return self._integer(node)
            case Floating(value=number, suffix=suffix):
                name = {"": "double", "f": "float", "l": "long double"}[suffix]
                return make_float(self._views, base(self._layouts, name), number)
            case Character(value=number):
                return make_integer(self._views, base(self._layouts, "char"), number)
            case String(value=data):
                type_ = Array(base(self._layouts, "char"), len(data) + 1)
                return CValue(self._views, type_, data=data + b"\0")
            case Member(operand=operand, name=name):
                return places.member(self._read(self.value(operand)), name)
            case Index(operand=operand, index=index):
                return places.element(self._read(self.value(operand)), self._count(index))
            case Unary(operator=symbol, operand=operand):
                return self._unary(symbol, operand)
            case Binary():
                return self._binary(node)
            case Conditional(condition=condition, then=then, otherwise=otherwise):
                chosen = then if truth(self._read(self.value(condition))) else otherwise
                return self.value(chosen)
            case Cast(type=written, operand=operand):
                return self._cast(written, operand)
            case MemoryAt(type=written, address=address):
                pointer = places.decay(self._read(self.value(address)))
                return places.at(self._views, self.type(written), address_in(pointer))
            case SizeOf(operand=operand):
                size = self._layouts.size_of(self._type_of(operand))
                return make_integer(self._views, base(self._layouts, "int"), size)
            case OffsetOf(type=written, path=path):
                offset = self._place(written, path)
                return make_integer(self._views, base(self._layouts, "unsigned long"), offset)
            case ContainerOf(pointer=inner, type=written, path=path):
                return self._container(inner, written, path)

    def _integer(self, node: Integer) -> CValue:
        """Give a constant the first type that holds it (C11 6.4.4.1)."""
        for name in ("int", "long", "long long")[node.long :]:
            bits = 8 * base(self._layouts, name).size
            if not node.unsigned and not node.value >> (bits - 1):
                return make_integer(self._views, base(self._layouts, name), node.value)
            if (node.unsigned or not node.decimal) and not node.value >> bits:
                type_ = base(self._layouts, "unsigned " + name)
                return make_integer(self._views, type_, node.value)
        # Decimal and without a `u`, of more than 63 bits: unsigned all the same, as gdb has it.
        name = "unsigned long long" if node.long == 2 else "unsigned long"
        return make_integer(self._views, base(self._layouts, name), node.value)

    def _unary(self, symbol: str, operand: Expression) -> CValue:
        if symbol == "&" and isinstance(operand, Name):
            # Where a thing lies can be told even if its type is not known: as a `void *`.
            return places.address_of(self._named(operand, Void()))
        value = self.value(operand)
        if symbol == "*":
            return self._followed(self._read(value))
        if symbol == "&":
            return places.address_of(value)
        return unary(symbol, self._read(value))

    def _named(self, name: Name, assumed: Type) -> CValue:
        """Return what a name stands for, with a type for what has none."""
        try:
            return value_of(self._views, name, assumed)
        except ExpressionError as error:
            raise error.located(self._text, name.at) from None

    def _followed(self, pointer: CValue) -> CValue:
        type_ = self._layouts.resolve(pointer.type)
        if self._typing and isinstance(type_, Pointer):
            to = self._layouts.resolve(type_.to)
            if isinstance(to, Void):
                return CValue(self._views, to, data=b"")
        return places.dereference(pointer)

    def _binary(self, node: Binary) -> CValue:
        symbol = node.operator
        left = self.value(node.left)
        if symbol == ",":
            return self.value(node.right)
        if symbol == "@":
            return places.repeated(left, self._count(node.right))
        left = self._read(left)
        if symbol in ("&&", "||"):
            return self._logical(symbol, truth(left), node.right)
        right = self._read(self.value(node.right))
        if self._typing and symbol in ("/", "%"):
            symbol = "+"  # Of the same type, and cannot fail.
        return binary(symbol, left, right)

    def _logical(self, symbol: str, answer: bool, right: Expression) -> CValue:
        """Go on with ``&&`` or ``||``; an operand that does not matter must still make sense."""
        matters = answer == (symbol == "&&")
        outer = self._typing
        self._typing = outer or not matters
        second = truth(self._read(self.value(right)))
        self._typing = outer
        return boolean(self._views, second if matters else answer)

    def _cast(self, written: TypeName, operand: Expression) -> CValue:
        type_ = self.type(written)
        if isinstance(operand, Name):
            # A variable of unknown type has the type that it is cast to.
            return cast(self._read(self._named(operand, type_)), type_)
        return cast(self._read(self.value(operand)), type_)

    def _count(self, node: Expression) -> int:
        """Return a number that counts elements."""
        value = self._read(self.value(node))
        type_ = self._layouts.resolve(value.type)
        if is_integral(type_):
            return integer_of(value)
        if is_float(type_):
            return int(number_of(value))
        raise ExpressionError("only a number counts elements").located(self._text, node.at)

    def _read(self, value: CValue) -> CValue:
        """Return a value that may be read: inside ``sizeof`` one of zeros instead of memory."""
        if not self._typing or value.address is None:
            return value
        type_ = self._layouts.resolve(value.type)
        if isinstance(type_, Array | Record):
            return value
        return CValue(self._views, value.type, data=bytes(value.size), bits=value.bits)

    def _type_of(self, node: TypeName | Expression) -> Type:
        if isinstance(node, TypeName):
            return self.type(node)
        outer, self._typing = self._typing, True
        try:
            return self.value(node).type
        finally:
            self._typing = outer

    def _place(self, written: TypeName, path: str) -> int:
        record = self._layouts.resolve(self.type(written))
        if not isinstance(record, Record):
            raise ExpressionError("only a struct or a union has members")
        found = self._layouts.member(record, path)
        if found is None:
            raise places.no_member(self._views, record, path)
        if found[2] is not None:
            raise UsageError("a bit-field has no offset in bytes", where=path)
        return found[0]

    def _container(self, inner: Expression, written: TypeName, path: str) -> CValue:
        pointer = places.decay(self._read(self.value(inner)))
        offset = self._place(written, path)
        return places.pointer_to(self._views, self.type(written), address_in(pointer) - offset)
