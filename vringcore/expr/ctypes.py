"""From types as they are written to types as the build has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vringcore.errors import ExpressionError, LayoutMissingError
from vringcore.expr.scalars import base
from vringcore.expr.syntax import ArrayOf, PointerTo, TypeName
from vringcore.layout.types import Array, Base, Function, Pointer, Qualified, Void

if TYPE_CHECKING:
    from vringcore.layout.provider import Layouts
    from vringcore.layout.types import Type

MAX_COUNT = 1 << 32
"""Elements of an array type."""


def type_named(layouts: Layouts, written: TypeName) -> Type:
    """Return the type that is meant.

    :raises ExpressionError: if the build has no type of that name; it suggests some
    :raises LayoutMissingError: if nothing tells whether it has
    """
    type_ = _qualified(_start(layouts, written), written.qualifiers)
    for step in written.derivations:
        if isinstance(step, PointerTo):
            pointer = Pointer(type_, layouts.pointer_size)
            type_ = _qualified(pointer, step.qualifiers)
        elif isinstance(step, ArrayOf):
            type_ = _array(layouts, type_, step, written)
        else:
            if isinstance(type_, Array | Function):
                raise ExpressionError("no function can return this", position=written.at)
            parameters = tuple(type_named(layouts, p) for p in step.parameters)
            type_ = Function(type_, parameters, step.variadic, step.prototyped)
    return type_


def _array(layouts: Layouts, of: Type, step: ArrayOf, written: TypeName) -> Array:
    if isinstance(of, Function | Void):
        raise ExpressionError("no array can be made of this", position=written.at)
    size = layouts.size_of(of)
    if step.count is not None and (step.count > MAX_COUNT or step.count * size >> 62):
        raise ExpressionError("an array larger than memory", position=written.at)
    return Array(of, step.count)


def _qualified(type_: Type, qualifiers: tuple[str, ...]) -> Type:
    for qualifier in qualifiers:
        type_ = Qualified(qualifier, type_)
    return type_


def _start(layouts: Layouts, written: TypeName) -> Type:
    if written.kind == "base":
        return Void() if written.name == "void" else base(layouts, written.name)
    key = f"{written.kind} {written.name}"
    if layouts.find_definition(key) is not None:
        return layouts.named(key)
    own = _of_gdbs_own(written)
    if own is not None:
        return own
    try:
        layouts.definition(key)
    except LayoutMissingError as error:
        raise missing_type(layouts, written.kind, written.name, error) from None
    raise AssertionError(key)


def _of_gdbs_own(written: TypeName) -> Base | None:
    """Return gdb's own types, which it has whether the program uses them or not."""
    if written.kind != "typedef":
        return None
    for prefix, encoding in (("int", "signed"), ("uint", "unsigned")):
        bits = written.name.removeprefix(prefix).removesuffix("_t")
        if written.name == f"{prefix}{bits}_t" and bits in ("8", "16", "32", "64", "128"):
            return Base(written.name, int(bits) // 8, encoding)  # type: ignore[arg-type]
    return None


def missing_type(
    layouts: Layouts, kind: str, name: str, error: LayoutMissingError
) -> ExpressionError | LayoutMissingError:
    """Return the error for a type that was not found: a hint if it is certain, else the cause."""
    if not layouts.is_absent(f"{kind} {name}"):
        return error
    from vringcore.expr.near import hint_of

    word = "type" if kind == "typedef" else kind
    for other in ("struct", "union", "enum", "typedef"):
        if other != kind and layouts.find_definition(f"{other} {name}") is not None:
            said = name if other == "typedef" else f"{other} {name}"
            return ExpressionError(f"no {word} is called {name}", hint=f"there is {said}")
    names = layouts.similar(name, kind)
    hint = hint_of(name, names, lambda near: layouts.find_definition(f"{kind} {near}") is not None)
    return ExpressionError(f"no {word} is called {name}", hint=hint)
