"""One question about one expression, answered: what ``vringcore print`` and the API give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from vringcore.errors import UsageError
from vringcore.expr.cvalue import CValue
from vringcore.expr.evaluate import evaluate_any
from vringcore.expr.places import decay
from vringcore.expr.scalars import address_in, number_of
from vringcore.expr.show import show
from vringcore.expr.show_scalar import check_format
from vringcore.expr.typename import spelled
from vringcore.layout.types import Function, Void
from vringcore.model.value import ValueDocument
from vringcore.model.values import Address

if TYPE_CHECKING:
    from vringcore.layout.types import Type
    from vringcore.model.values import Absent
    from vringcore.model.values import Pointer as PointerValue
    from vringcore.view.views import Symbols, Views

QUESTIONS = ("value", "ptype", "offsets", "whatis", "symbol")


def split_format(text: str) -> tuple[str, str]:
    """Take ``/x`` off the start of an expression; a letter that is no format is left for later."""
    if not text.startswith("/"):
        return "", text
    letters, _, rest = text[1:].partition(" ")
    return letters, rest.strip()


def answer(
    views: Views,
    text: str,
    *,
    question: str = "value",
    format: str = "",  # noqa: A002 - gdb's word
    symbols: Symbols | None = None,
    utf8: bool = True,
) -> ValueDocument:
    """Return the answer to one question of :data:`QUESTIONS`, but ``symbol``, about an expression.

    :param text: a C expression, or a type where types are asked about; ``/x`` may stand before it
    :param format: one of gdb's letters, where ``text`` has none
    :param symbols: names for addresses; None takes those of ``views``
    :param utf8: show text beyond ASCII as such
    :raises ExpressionError: if it cannot be understood
    :raises UsageError: if the format is none, or it is a type whose value was asked for
    :raises LayoutMissingError, MemoryFault: if what it needs is not there
    """
    letter, expression = split_format(text)
    letter = check_format(letter or format)
    found = evaluate_any(views, expression)
    type_ = found.type if isinstance(found, CValue) else found
    name = spelled(views.layouts, type_)
    if question != "value":
        said = _about_type(views, type_, question, named=not isinstance(found, CValue))
        return ValueDocument(expression, name, _place(found), said)
    if not isinstance(found, CValue):
        raise UsageError(
            "a type has no value", seen=expression, hint="--ptype or --offsets tells what it is"
        )
    shown = show(found, format=letter, symbols=symbols, utf8=utf8)
    return ValueDocument(expression, name, _place(found), shown, contents(found))


def address_of(views: Views, text: str) -> int:
    """Return the address that an expression means: a function's, an array's, or a number.

    Errors are those of :func:`answer`.
    """
    found = evaluate_any(views, text)
    if not isinstance(found, CValue):
        raise UsageError("a type has no address", seen=text)
    return address_in(decay(found))


def contents(value: CValue) -> Any | UnsetType:
    """Return a value as data (:data:`vringcore.model.values.Fields`); UNSET for a function.

    :raises MemoryFault: if it is a number that cannot be read
    """
    core = value.views.layouts.resolve(value.type)
    if isinstance(core, Function | Void):
        return UNSET
    if value.bits is not None:
        return number_of(value)
    if value.address is not None:
        return value.views.value(value.type, value.address).read()
    return _computed(value)


def _computed(value: CValue) -> Any:
    from vringcore.view.decode import Decoders

    return Decoders(value.views.layouts).of(value.type)(value.data(), 0, _Around(value.views))


def _about_type(views: Views, type_: Type, question: str, *, named: bool) -> str:
    from vringcore.expr.ptype import ptype, whatis

    if question == "whatis":
        return whatis(views.layouts, type_, named=named)
    return ptype(views.layouts, type_, offsets=question == "offsets")


def _place(found: CValue | Type) -> Address | None:
    if not isinstance(found, CValue) or found.address is None:
        return None
    return Address(found.address)


class _Around:
    """The surroundings of a computed value: nothing of it can be missing."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def pointer_value(self, address: int) -> PointerValue:
        return self._views.pointer_value(address)

    def absence(self, offset: int, size: int) -> Absent | None:  # noqa: ARG002
        return None
