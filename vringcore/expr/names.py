"""What a name means: a variable, a function, an enumerator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError
from vringcore.expr.places import at
from vringcore.expr.scalars import make_integer
from vringcore.layout.types import Function, Void

if TYPE_CHECKING:
    from vringcore.expr.cvalue import CValue
    from vringcore.expr.syntax import Name
    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Code, Type, Variable
    from vringcore.view.views import Views

MAX_FILES = 8


def value_of(views: Views, name: Name, assumed: Type | None = None) -> CValue:
    """Return what a name stands for.

    :param assumed: the type of a variable of which only the ELF symbol is known
    :raises ExpressionError: if there is nothing of that name, or more than one thing
    :raises LayoutMissingError: if nothing tells whether there is
    """
    layouts = views.layouts
    variable = layouts.find_variable(name.name, name.unit, name.function)
    if variable is not None and _in_file(variable.unit, name.unit):
        return _variable(views, variable, assumed)
    found = None if name.function else _no_variable(views, name, assumed)
    if found is None:
        raise _nothing(views, name, variable, assumed)
    return found


def _no_variable(views: Views, name: Name, assumed: Type | None) -> CValue | None:
    layouts = views.layouts
    symbol = layouts.find_symbol(name.name)
    if symbol is None and not name.unit:
        # A name without a symbol is an enumerator's more often than that of a function which the
        # compiler gave another symbol, `name.isra.0`.
        enumerator = layouts.find_enumerator(name.name)
        if enumerator is not None:
            return make_integer(views, *enumerator)
    code = layouts.find_function(name.name, name.unit)
    if code is not None and _in_file(code.unit, name.unit):
        return _function(views, code)
    if symbol is None or code is not None or assumed is None:
        return None
    if not layouts.files_with(name.name):  # Of several, the symbol would be any one.
        return at(views, assumed, symbol.address + views.bias)
    return None


def is_type(views: Views, name: str) -> bool:
    """Tell whether a name is a typedef's and no variable's or enumerator's.

    That it is one of these is told sooner than that it is no typedef's.
    """
    layouts = views.layouts
    if layouts.find_variable(name) is not None or layouts.find_enumerator(name) is not None:
        return False
    return layouts.find_definition(f"typedef {name}") is not None


def _in_file(unit: str, wanted: str) -> bool:
    return not wanted or unit == wanted or unit.endswith("/" + wanted)


def _variable(views: Views, variable: Variable, assumed: Type | None) -> CValue:
    type_ = variable.type or assumed
    if type_ is None:
        raise _untyped(variable.name)
    return at(views, type_, views.place_of(variable))


def _untyped(name: str) -> ExpressionError:
    return ExpressionError(
        f"the type of {name} is not known",
        hint=f"cast it: (type) {name}, or give debug information",
    )


def _function(views: Views, code: Code) -> CValue:
    type_ = code.type or Function(Void(), prototyped=False)
    return at(views, type_, code.address + views.bias)


def _nothing(
    views: Views, name: Name, elsewhere: Variable | None, assumed: Type | None
) -> Exception:
    layouts = views.layouts
    shown = f"{name.function}::{name.name}" if name.function else name.name
    if elsewhere is not None:
        return ExpressionError(
            f"{name.unit} has no variable {shown}", hint=f"{elsewhere.unit or 'another file'} has"
        )
    files = layouts.files_with(name.name, name.function)
    if files:
        return _in_many(name, shown, files)
    if not name.function and assumed is None and layouts.find_symbol(name.name) is not None:
        return _untyped(name.name)
    key = "::".join(part for part in (name.unit, name.function, name.name) if part)
    if not layouts.is_absent(f"variable {key}"):
        return layouts.missing(f"variable {key}")
    if layouts.find_definition(f"typedef {name.name}") is not None:
        return ExpressionError(f"{name.name} is a type, where a value should stand")
    return ExpressionError(
        f"no variable, function or enumerator is called {shown}", hint=_hint(layouts, name)
    )


def _in_many(name: Name, shown: str, files: list[str]) -> ExpressionError:
    listed = ", ".join(files[:MAX_FILES]) + (" and others" if len(files) > MAX_FILES else "")
    if name.unit:
        return ExpressionError(f"{name.unit} has no {shown}", hint=f"there is one in {listed}")
    return ExpressionError(
        f"more than one thing is called {shown}",
        seen=f"one each in {listed}",
        hint=f"say which: '{files[0]}'::{shown}",
    )


def _hint(layouts: Layouts, name: Name) -> str:
    from vringcore.expr.near import hint_of

    for kind in ("struct", "union", "enum"):
        if layouts.find_definition(f"{kind} {name.name}") is not None:
            return f"{kind} {name.name} is a type"
    if name.function:
        return "only the static variables of a function can be had"
    names = layouts.similar(name.name, "variable")
    if name.name in names:
        return "the compiler left no more of it than its name"
    return hint_of(name.name, names, lambda near: layouts.find_symbol(near) is not None)
